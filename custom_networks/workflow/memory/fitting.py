"""How many windows the network may get at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from custom_networks.workflow.memory.bill import available_bytes
from custom_networks.workflow.memory.fake_run import peak_bytes
from custom_networks.workflow.train.checkpoint import bare

MOST = 64
SHARE = 0.5


def windows_that_fit(
    *,
    sw_batch_size: int | None,
    network: nn.Module,
    device: torch.device | str,
    in_channels: int,
    patch_size: Sequence[int],
    amp: bool,
) -> int:
    """Return the number of windows per forward pass, for ``None`` as many as half of the free memory holds, at most 64.

    The other half is left to images and logits. Where the network cannot be run without values, it is one.

    Args:
        sw_batch_size: the knob of that name.
        network: the network, or what distributed training wrapped around it.
        device: where it runs.
        in_channels: channels of an image.
        patch_size: window in voxels.
        amp: the knob of that name.

    Example:
        >>> net = nn.Conv3d(1, 2, 3, padding=1)
        >>> window = {"network": net, "device": "cpu", "in_channels": 1, "patch_size": (8, 8, 8), "amp": False}
        >>> windows_that_fit(sw_batch_size=4, **window), windows_that_fit(sw_batch_size=None, **window)
        (4, 64)
    """
    if sw_batch_size is not None:
        return sw_batch_size
    device, network = torch.device(device), bare(network)

    def peak(windows: int) -> int:
        return peak_bytes(network, (windows, in_channels, *patch_size), training=False, amp=amp, device=device)

    # networks of users may do anything in their forward pass, as in the memory report
    try:
        one, two = peak(1), peak(2)
    except Exception:
        return 1
    more = (SHARE * available_bytes(device) - one) // max(1, two - one)
    return int(max(1, min(MOST, 1 + more)))
