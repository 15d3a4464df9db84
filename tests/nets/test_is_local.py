"""A network says of itself whether its windows may grow, and that is what its logits show."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom_networks import nets
from tests import small_nets

LENGTH = 256
NAMES = [(name, attention, norm) for name in small_nets.SEGMENTERS for attention in (True, False) for norm in (0, 1)]
NORMS = (("instance", {"affine": True}), "batch")


def build(name: str, norm: str | tuple, **more) -> nn.Module:
    """Return a network in 2D, all weights random, also those that start as zero."""
    torch.manual_seed(0)
    net = getattr(nets, name)(2, 1, 2, **small_nets.SEGMENTERS[name] | {"norm": norm} | more).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2 + (parameter.dim() == 1))
    return net


def is_local(net: nn.Module) -> bool:
    """Return whether voxels in the middle are the same whatever is far away, and wherever the image begins and ends."""
    image, part = torch.randn(1, 1, 16, LENGTH, dtype=torch.float64), net.size_divisor[1]
    other = image.clone()
    other[..., : LENGTH // 8] -= 5
    other[..., -LENGTH // 8 :] += 5
    net, middle = net.double(), LENGTH // 2
    with torch.no_grad():
        whole, changed, cut = (net(x)[..., middle] for x in (image, other, image[..., : -LENGTH // 8]))
        shifted = net(image[..., part:])[..., middle - part]
    return all(torch.allclose(whole, one, rtol=0, atol=1e-9) for one in (changed, cut, shifted))


@pytest.mark.parametrize(("name", "attention", "norm"), NAMES)
def test_a_network_is_local_if_it_says_so(name, attention, norm):
    net = build(name, NORMS[norm], **{} if attention else {"attention": ()})
    assert net.is_local() is is_local(net)


LOCAL = {
    "gates": ("AttentionUnet", {"attention": ("gate",)}),
    "a U-Net": ("AttentionUnet", {"attention": ()}),
    "nnU-Net": ("MbtfeUnet", {"attention": ()}),
    "patches": ("Setr", {"attention": ()}),
    "tokens": ("Primus", {"attention": ()}),
}


@pytest.mark.parametrize(("name", "more"), LOCAL.values(), ids=LOCAL.keys())
def test_which_networks_are_local_with_batch_norms(name, more):
    net = build(name, "batch", **more)
    assert net.is_local()
    assert is_local(net)
    assert not build(name, NORMS[0], **more).is_local()


@pytest.mark.parametrize("part", ["mbtfe", "edge_aggregation"])
def test_which_attention_is_not_local(part):
    net = build("MbtfeUnet", "batch", attention=(part,))
    assert not net.is_local()
    assert not is_local(net)


def test_no_batch_statistics_of_its_own():
    assert not build("AttentionUnet", ("batch", {"track_running_stats": False}), attention=()).is_local()


def test_no_shipped_network_is_local(shipped):
    assert not shipped.is_local()


@pytest.fixture(params=["AttentionUnet", "MbtfeUnet", "MedicalTransformer", "TransUnet"])
def shipped(request):
    return build(request.param, NORMS[0])
