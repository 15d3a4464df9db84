from __future__ import annotations

import itertools
import logging

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from custom_networks.nets import AttentionUnet
from custom_networks.workflow import AutocastInferer, MirrorInferer, MirrorSlidingWindowInferer
from custom_networks.workflow.infer import inferers as module
from custom_networks.workflow.infer.inferers import (
    flips,
    has_bfloat16,
    has_float16,
    needs_loss_scaling,
    network_dtype,
)


class Probe(nn.Module):
    """A convolution that is not symmetric under any flip and notes the type it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.dtypes: list[torch.dtype] = []

    def coarsest_grid(self, size):
        return size

    def forward(self, x, scale: float = 1.0):
        y = self.conv(x) * scale
        self.dtypes.append(y.dtype)
        return y


@pytest.fixture
def bfloat16(monkeypatch):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: device.type == "cpu")


@pytest.fixture
def no_bfloat16(monkeypatch):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: False)


def inferers(amp: bool) -> list:
    windows = MirrorSlidingWindowInferer((4, 4, 4), mirror_axes=[0], amp=amp)
    return [AutocastInferer(amp), windows, MirrorInferer([0], amp)]


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(1, 1, *shape)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("amp", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_inside_and_float32_outside(which, amp, dtype):
    net = Probe()
    assert inferers(amp)[which](volume(6, 5, 4), net).dtype == torch.float32
    assert set(net.dtypes) == {dtype}


@pytest.mark.usefixtures("no_bfloat16")
@pytest.mark.parametrize("which", [0, 1, 2])
def test_float32_where_the_device_lacks_bfloat16(which):
    net = Probe()
    inferers(amp=True)[which](volume(6, 5, 4), net)
    assert set(net.dtypes) == {torch.float32}


@pytest.mark.usefixtures("bfloat16")
def test_the_loss_and_its_gradient_stay_in_float32():
    net = Probe()
    inferer = AutocastInferer()
    logits = inferer(volume(4, 4, 4), net)
    logits.square().mean().backward()
    assert net.dtypes == [torch.bfloat16]
    assert net.conv.weight.grad.dtype == torch.float32
    assert torch.isfinite(net.conv.weight.grad).all()


def test_arguments_reach_the_network():
    net, x = Probe(), volume(4, 4, 4)
    for inferer in inferers(amp=False):
        torch.testing.assert_close(inferer(x, net, 3.0), 3 * inferer(x, net))
        torch.testing.assert_close(inferer(x, net, scale=3.0), 3 * inferer(x, net))


def views(axes) -> list[tuple[int, ...]]:
    """List, for every choice of flipping an axis or not, the tensor dimensions to flip."""
    choices = itertools.product([False, True], repeat=len(axes))
    return [tuple(axis + 2 for axis, flipped in zip(axes, choice, strict=True) if flipped) for choice in choices]


@pytest.mark.parametrize("axes", [(), (1,), (0, 2), (2, 0, 1)])
def test_flips_are_all_combinations_that_of_no_axis_first(axes):
    got = flips(axes, 3)
    assert got[0] == ()
    assert len(got) == 2 ** len(axes)
    assert {frozenset(flip) for flip in got} == {frozenset(view) for view in views(axes)}


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 2), (2, 0, 1)])
def test_mirroring_is_the_mean_over_all_flips(axes):
    net, x = Probe().eval(), volume(5, 4, 6)
    want = sum(torch.flip(net(torch.flip(x, view)), view) for view in views(axes)) / 2 ** len(axes)
    got = MirrorSlidingWindowInferer((5, 4, 6), mirror_axes=axes, amp=False)(x, net)
    torch.testing.assert_close(got, want)
    assert not torch.allclose(got, net(x), atol=1e-3)


class Classifier(Probe):
    """Logits that depend on where the voxels are."""

    def forward(self, x):
        y = super().forward(x).tanh()
        return (y * torch.arange(float(y[0, 0].numel())).reshape(y.shape[2:])).flatten(2).mean(-1)


@pytest.mark.parametrize("axes", [(), (0,), (1, 2), (2, 0, 1)])
def test_a_classifier_is_the_mean_of_its_logits_over_all_flips(axes):
    net, x = Classifier().eval(), torch.rand(3, 1, 5, 4, 6)
    want = torch.stack([net(torch.flip(x, view)) for view in views(axes)]).mean(0)
    inferer = MirrorInferer(axes, amp=False)
    got = inferer(x, net)
    assert got.shape == (3, 2)
    torch.testing.assert_close(got, want)
    for axis in range(3):
        close = torch.allclose(inferer(x.flip(axis + 2), net), got, atol=1e-4)
        assert close is (axis in axes)


@pytest.mark.parametrize("shape", [(9, 7, 8), (3, 9, 4), (2, 3, 1)])
def test_equal_to_the_stock_sliding_window_without_mirroring(shape):
    net, x = Probe().eval(), volume(*shape)
    options = {"sw_batch_size": 2, "overlap": 0.5, "mode": "gaussian"}
    want = SlidingWindowInferer((4, 4, 4), **options)(x, net)
    got = MirrorSlidingWindowInferer((4, 4, 4), amp=False, **options)(x, net)
    assert got.shape == (1, 2, *shape)
    assert torch.equal(got, want)


def test_a_volume_smaller_than_the_window_is_padded_and_cropped():
    net, x = Probe().eval(), volume(2, 5, 3)
    got = MirrorSlidingWindowInferer((4, 8, 3), amp=False)(x, net)
    padded = nn.functional.pad(x, (0, 0, 1, 2, 1, 1))
    torch.testing.assert_close(got, net(padded)[:, :, 1:3, 1:6])


@pytest.mark.parametrize("axes", [[3], [-1], [0, 5], [1, 1]])
def test_axes_that_do_not_exist_or_repeat(axes):
    with pytest.raises(ValueError, match=r"different spatial axes 0 to 2, got \[.*\]; use \[\] for none"):
        MirrorSlidingWindowInferer((4, 4, 4), mirror_axes=axes)
    with pytest.raises(ValueError, match=r"different spatial axes 0 to 2, got \[.*\]; use \[\] for none"):
        MirrorInferer(axes)(volume(4, 4, 4), Classifier())


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), True), ((9, 0), True), ((7, 5), False)])
def test_which_gpu_has_bfloat16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bfloat16(torch.device("cuda", 0)) is expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [
        ((9, 0), torch.bfloat16),
        ((8, 0), torch.bfloat16),
        ((7, 5), torch.float16),
        ((7, 0), torch.float16),
        ((6, 1), torch.float32),
    ],
)
def test_the_precision_of_a_gpu(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    cuda, net = torch.device("cuda", 0), nn.Identity()
    assert network_dtype(cuda, True, net, (8, 8, 8)) is expected
    assert network_dtype(cuda, False, net, (8, 8, 8)) is torch.float32
    assert needs_loss_scaling(True, cuda) is needs_loss_scaling(True, "cuda") is (expected is torch.float16)
    assert needs_loss_scaling(False, cuda) is needs_loss_scaling(True, "cpu") is False
    assert has_float16(torch.device("cpu")) is False


def test_float16_is_what_autocast_gets(monkeypatch):
    monkeypatch.setattr(module, "network_dtype", lambda *_: torch.float16)
    net = Probe()
    logits = AutocastInferer()(volume(4, 4, 4), net)
    assert net.dtypes == [torch.float16]
    assert logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_which_cpu_has_bfloat16(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16(torch.device("cpu")) is expected


def test_a_torch_that_says_nothing_of_the_cpu_computes_in_float32(monkeypatch):
    """Before 2.11 the function is not there."""
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_bfloat16(torch.device("cpu")) is False
    assert network_dtype(torch.device("cpu"), True, torch.nn.Identity(), (16, 16, 16)) is torch.float32


def test_no_other_device_is_trusted_with_bfloat16():
    assert has_bfloat16(torch.device("mps")) is False


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("inferer", [AutocastInferer(), MirrorSlidingWindowInferer((8, 12, 12), mirror_axes=[0])])
def test_a_thin_patch_is_said_once(monkeypatch, caplog, inferer, native):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: native)
    module._warn_of_float32.cache_clear()
    net, dtypes = AttentionUnet(3, 1, 2, features=(4, 8, 16)), []
    net.head.register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    with caplog.at_level(logging.WARNING), torch.no_grad():
        for _ in range(3):
            inferer(volume(8, 12, 12), net)
    assert set(dtypes) == {torch.float32}
    said = [record.message for record in caplog.records if "runs in float32 although amp is true" in record.message]
    assert len(said) == native
    assert all("with (8, 12, 12) voxels" in sentence for sentence in said)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("low_memory", [False, True])
def test_an_output_that_is_not_finite_ends_the_inference(value, low_memory):
    image = MetaTensor(torch.zeros(1, 1, 9, 8, 8), meta={"filename_or_obj": ["scan.nii.gz"]})
    image[..., 8, 5, 5] = 1

    def network(x):
        return torch.where(x > 0, value, x).expand(-1, 2, -1, -1, -1)

    for amp, advice in (
        (False, "load another checkpoint"),
        (True, "set amp to false, or load another"),
    ):
        message = rf"\Athe network's output for scan\.nii\.gz is not finite, it holds NaN or infinity; {advice}[^\n]*\Z"
        inferer = MirrorSlidingWindowInferer((4, 4, 4), mirror_axes=[1], amp=amp, low_memory=low_memory)
        with pytest.raises(ValueError, match=message):
            inferer(image, network)
        with pytest.raises(ValueError, match=message):
            MirrorInferer([1], amp=amp)(image, lambda x: network(x).flatten(1))
    with pytest.raises(ValueError, match="the network's output is not finite"):
        MirrorInferer()(image.as_tensor(), lambda x: network(x).flatten(1))
