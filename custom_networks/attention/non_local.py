"""Non-local block with embedded Gaussian similarity (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.checks import check_reduction, check_spatial_dims, per_axis


class NonLocal(nn.Module):
    r"""Add to every voxel a weighted mean over all voxels, weights from an embedded Gaussian.

    .. math:: z = x + \mathrm{norm}(W\,y), \qquad
              y_i = \sum_j \mathrm{softmax}_j\bigl(\theta(x_i)^\top \phi(\tilde x_j)\bigr)\, g(\tilde x_j)

    where :math:`\phi` and :math:`g` are max-pooled after their 1x1x1 convolutions, so that there are fewer keys than
    queries, and the logits are *not* divided by the square root of the width::

        x (B, C, *S) -+- theta -> (B, N, K) -+
                      +- phi, pool -> (B, M, K) -+- softmax -> (B, N, M) -+
                      +- g, pool ---> (B, M, V) ---------------------------+-> W, norm -> + x -> z (B, C, *S)

    The scale of the norm after :math:`W` (or :math:`W` itself without a norm) starts at zero, so the block starts as
    the identity. The (N, M) map is never stored in training: ``scaled_dot_product_attention`` computes it in blocks.

    Differs from the paper: instance norm after W by default (batch norm in the paper), and pooling by ``min(pool,
    size)`` per axis, so that an axis of length one is not pooled.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the input.
        reduction: V = max(1, C // reduction), the width of the values.
        key_reduction: K = max(1, C // key_reduction), the width of queries and keys; ``None`` takes ``reduction``.
        pool: max-pooling of keys and values, one factor or one per axis; 1 switches it off.
        norm: MONAI norm after W, or ``None``.

    Shape:
        ``(B, C, *spatial)`` to the same shape, any spatial size (with instance norm at least two voxels). A graph from
        ``torch.export`` takes any size from ``pool`` up on the axes that it leaves open.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, a reduction or pool is below 1, or ``norm`` has no learned scale.

    Example:
        >>> NonLocal(3, 16)(torch.zeros(1, 16, 4, 6, 5)).shape
        torch.Size([1, 16, 4, 6, 5])

    Cost:
        Parameters ``2(C+1)K + (C+1)V + (V+1)C`` and ``2C`` for the affine norm. Time N·M·(K+V) with N voxels and M
        pooled voxels (M = N/8 in 3D), which is sensible up to some 32x32x32 voxels; memory O(N) with a fused kernel.
        ``attention_map`` stores N·M values: 512 MiB at 32x32x32.

    References:
        X. Wang, R. Girshick, A. Gupta, K. He, "Non-local Neural Networks", CVPR 2018, arXiv:1711.07971. Consulted:
        https://github.com/AlexHex7/Non-local_pytorch (Apache-2.0).
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        *,
        reduction: int = 2,
        key_reduction: int | None = None,
        pool: int | Sequence[int] = 2,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        conv = Conv[Conv.CONV, spatial_dims]
        value_channels = check_reduction(in_channels, reduction)
        key_channels = (
            value_channels if key_reduction is None else check_reduction(in_channels, key_reduction, "key_reduction")
        )
        self.pool = list(per_axis(pool, spatial_dims, "pool"))
        self.theta = conv(in_channels, key_channels, 1)
        self.phi = conv(in_channels, key_channels, 1)  # shipped weights hold the bias, which cancels in the softmax
        self.g = conv(in_channels, value_channels, 1)
        self.W = nn.Sequential(conv(value_channels, in_channels, 1))
        if norm is not None:
            self.W.append(get_norm_layer(norm, spatial_dims, in_channels))
        last = self.W[-1]
        weight, bias = getattr(last, "weight", None), getattr(last, "bias", None)
        if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
            raise ValueError(  # noqa: TRY004 - the value is wrong, not its type
                f"norm must have a learned scale for a non-local block to start at zero, got {norm!r}; use for example "
                "('instance', {'affine': True})"
            )
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)

    def _max_pool(self, x: Tensor, margin: bool = False) -> Tensor:
        """Max-pool by ``min(pool, size)`` per axis; ``margin`` adds one window, to be masked, to each pooled axis."""
        if margin:
            kernel = self.pool
            padding: list[int] = []
            for k in kernel[::-1]:
                padding += [0, k if k > 1 else 0]
            x = F.pad(x, padding, mode="replicate")
        else:
            kernel = [min(p, s) for p, s in zip(self.pool, x.shape[2:])]  # noqa: B905 - TorchScript: no strict zip
        return F.max_pool2d(x, kernel) if x.dim() == 4 else F.max_pool3d(x, kernel)

    def _margin_mask(self, x: Tensor) -> Tensor:
        """Return ``(1, M)``, false for the windows that ``_max_pool`` adds with ``margin``."""
        mask = torch.ones((), dtype=torch.bool, device=x.device)
        for pool, size in zip(self.pool, x.shape[2:]):  # noqa: B905
            window = torch.arange(size // pool + (pool > 1), device=x.device)
            mask = mask.unsqueeze(-1) & ((window < size // pool) | (window == 0))
        return mask.reshape(1, -1)

    def _queries_keys(self, x: Tensor, margin: bool = False) -> tuple[Tensor, Tensor]:
        """Return queries ``(B, N, K)`` and pooled keys ``(B, M, K)``."""
        queries = self.theta(x).flatten(2).transpose(1, 2)
        keys = self._max_pool(self.phi(x), margin).flatten(2).transpose(1, 2)
        return queries, keys

    def forward(self, x: Tensor) -> Tensor:
        """Return ``z``, see the class.

        Args:
            x: ``(B, C, *spatial)``.
        """
        margin = False
        if not torch.jit.is_scripting():
            # An exported graph must not depend on whether a pooled axis has one window or more: it gets one to spare.
            margin = torch.compiler.is_exporting()
        queries, keys = self._queries_keys(x, margin)
        values = self._max_pool(self.g(x), margin).flatten(2).transpose(1, 2)
        # The fused kernels want equal widths and channels side by side in memory; zero channels change neither the
        # logits nor (once cut off) the values.
        width = max(keys.shape[2], values.shape[2])
        y = F.scaled_dot_product_attention(
            F.pad(queries, [0, width - queries.shape[2]]).contiguous().unsqueeze(1),
            F.pad(keys, [0, width - keys.shape[2]]).contiguous().unsqueeze(1),
            F.pad(values, [0, width - values.shape[2]]).contiguous().unsqueeze(1),
            attn_mask=self._margin_mask(x) if margin else None,
            scale=1.0,
        ).squeeze(1)[:, :, : values.shape[2]]
        y = y.transpose(1, 2).unflatten(2, list(x.shape[2:]))
        return x + self.W(y)

    def attention_map(self, x: Tensor) -> Tensor:
        """Return the softmax map ``(B, N, M)`` of N voxels over M pooled voxels, both in raster order.

        Args:
            x: ``(B, C, *spatial)``.
        """
        queries, keys = self._queries_keys(x)
        return torch.softmax(queries @ keys.transpose(1, 2), dim=-1)
