"""Multiply-adds of a network, counted without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(network: nn.Module, in_channels: int, patch_size: Sequence[int]) -> int:
    """Count the multiply-accumulates of one forward pass on one patch; afterwards the network has no weights.

    Args:
        network: the network.
        in_channels: channels of its input.
        patch_size: voxels per axis.
    """
    # The counter's hooks on modules take a slice of a parameter that requires gradients for part of a graph.
    bare = network.to("meta").eval().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    # The counter sees the matrix products of attention, not the fused kernels.
    with sdpa_kernel(SDPBackend.MATH), counter, torch.no_grad():
        bare(torch.zeros(1, in_channels, *patch_size, device="meta"))
    return counter.get_total_flops() // 2
