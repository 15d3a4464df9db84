"""What takes the place of torch's operations is equal to them, with its gradients, and is really taken."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from custom_networks import nets
from custom_networks.workflow.train.deep_supervision import StackedDeepSupervisionLoss
from custom_networks.workflow.train.repeatable import INSTEAD, Repeatable
from tests.small_nets import DEEP, IN_CHANNELS, OUT_CHANNELS, SEGMENTERS, SIZE

IN_NO_ORDER = ("upsample_trilinear3d", "nll_loss2d", "max_pool3d", "avg_pool3d")
"""Operations of torch for which it documents no fixed order on a GPU."""


def volume(*shape):
    return torch.rand(2, 3, *shape, dtype=torch.float64)


CLASSES = torch.randint(3, (2, 4, 6, 5), generator=torch.Generator().manual_seed(0))
CALLS = {
    "size": (volume(4, 6, 5), lambda x: F.interpolate(x, size=(8, 7, 5), mode="trilinear", align_corners=False)),
    "corners": (volume(4, 6, 5), lambda x: F.interpolate(x, size=(2, 9, 5), mode="trilinear", align_corners=True)),
    "scale": (volume(4, 6, 5), lambda x: F.interpolate(x, scale_factor=(2, 1.5, 3), mode="trilinear")),
    "nearest": (volume(4, 6, 5), lambda x: F.interpolate(x, size=(8, 7, 5))),
    "max": (volume(4, 6, 5), lambda x: F.max_pool3d(x, (2, 3, 1))),
    "max module": (volume(5, 6, 7), nn.MaxPool3d(3, 2, 1)),
    "max ceil": (volume(5, 6, 7), nn.MaxPool3d(2, ceil_mode=True)),
    "max dilated": (volume(5, 6, 7), nn.MaxPool3d(2, dilation=2)),
    "mean": (volume(4, 6, 5), lambda x: F.avg_pool3d(x, (2, 3, 1), ceil_mode=True)),
    "mean module": (volume(4, 6, 5), nn.AvgPool3d((2, 3, 1))),
    "mean module padded": (volume(4, 6, 4), nn.AvgPool3d(2, 2, 1)),
    "mean divided by another number": (volume(4, 6, 4), nn.AvgPool3d(2, divisor_override=3)),
    "mean over the border": (volume(5, 6, 5), lambda x: F.avg_pool3d(x, 2, ceil_mode=True)),
    "mean padded": (volume(4, 6, 4), lambda x: F.avg_pool3d(x, 2, 2, 1)),
    "mean overlapping": (volume(4, 6, 4), lambda x: F.avg_pool3d(x, 2, 1)),
    "entropy": (volume(4, 6, 5), lambda x: F.cross_entropy(x, CLASSES)),
    "entropy smoothed": (volume(4, 6, 5), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "entropy ignoring": (volume(4, 6, 5), lambda x: F.cross_entropy(x, CLASSES, ignore_index=1)),
    "entropy of each": (volume(4, 6, 5), lambda x: F.cross_entropy(x, CLASSES, reduction="none")),
    "entropy in all": (volume(4, 6, 5), lambda x: F.cross_entropy(x, CLASSES, reduction="sum")),
    "entropy weighted": (volume(4, 6, 5), lambda x: F.cross_entropy(x, CLASSES, torch.tensor([1.0, 2, 3]).double())),
    "entropy of shares": (volume(4, 6, 5), lambda x: F.cross_entropy(x, x.detach().softmax(1))),
    "entropy of images": (torch.rand(2, 3, dtype=torch.float64), lambda x: F.cross_entropy(x, CLASSES[:, 0, 0, 0])),
}


@pytest.mark.parametrize(("x", "call"), CALLS.values(), ids=CALLS.keys())
def test_values_and_gradients_are_those_of_torch(x, call):
    function = (lambda x: call(x, CLASSES)) if isinstance(call, nn.CrossEntropyLoss) else call

    def results():
        leaf = x.clone().requires_grad_()
        y = function(leaf)
        (y * torch.arange(1.0, y.numel() + 1).reshape(y.shape)).sum().backward()
        return y, leaf.grad

    wanted = results()
    with Repeatable("cpu"):
        got = results()
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


class Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def step(name) -> list[str]:
    """Take a step of a network, and return its operations that add in no fixed order on a GPU."""
    torch.manual_seed(0)
    network = getattr(nets, name)(
        in_channels=IN_CHANNELS,
        out_channels=OUT_CHANNELS,
        **{**SEGMENTERS[name], **DEEP.get(name, {}), "deep_supervision": True},
    )
    loss = StackedDeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True))
    with Operations() as operations:
        loss(network(torch.rand(2, IN_CHANNELS, *SIZE)), torch.zeros(2, 1, *SIZE)).backward()
    return sorted(one for one in operations.seen if any(part in one for part in IN_NO_ORDER))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_step_of_every_network_has_an_order(name):
    assert step(name) != []
    with Repeatable("cpu"):
        assert step(name) == []


def test_other_devices_are_left_alone():
    with Repeatable("cuda"):
        assert step("AttentionUnet") != []
    assert len(INSTEAD) == 4
