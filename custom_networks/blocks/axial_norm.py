"""The norms that the axial networks take, those whose effect on the logits has a closed form."""

from __future__ import annotations

from collections import OrderedDict

from monai.networks.layers.utils import get_norm_layer
from torch import nn

INSTANCE = ("instance", {"affine": True})
BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)


def build_norm(norm: str | tuple, spatial_dims: int, channels: int) -> nn.Module:
    """Return a batch norm with running statistics, or an instance norm without.

    Args:
        norm: MONAI norm.
        spatial_dims: 2 or 3.
        channels: number of channels.

    Raises:
        ValueError: if the norm is another.

    Example:
        >>> type(build_norm("batch", 3, 4))
        <class 'torch.nn.modules.batchnorm.BatchNorm3d'>
    """
    built = get_norm_layer(norm, spatial_dims, channels)
    batch = type(built) in BATCH_NORMS and built.track_running_stats and built.momentum is not None
    instance = type(built) in INSTANCE_NORMS and not built.track_running_stats
    if not batch and not instance:
        raise ValueError(
            "norm must be a batch norm with running statistics and a momentum or an instance norm without, "
            f'got {norm}; use for example "batch"'
        )
    return built


def axial_norm(norm: str | tuple, spatial_dims: int, channels: int) -> nn.Sequential:
    """Return what ``build_norm`` does, held under the name ``norm``, as the shipped weights have it.

    Args:
        norm: MONAI norm.
        spatial_dims: 2 or 3.
        channels: number of channels.

    Raises:
        ValueError: if the norm is neither a batch norm with running statistics nor an instance norm without.

    Example:
        >>> list(axial_norm(("instance", {"affine": True}), 3, 4).state_dict())
        ['norm.weight', 'norm.bias']
    """
    return nn.Sequential(OrderedDict(norm=build_norm(norm, spatial_dims, channels)))
