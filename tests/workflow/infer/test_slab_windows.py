from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from custom_networks.workflow import MirrorSlidingWindowInferer, RegionClassesd
from custom_networks.workflow.infer.slab_windows import slab_axis
from custom_networks.workflow.memory.fake_run import LiveStorages


class Context(nn.Module):
    """Logits of every voxel that depend on its neighbours and on where the window ends."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, classes, 3, padding=1)
        self.windows: list[int] = []

    def forward(self, x):
        self.windows.append(len(x))
        return self.conv(x) * 3


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((19, 12, 10), (8, 8, 8)),  # windows that end at the border, slabs along axis 0
        ((9, 30, 11), (8, 8, 8)),  # along axis 1
        ((16, 16, 50), (16, 16, 8)),  # one window wide in two axes, along axis 2
        ((5, 7, 20), (8, 8, 8)),  # smaller than the window in two axes
        ((8, 8, 8), (8, 8, 8)),
    ],
)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_the_classes_of_the_normal_path(size, window, overlap):
    torch.manual_seed(0)
    net = Context(5)
    image = torch.randn(2, 2, *size)
    for mode, mirror_axes, batch in itertools.product(("constant", "gaussian"), ([], [0, 2]), (1, 3)):
        options = {"mode": mode, "overlap": overlap, "sw_batch_size": batch, "mirror_axes": mirror_axes, "amp": False}
        with torch.no_grad():
            logits = MirrorSlidingWindowInferer(window, **options)(image, net)
            labels = MirrorSlidingWindowInferer(window, low_memory=True, **options)(image, net)
        assert labels.dtype == torch.uint8
        assert labels.shape == (2, 1, *size)
        assert torch.equal(labels.long(), logits.softmax(1).argmax(1, keepdim=True)), (mode, mirror_axes, batch)
        assert len(labels.unique()) == 5


def test_the_innermost_region_of_the_normal_path():
    names, regions = ["background", "a", "b", "c", "d"], [[1, 2, 3], [2, 3], [3], [4]]
    net, image = Context(4), torch.randn(2, 2, 19, 12, 10)
    options = {"overlap": 0.5, "mode": "gaussian", "amp": False, "regions": regions}
    with torch.no_grad():
        logits = MirrorSlidingWindowInferer((8, 8, 8), **options)(image, net)
        labels = MirrorSlidingWindowInferer((8, 8, 8), low_memory=True, **options)(image, net)
    to_classes = RegionClassesd("pred", names, regions)
    want = torch.stack([to_classes({"pred": one.sigmoid()})["pred"] for one in logits])
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), want.long())
    assert labels.unique().tolist() == [0, 1, 2, 3, 4]


def test_windows_are_run_in_batches_and_get_the_arguments():
    class Scaled(Context):
        def forward(self, x, sign):
            return super().forward(x) * sign

    net = Scaled(3)
    inferer = MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, sw_batch_size=3, overlap=0.5, amp=False)
    image = torch.randn(1, 2, 12, 8, 8)
    with torch.no_grad():
        labels, opposite = inferer(image, net, 1.0), inferer(image, net, sign=-1.0)
    assert max(net.windows) == 3
    assert not (labels == opposite).any()


def test_the_meta_data_stays():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.randn(1, 2, 12, 8, 8), affine=affine)
    with torch.no_grad():
        labels = MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, amp=False)(image, Context(3))
    assert isinstance(labels, MetaTensor)
    assert torch.equal(labels.affine, affine)
    assert labels.dtype == torch.uint8


def test_the_logits_of_a_slab_are_held_only():
    net, classes, depth = Context(16), 16, 128
    image = torch.randn(1, 2, depth, 16, 16)
    peaks = []
    for low_memory in (False, True):
        inferer = MirrorSlidingWindowInferer((16, 16, 16), low_memory=low_memory, overlap=0.5, amp=False)
        with torch.no_grad(), LiveStorages() as storages:
            inferer(image, net)
        peaks.append(storages.peak)
    assert peaks[0] > classes * depth * 16 * 16 * 4
    assert peaks[1] < 0.6 * peaks[0]


def test_the_thinnest_slab():
    assert slab_axis((64, 64, 64), (32, 32, 32)) == 0
    assert slab_axis((512, 512, 40), (256, 256, 16)) == 2


def test_more_classes_than_a_byte_holds():
    with torch.no_grad(), pytest.raises(ValueError, match="257 classes"):
        MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, amp=False)(torch.zeros(1, 2, 4, 4, 4), Context(257))
