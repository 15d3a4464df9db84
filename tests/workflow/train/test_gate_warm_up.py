"""Gates stand still until their warm-up is over, in a straight and in a resumed training."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import Tensor, nn

from custom_networks.blocks import GatedAxialAttention
from custom_networks.nets import MedicalTransformer
from custom_networks.workflow import GateWarmUp, ReseedHandler, ResumableCheckpoint


class Gated(nn.Module):
    """A layer with gates and one without."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = GatedAxialAttention(3, 2, axis=0, num_heads=1, position_length=4)
        self.head = nn.Conv3d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(torch.cat([x, x.square()], dim=1)))


class Wrapped(nn.Module):
    """What a distributed training makes of a network: one more name before every parameter's."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def trained(folder, warm_up, *, epochs=4, stop=None, resume=False, wrap=False, optimizer=torch.optim.AdamW):
    """Train for some epochs; return the network and its state after every epoch, the first being the start."""
    torch.manual_seed(0)
    network = Wrapped(Gated()) if wrap else Gated()
    generator = torch.Generator().manual_seed(1)
    data = [{name: torch.randn(1, 4, 3, 2, generator=generator) for name in ("image", "label")} for _ in range(4)]
    handlers = [ReseedHandler(5)] + ([] if warm_up is None else [GateWarmUp(network, warm_up)])
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=stop or epochs,
        train_data_loader=DataLoader(Dataset(data), batch_size=2, shuffle=True),
        network=network,
        optimizer=optimizer(network.parameters(), lr=0.05, weight_decay=0.1),
        loss_function=nn.MSELoss(),
        train_handlers=handlers,
        optim_set_to_none=True,
    )
    states = [{key: value.clone() for key, value in network.state_dict().items()}]
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: states.append({key: value.clone() for key, value in network.state_dict().items()}),
    )
    objects = {"model": network, "optimizer": trainer.optimizer, "trainer": trainer}
    path = folder / "last_checkpoint.pt"
    ResumableCheckpoint(path, objects, str(path) if resume else None).attach(trainer)
    trainer.run()
    return network, states


@pytest.mark.parametrize("wrap", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("warm_up", [0, 2, 9])
def test_gates_are_frozen_for_the_first_epochs_and_nothing_else_is(tmp_path, warm_up, optimizer, wrap):
    network, states = trained(tmp_path, warm_up, wrap=wrap, optimizer=optimizer)
    names = {name for name, _ in network.named_parameters()}
    gates = {name for name in names if name.endswith("layer.gates")}
    assert len(gates) == 1
    for epoch in range(1, 5):
        still = {name for name in names if torch.equal(states[epoch][name], states[epoch - 1][name])}
        assert still == (gates if epoch <= warm_up else set())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_without_epochs_the_training_is_the_same_as_without_the_handler(tmp_path):
    (_, with_it), (_, without) = trained(tmp_path, 0), trained(tmp_path, None)
    for name, value in without[-1].items():
        assert torch.equal(with_it[-1][name], value), name


@pytest.mark.parametrize("stop", [1, 2, 3], ids="stopped after {}".format)
def test_a_resumed_training_equals_a_straight_one(tmp_path, stop):
    _, straight = trained(tmp_path, 2)
    trained(tmp_path, 2, stop=stop)
    _, resumed = trained(tmp_path, 2, resume=True)
    assert len(resumed) == 1 + 4 - stop
    for name, value in straight[-1].items():
        assert torch.equal(resumed[-1][name], value), name


def test_the_gates_of_a_network_are_found():
    small = {"features": (4, 8, 8), "num_units": (1, 1), "global_levels": 1, "window_size": 8}
    found = GateWarmUp(MedicalTransformer(**small), 1).gates
    assert list(found) == [f"global_branch.stages.0.0.axes.{axis}.gates" for axis in range(3)]
    assert not GateWarmUp(MedicalTransformer(**small, form="ungated"), 1).gates
    assert list(GateWarmUp(nn.Linear(2, 2), 1, name="bias").gates) == ["bias"]


def test_the_gates_are_logged_after_the_training(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="custom_networks.workflow.train.gate_warm_up"):
        trained(tmp_path, 9)
    assert [record.getMessage() for record in caplog.records] == ["layer.gates after epoch 4: 0.100 0.100 1.000 0.100"]


def test_a_negative_number_of_epochs_is_refused():
    with pytest.raises(ValueError, match="epochs of the gates' warm-up must be at least 0, got -1; use 0"):
        GateWarmUp(nn.Linear(1, 1), -1)
