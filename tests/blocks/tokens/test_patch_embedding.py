"""PatchEmbedding against loops over patches, released outputs and its own documentation."""

from __future__ import annotations

import pytest
import torch

from custom_networks.blocks import PatchEmbedding
from tests import harness
from tests.modules import randomised
from tests.references import eva as slow
from tests.references.layers import patches
from tests.references.primus_oracles import compare_with_primus_oracle


def _case(dims: int) -> harness.Case:
    patch = (2, 3, 1)[:dims]
    return harness.Case.of(
        f"patch_embedding-{dims}d",
        lambda **kwargs: PatchEmbedding(dims, 2, 6, patch=patch, **kwargs),
        PatchEmbedding,
        (2, 4, 6, 5)[: dims + 1],
        out_channels=6,
        on_grid=False,
        multiples=patch,
    )


# A convolution: the network that has it is exported in its own tests.
CHECKS = (harness.check_gradients, harness.check_batch, harness.check_round_trip, harness.check_script)


@pytest.mark.parametrize(("case", "check"), harness.battery([_case(2), _case(3)], CHECKS))
def test_battery(case, check):
    check(case)


@pytest.mark.parametrize(("size", "patch"), [((4, 6, 4), 2), ((4, 8, 3), (2, 4, 1)), ((6, 4), (3, 2))], ids=str)
def test_equals_the_formula(size, patch):
    module = randomised(PatchEmbedding(len(size), 2, 5, patch=patch))
    x, state = torch.randn(2, 2, *size, dtype=torch.float64), module.state_dict()
    want = slow.biased(patches(x, state["proj.weight"]), state, "proj")
    torch.testing.assert_close(module(x), want, rtol=1e-12, atol=1e-12)


def test_equals_the_released_embedding(oracle):
    stored = oracle("primus_embed_v1")
    module = PatchEmbedding(3, 2, 36, patch=(4, 8, 8))
    module.load_state_dict(stored["state_dict"])
    compare_with_primus_oracle(module, stored)


def test_parameter_count_and_first_weights():
    module = PatchEmbedding(3, 2, 64, patch=(4, 8, 8))
    assert sum(p.numel() for p in module.parameters()) == (256 * 2 + 1) * 64
    assert module.proj.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / 512) ** 0.5, rel=0.03)
    assert not module.proj.bias.any()


BAD = {
    "dims": ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
    "patch": ({"patch": (2, 2)}, r"patch must be a positive integer or 3 positive integers, got \(2, 2\)"),
    "width": ({"out_channels": 0}, "out_channels must be at least 1, got 0"),
}


@pytest.mark.parametrize(("kwargs", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PatchEmbedding(**{"spatial_dims": 3, "in_channels": 1, "out_channels": 4} | kwargs)
