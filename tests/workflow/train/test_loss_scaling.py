"""A training in float16 scales its loss, resumes with that scale, and notices that it learns nothing."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from torch import nn

from custom_networks.workflow import AutocastInferer, ClipGradients, OptimizerSteps, ReseedHandler, ResumableCheckpoint
from custom_networks.workflow.infer import inferers as module

SCALE = 2.0**10


@pytest.fixture(autouse=True)
def float16(monkeypatch):
    """A CPU in place of a GPU that computes in float16: its scale doubles after every second step."""
    monkeypatch.setattr(module, "network_dtype", lambda *_: torch.float16)
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda: torch.amp.GradScaler("cpu", SCALE, growth_interval=2))


def training(folder, *, max_epochs, resume=None, clip=None, accumulate=1, amp=True):
    """Return a trainer whose data are the same in every epoch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.Conv3d(2, 1, 1))
    generator = torch.Generator().manual_seed(1)
    data = [{key: torch.rand(1, 4, 4, 4, generator=generator) for key in ("image", "label")} for _ in range(5)]
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=max_epochs,
        train_data_loader=DataLoader(data, batch_size=1, shuffle=True),
        network=net,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        inferer=AutocastInferer(),
        train_handlers=[ReseedHandler(3), ClipGradients(net, clip), OptimizerSteps()],
        accumulation_steps=accumulate,
        amp=amp,
        amp_kwargs={"enabled": False},
    )
    objects = {"model": net, "optimizer": optimizer, "trainer": trainer}
    ResumableCheckpoint(folder / "last_checkpoint.pt", objects, resume).attach(trainer)
    return trainer, net


def last(folder):
    return torch.load(folder / "last_checkpoint.pt", weights_only=True)


@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (0.01, 2)])
def test_a_resumed_training_has_the_scale_of_the_other(tmp_path, clip, accumulate):
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    options = {"clip": clip, "accumulate": accumulate}
    training(straight, max_epochs=4, **options)[0].run()
    training(parts, max_epochs=2, **options)[0].run()
    assert last(parts)["scaler"]["scale"] > SCALE
    training(parts, max_epochs=4, resume=parts / "last_checkpoint.pt", **options)[0].run()
    one, other = last(straight), last(parts)
    assert one["scaler"] == other["scaler"]
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())


def test_gradients_are_clipped_without_the_scale(tmp_path):
    plain, scaled = (training(tmp_path / str(amp), max_epochs=1, clip=0.01, amp=amp) for amp in (False, True))
    for trainer, _ in (plain, scaled):
        trainer.run()
    for one, other in zip(plain[1].parameters(), scaled[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)


def test_a_checkpoint_of_float16_is_resumed_without_a_scale_elsewhere(tmp_path):
    training(tmp_path, max_epochs=1)[0].run()
    trainer, _ = training(tmp_path, max_epochs=2, resume=tmp_path / "last_checkpoint.pt", amp=False)
    trainer.run()
    assert trainer.state.epoch == 2
    assert "scaler" not in last(tmp_path)


def test_an_epoch_of_infinite_gradients_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda: torch.amp.GradScaler("cpu", 2.0**60))
    with pytest.raises(ValueError, match="the optimiser took no step in epoch 1, since no gradients of it were finite"):
        training(tmp_path, max_epochs=2)[0].run()
    assert not list(tmp_path.iterdir())
