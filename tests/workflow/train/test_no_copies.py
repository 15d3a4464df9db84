"""A training step copies nothing from the device to the host but the loss: every copy makes a GPU wait.

The device is ``meta``, whose tensors have no contents, so that whatever looks at one must ask for a copy.
"""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss, DiceLoss
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from custom_networks import nets
from custom_networks.workflow import (
    ClipGradients,
    NonFiniteLossHandler,
    OptimizerSteps,
    TrainingProgress,
)
from custom_networks.workflow.train.deep_supervision import StackedDeepSupervisionLoss
from custom_networks.workflow.train.segmentation_loss import SegmentationLoss
from tests.small_nets import CLASSIFIERS, DEEP, IN_CHANNELS, OUT_CHANNELS, SEGMENTERS, SIZE

DEVICE = torch.device("meta")
STEPS = 3
NAMES = ["background", "one", "two"]


class Copies(TorchDispatchMode):
    """Count what is read from the device: numbers, and tensors that are copied or whose size is that of values."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.tensors: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        taken = [leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if func is torch.ops.aten._local_scalar_dense.default:
            if taken != ["meta"]:
                return func(*args, **(kwargs or {}))
            self.numbers += 1
            return 0.5
        if (
            func is torch.ops.aten._to_copy.default
            and "meta" in taken
            and (kwargs or {}).get("device", DEVICE) != DEVICE
        ):
            self.tensors.append(str(func))
            return torch.zeros(args[0].shape)
        return func(*args, **(kwargs or {}))


def dice_ce(**more):
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True, **more)


def loss(regions=None, ignore_value=None):
    losses = [DiceLoss(sigmoid=True, batch=True), nn.BCEWithLogitsLoss()]
    return StackedDeepSupervisionLoss(
        SegmentationLoss(dice_ce(), losses, NAMES, regions=regions, ignore_value=ignore_value)
    )


def train(name, arguments, loss_function, tmp_path, label_shape=None, size=SIZE) -> Copies:
    """Train a small network on the device."""
    with Copies() as copies:
        with DEVICE:
            network = getattr(nets, name)(in_channels=IN_CHANNELS, out_channels=OUT_CHANNELS, **arguments)
        batch = {"image": torch.empty(2, IN_CHANNELS, *size), "label": torch.zeros(label_shape or (2, 1, *size))}
        if label_shape is not None:  # a class per image
            batch["label"] = batch["label"].long()
        evaluator = SupervisedTrainer(DEVICE, 1, [batch], network, None, loss_function)
        trainer = SupervisedTrainer(
            device=DEVICE,
            max_epochs=1,
            train_data_loader=[batch] * STEPS,
            network=network,
            optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
            loss_function=loss_function,
            accumulation_steps=2,
            train_handlers=[
                NonFiniteLossHandler(),
                ClipGradients(network, 1.0),
                OptimizerSteps(),
                TrainingProgress(evaluator, tmp_path / "curve.csv"),
            ],
        )
        evaluator.state.epoch = 0
        trainer.run()
    return copies


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmentation_copies_the_loss_alone(name, tmp_path):
    arguments = {**SEGMENTERS[name], **DEEP.get(name, {}), "deep_supervision": True}
    copies = train(name, arguments, loss(), tmp_path)
    assert copies.numbers == STEPS
    assert copies.tensors == []


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classification_copies_the_loss_and_the_labels(name, tmp_path):
    """MONAI makes numbers of the labels behind the loss, when the device has nothing more to do for the step."""
    copies = train(name, CLASSIFIERS[name], nn.CrossEntropyLoss(), tmp_path, (2,), (20, 20, 16))
    assert copies.numbers == STEPS * (1 + 2)
    assert copies.tensors == []


def test_voxels_without_a_label_are_counted_on_the_host(tmp_path):
    """The one copy of the collection, of the number of voxels that have one, which ``ignore_value`` alone makes."""
    with pytest.raises(NotImplementedError, match="nonzero"):
        train("AttentionUnet", SEGMENTERS["AttentionUnet"], loss(ignore_value=255), tmp_path)


class Peeking(nn.Module):
    """A loss that looks at a value, and copies it."""

    def forward(self, logits, label):
        largest = logits.max()
        return logits.mean() * (2.0 if largest > 0 else 1.0) + largest.cpu()


def test_a_copy_would_be_seen(tmp_path):
    copies = train("AttentionUnet", SEGMENTERS["AttentionUnet"], Peeking(), tmp_path)
    assert copies.numbers > STEPS
    assert copies.tensors != []
