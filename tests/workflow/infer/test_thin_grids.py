"""Grids that break torch's bfloat16 on a CPU: which networks have them, and that no other result is wrong."""

from __future__ import annotations

import logging

import pytest
import torch
from monai.networks.nets import DynUNet, SegResNet
from torch import nn

from custom_networks import nets
from custom_networks.nets import AttentionClassifier, AttentionUnet, MedicalTransformer, Primus
from custom_networks.workflow.infer import inferers
from custom_networks.workflow.infer.inferers import autocast_forward, has_bfloat16, network_dtype
from custom_networks.workflow.infer.thin_grids import is_thin
from tests.small_nets import SEGMENTERS

CPU = torch.device("cpu")
UNET = {"features": (4, 8, 16)}  # divides by 4
LOCAL = {"features": (8, 8, 16), "num_units": (1, 1), "global_levels": 1, "window_size": 8}  # by 2, in windows by 4
TOKENS = {"features": (24,), "strides": (2,), "num_layers": 1, "num_heads": 2}
MONAI = {"spatial_dims": 3, "init_filters": 8}
THIN = {
    "one voxel": (AttentionUnet, {**UNET, "strides": [[1, 2, 2]] * 2}, (1, 16, 16), True),
    "two voxels": (AttentionUnet, UNET, (8, 16, 16), True),
    "three voxels": (AttentionUnet, UNET, (12, 16, 16), False),
    "two along the other axes": (AttentionUnet, UNET, (12, 8, 8), False),
    "one along the second axis": (AttentionUnet, UNET, (12, 4, 8), False),
    "one along the third axis": (AttentionUnet, UNET, (12, 8, 4), True),
    "one along the third axis that nothing strides along": (
        AttentionUnet,
        {**UNET, "strides": [[2, 2, 1]] * 2},
        (12, 12, 1),
        False,
    ),
    "a longer kernel": (AttentionUnet, {**UNET, "kernel_size": 5}, (16, 16, 16), True),
    "a longer kernel that fits": (AttentionUnet, {**UNET, "kernel_size": 5}, (20, 16, 16), False),
    "a longer kernel on one voxel of the second axis": (AttentionUnet, {**UNET, "kernel_size": 5}, (20, 4, 16), True),
    "a slice that no kernel leaves": (AttentionUnet, {**UNET, "kernel_size": [[1, 3, 3]] * 3}, (4, 16, 16), False),
    "windows": (MedicalTransformer, LOCAL, (32, 32, 32), True),
    "no windows": (MedicalTransformer, {**LOCAL, "branches": ("global",)}, (32, 32, 32), False),
    "unpadded": (AttentionClassifier, {"features": (8, 16)}, (20, 20, 16), False),
    "unpadded, then padded": (
        AttentionClassifier,
        {"features": (8, 16), "attention_module": "par_net_attention"},
        (21, 24, 24),
        True,
    ),
    "more of it": (
        AttentionClassifier,
        {"features": (8, 16), "attention_module": "par_net_attention"},
        (22, 20, 16),
        False,
    ),
    "not of this package": (nn.Conv3d, {"kernel_size": 3, "padding": 1}, (2, 8, 8), True),
    "not of this package, thick": (nn.Conv3d, {"kernel_size": 3, "padding": 1}, (3, 8, 8), False),
    "MONAI's, one along the third axis": (SegResNet, MONAI, (32, 32, 8), True),
    "MONAI's, two along the third axis": (SegResNet, MONAI, (32, 32, 16), False),
    "2D": (AttentionUnet, {**UNET, "spatial_dims": 2}, (8, 16), False),
    "a wide stride": (nn.Conv3d, {"kernel_size": 8, "stride": 8}, (16, 16, 16), True),
    "a wide stride in 2D": (nn.Conv2d, {"kernel_size": 3, "stride": 3}, (9, 9), True),
    "a wide stride along the other axes": (nn.Conv3d, {"kernel_size": 4, "stride": (4, 4, 2)}, (8, 8, 8), False),
    "tokens": (Primus, {**TOKENS, "version": 3, "features": (4, 8, 24)}, (8, 16, 16), False),
    "tokens of 8 voxels": (Primus, {**TOKENS, "strides": (2, 2, 2)}, (16, 16, 16), False),
}


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(("kind", "arguments", "size", "thin"), THIN.values(), ids=THIN.keys())
def test_thin_grids_on_a_cpu_are_computed_in_float32(monkeypatch, kind, arguments, size, thin, native):
    monkeypatch.setattr(inferers, "has_bfloat16", lambda device: native)
    net = kind(in_channels=1, out_channels=2, **arguments)
    assert is_thin(net, size) is thin
    assert network_dtype(CPU, True, net, size) is (torch.bfloat16 if native and not thin else torch.float32)
    assert network_dtype(torch.device("cuda"), True, net, size) is (torch.bfloat16 if native else torch.float32)
    assert network_dtype(CPU, False, net, size) is torch.float32


def test_the_wrapper_of_distributed_training_is_looked_through(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert is_thin(nn.parallel.DistributedDataParallel(AttentionUnet(3, 1, 2, **UNET)), (8, 16, 16))
    finally:
        torch.distributed.destroy_process_group()


class Branches(nn.Module):
    """A network that reads values, which no pass without contents can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.mean() > 0 else x


def test_looking_at_a_network_changes_nothing_of_it(caplog):
    caplog.set_level(logging.INFO)
    net = SegResNet(spatial_dims=3, in_channels=1, out_channels=2, init_filters=8)
    before, layers = dict(net.named_parameters()), list(net.modules())
    assert is_thin(net, (32, 32, 8))
    assert net.training
    assert all(own is before[name] for name, own in net.named_parameters())
    assert not any(layer._forward_pre_hooks for layer in layers)
    assert not caplog.records
    assert not is_thin(Branches(), (1, 8, 8))
    assert "not looked for in this network" in caplog.text
    assert not is_thin(nn.Identity(), (1, 8, 8))
    assert not is_thin(lambda x: x, (1, 8, 8))


DYN_UNET = {
    "spatial_dims": 3,
    "kernel_size": [3, 3, 3, 3],
    "strides": [1, 2, 2, 2],
    "upsample_kernel_size": [2, 2, 2],
    "filters": [4, 8, 8, 8],
}
NETWORKS = {
    **{name: (getattr(nets, name), arguments) for name, arguments in SEGMENTERS.items()},
    "SegResNet": (SegResNet, MONAI),
    "DynUNet": (DynUNet, DYN_UNET),
}


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this processor does not compute in bfloat16; nothing to see")
@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_the_grid_the_result_is_right(name, axis):
    """With one voxel along an axis of the coarsest grid."""
    torch.manual_seed(0)
    kind, arguments = NETWORKS[name]
    net = kind(in_channels=1, out_channels=2, **arguments).eval()
    divisor = getattr(net, "size_divisor", (8, 8, 8))
    size = [n * (1 if number == axis else 4) for number, n in enumerate(divisor)]
    image = torch.randn(1, 1, *size)
    with torch.no_grad():
        expected, found = net(image), autocast_forward(net, image, amp=True)
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.skipif(not has_bfloat16(CPU), reason="this processor does not compute in bfloat16; nothing to see")
@pytest.mark.parametrize("version", [1, 3])
def test_tokens_as_large_as_their_stride_are_right(version):
    torch.manual_seed(0)
    features = (24,) if version == 1 else (8, 16, 16, 16, 24)
    net = Primus(3, 8, 2, version=version, features=features, num_layers=1, num_heads=2).eval()
    if version == 3:
        for scale in net.down_projection.scale_proj_to_tokens:
            nn.init.ones_(scale)  # it starts so small that nothing would be seen
    image = torch.randn(1, 8, 24, 16, 32)
    assert network_dtype(CPU, True, net, image.shape[2:]) is torch.bfloat16
    with torch.no_grad():
        expected, found = net(image), autocast_forward(net, image, amp=True)
    assert (found - expected).norm() < 0.1 * expected.norm()
