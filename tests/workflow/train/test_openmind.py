"""Checkpoints of nnssl as the start of a training: fabricated ones, and one of the original code."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from custom_networks.nets import AttentionUnet, Primus
from custom_networks.workflow.train.checkpoint import load_weights
from tests.references.layers import resize

SMALL = {"features": (24,), "num_layers": 2, "num_heads": 2}
PLAN = {
    "architecture_plans": {"arch_class_name": "PrimusM", "arch_kwargs": None},
    "pretrain_plan": {"configurations": {"onemmiso": {"patch_size": [16, 24, 32]}}},
    "pretrain_num_input_channels": 1,
    "recommended_downstream_patchsize": [160, 160, 160],
}


def _pretrained(prefix: str = "", trainer: str = "SimMIMTrainer", classes: int = 1, **more) -> tuple[dict, Primus]:
    """Return a checkpoint as nnssl writes it, and the network whose weights it holds."""
    torch.manual_seed(1)
    net = Primus(3, 1, classes, **SMALL, token_grid=(2, 3, 4))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    weights = {f"{prefix}{key}": value for key, value in net.state_dict().items()}
    weights |= {"mask_token": torch.zeros(1, 1, 24), "decoder.pos_embed": torch.zeros(1, 24, 24)}
    plan = PLAN | {
        "key_to_encoder": f"{prefix}eva",
        "key_to_stem": f"{prefix}down_projection",
        "keys_to_in_proj": [f"{prefix}down_projection.proj"],
        "key_to_lpe": f"{prefix}eva.pos_embed",
    }
    checkpoint = {
        "network_weights": weights,
        "optimizer_state": {"state": {}},
        "current_epoch": 1000,
        "init_args": {"fold": 0},
        "trainer_name": trainer,
        "nnssl_adaptation_plan": plan,
        "citations": ["Wald et al. 2025"],
    }
    return checkpoint | more, net


def _features(net: Primus, x: Tensor) -> Tensor:
    return net.eva(net.down_projection(x))


@pytest.fixture
def start(tmp_path):
    def load(net: Primus, checkpoint: dict) -> Primus:
        path = tmp_path / "checkpoint_final.pth"
        torch.save(checkpoint, path)
        assert not load_weights(net, path, strict=False), "the decoder starts anew"
        return net.eval()

    return load


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_encoder_and_stem_are_loaded_and_the_rest_starts_anew(start, prefix, caplog):
    checkpoint, pretrained = _pretrained(prefix)
    net = Primus(3, 1, 4, **SMALL, token_grid=(2, 3, 4))
    before = {key: value.clone() for key, value in net.up_projection.state_dict().items()}
    with caplog.at_level(logging.INFO):
        start(net, checkpoint)
    for key, value in pretrained.state_dict().items():
        if not key.startswith("up_projection."):
            assert torch.equal(net.state_dict()[key], value), f"{key} is not loaded"
    for key, value in before.items():
        assert torch.equal(net.up_projection.state_dict()[key], value), f"{key} of the decoder is not fresh"
    assert "PrimusM of SimMIMTrainer; without " in caplog.text
    assert "mask_token, decoder" in caplog.text
    assert "citations: ['Wald et al. 2025']" in caplog.text
    assert "re-initialised: up_projection.decode.0.0" in caplog.text


def test_the_table_is_resized_to_another_patch(start, caplog):
    checkpoint, pretrained = _pretrained()
    with caplog.at_level(logging.INFO):
        net = start(Primus(3, 1, 2, **SMALL, token_grid=(3, 2, 5)), checkpoint)
    rows = pretrained.eva.pos_embed.detach().double().transpose(1, 2).reshape(1, 24, 2, 3, 4)
    want = resize(rows, (3, 2, 5)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(net.eva.pos_embed.double(), want, rtol=1e-5, atol=1e-6)
    assert "table of positions resized from (2, 3, 4) to (3, 2, 5)" in caplog.text


def test_a_crop_that_is_no_patch_of_the_plan_is_a_cube(start):
    checkpoint, _ = _pretrained()
    table = torch.randn(1, 8, 24)
    checkpoint["network_weights"]["eva.pos_embed"] = table
    net = start(Primus(3, 1, 2, **SMALL, token_grid=2), checkpoint)
    assert torch.equal(net.eva.pos_embed, table)


def test_a_table_of_no_grid_starts_anew_and_heads_are_turned_all_the_same(start, caplog):
    checkpoint, pretrained = _pretrained(trainer="BaseMAETrainer")
    checkpoint["network_weights"]["eva.pos_embed"] = torch.randn(1, 7, 24)
    with caplog.at_level(logging.INFO):
        net = start(Primus(3, 1, 2, **SMALL, token_grid=2), checkpoint)
    assert "its table of 7 positions belongs to no grid of its plan" in caplog.text
    told = caplog.text.partition("re-initialised: ")[2].split("\n")[0].split(", ")
    assert "eva.pos_embed" in told
    assert "eva" not in told, "blocks that are loaded are said not to be"
    rows = [4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11]  # heads of 12 channels, 4 for each axis
    for name, exchanged in {"q_proj": True, "k_proj": True, "v_proj": False}.items():
        got, want = (getattr(n.eva.blocks[1].attn, name).weight.unflatten(0, [2, 12]) for n in (net, pretrained))
        assert torch.equal(got, want[:, rows] if exchanged else want), f"{name} is not as it should be"


def test_more_channels_get_the_same_response(start):
    checkpoint, pretrained = _pretrained()
    net = start(Primus(3, 3, 2, **SMALL, token_grid=(2, 3, 4)), checkpoint)
    x = torch.randn(1, 1, 16, 24, 32)
    want = _features(pretrained.eval(), x)
    torch.testing.assert_close(_features(net, x.expand(-1, 3, -1, -1, -1)), want, rtol=1e-4, atol=1e-5)


def test_the_released_pre_training_is_reproduced(oracle, start, caplog):
    """Its tokens run along the second axis first; loaded as they are, the weights give other features."""
    stored = oracle("primus_openmind_mae_layout")
    small = {"features": (48,), "num_layers": 2, "num_heads": 2}
    net = Primus(3, 1, 2, **small, token_grid=3)
    unchanged = {
        key: value
        for key, value in stored["checkpoint"]["network_weights"].items()
        if key.startswith(("eva.", "down_projection."))
    }
    net.load_state_dict(unchanged, strict=False)
    (x,), (want,) = stored["inputs"], stored["output_eval"]
    torch.testing.assert_close(_features(net.eval(), x), stored["primus_unchanged"], rtol=1e-4, atol=1e-5)
    assert (stored["primus_unchanged"] - want).abs().max() > 1
    with caplog.at_level(logging.INFO):
        start(net, stored["checkpoint"])
    torch.testing.assert_close(_features(net, x), want, rtol=1e-4, atol=1e-5)
    assert "tokens put in raster order" in caplog.text


def test_the_order_of_axes_is_exchanged_on_any_grid(start):
    """Features of a pre-training whose tokens run along the second axis first: those of the image with axes exchanged.

    A network in raster order sees, in an image whose first two axes are exchanged, the tokens in that order. Its stem
    has exchanged axes, too, as the convolution of that pre-training reads the image as it is.
    """
    checkpoint, net = _pretrained(trainer="BaseMAETrainer")
    checkpoint["nnssl_adaptation_plan"]["pretrain_plan"]["configurations"]["onemmiso"]["patch_size"] = [24, 16, 32]
    x = torch.randn(1, 1, 24, 16, 32)
    net.eval()
    tokens = net.down_projection(x)
    want = net.eva(tokens.transpose(2, 3)).transpose(2, 3)
    loaded = start(Primus(3, 1, 2, **SMALL, token_grid=(3, 2, 4)), checkpoint)
    torch.testing.assert_close(_features(loaded, x), want, rtol=1e-4, atol=1e-5)


def test_weights_of_another_size_are_refused(start):
    checkpoint, _ = _pretrained(trainer="BaseMAETrainer")
    with pytest.raises(ValueError, match="does not fit Primus"):
        start(Primus(3, 1, 2, **SMALL | {"features": (36,)}), checkpoint)


def test_weights_of_another_network_are_refused(start):
    checkpoint, _ = _pretrained()
    with pytest.raises(ValueError, match="does not fit AttentionUnet"):
        start(AttentionUnet(3, 1, 2, features=(4, 8)), checkpoint)


def test_a_plan_without_places_is_refused(start):
    checkpoint, _ = _pretrained()
    del checkpoint["nnssl_adaptation_plan"]["key_to_stem"]
    with pytest.raises(ValueError, match=r"its plan has key_to_encoder and key_to_stem \('eva', None\); give a"):
        start(Primus(3, 1, 2, **SMALL), checkpoint)
