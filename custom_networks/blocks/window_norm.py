"""A norm that treats windows folded into the batch as if they came one after the other."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

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
        >>> build_norm("batch", 3, 4)
        BatchNorm3d(4, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)
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


def move_average(average: Tensor, batches: Tensor, momentum: float) -> None:
    r"""Move a running statistic through the statistics of several batches in turn, in one step.

    .. math:: r \leftarrow (1-m)^G r + \sum_{k=0}^{G-1} m (1-m)^{G-1-k} s_k

    Args:
        average: running statistic r ``(C,)``, changed in place.
        batches: statistics s of the G batches ``(G, C)``, the first one first.
        momentum: m, the share of the newest batch.

    Example:
        >>> average = torch.zeros(1)
        >>> move_average(average, torch.tensor([[8.0], [4.0]]), 0.5)
        >>> average
        tensor([4.])
    """
    steps = batches.shape[0]
    ages = torch.arange(steps - 1, -1, -1, device=batches.device, dtype=batches.dtype)
    shares = momentum * (1 - momentum) ** ages
    average.mul_((1 - momentum) ** steps).add_((shares[:, None] * batches.detach()).sum(0).to(average.dtype))


class WindowNorm(nn.Module):
    r"""Batch or instance norm of a map whose batch holds G windows of every sample.

    .. math:: y_k = \gamma \frac{x_k - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta, \qquad k = 0, \dots, G-1

    With batch norm, in training, :math:`\mu_k, \sigma_k^2` are those of window k over the samples and voxels, and the
    running statistics move through the windows in turn, in closed form: the result, statistics included, is that of G
    passes, one per window. With instance norm, and in eval, windows are samples like others.

    Differs from the paper: None, where the norm is "batch".

    Args:
        norm: MONAI norm: a batch norm with running statistics, or an instance norm without.
        spatial_dims: 2 or 3.
        channels: channels C.

    Shape:
        ``(G B, C, *S)``, the window being the slowest index, to the same shape.

    Raises:
        ValueError: if the norm is another.

    Example:
        >>> WindowNorm("batch", 3, 4)(torch.zeros(8, 4, 2, 3, 4), windows=4).shape
        torch.Size([8, 4, 2, 3, 4])

    Cost:
        Parameters ``2C`` if affine; two copies of the map with batch norm in training where G > 1, else none.

    References:
        J. M. J. Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", MICCAI
        2021, arXiv:2102.10662, whose code (https://github.com/jeya-maria-jose/Medical-Transformer) runs the passes.
    """

    __constants__ = ("batch",)

    def __init__(self, norm: str | tuple, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.norm: Any = build_norm(norm, spatial_dims, channels)
        self.batch = isinstance(self.norm, BATCH_NORMS)

    def forward(self, x: Tensor, windows: int = 1) -> Tensor:
        """Return ``y``, see the class.

        Args:
            x: ``(G B, C, *S)``.
            windows: G.
        """
        if self.batch and self.training and windows > 1:
            return self._per_window(x, windows)
        return self.norm(x)

    def _per_window(self, x: Tensor, windows: int) -> Tensor:
        norm = self.norm
        y = x.unflatten(0, (windows, -1)).transpose(0, 1).flatten(1, 2)
        mean, variance = norm.running_mean.repeat(windows), norm.running_var.repeat(windows)
        weight = None if norm.weight is None else norm.weight.repeat(windows)
        bias = None if norm.bias is None else norm.bias.repeat(windows)
        # With a momentum of one the running statistics become those of this batch, the variance unbiased.
        y = F.batch_norm(y, mean, variance, weight, bias, training=True, momentum=1.0, eps=norm.eps)
        move_average(norm.running_mean, mean.unflatten(0, (windows, -1)), norm.momentum)
        move_average(norm.running_var, variance.unflatten(0, (windows, -1)), norm.momentum)
        norm.num_batches_tracked.add_(windows)
        return y.unflatten(1, (windows, -1)).transpose(0, 1).flatten(0, 1)
