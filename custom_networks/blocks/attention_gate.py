"""Additive grid attention gate of Attention U-Net (Oktay et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from custom_networks.blocks.resize import resize
from custom_networks.checks import check_spatial_dims, check_width, per_axis


class AttentionGate(nn.Module):
    r"""Weight a skip connection, voxel by voxel, by its agreement with a coarser gating signal.

    .. math:: \alpha = \uparrow\sigma\bigl(\psi\,\mathrm{ReLU}(\theta(x) + \uparrow\phi(g))\bigr), \qquad
              \hat x = \mathrm{norm}\bigl(W(\alpha \odot x)\bigr)

    with :math:`\uparrow` a linear resize to the size of the other operand::

        x (B, C, *S) ---- theta, kernel = stride = sub_sample -> (B, I, *S/sub_sample) -+
        g (B, G, *T) ---- phi 1x1x1 -> resized to *S/sub_sample -------------------------+-> ReLU, psi, sigmoid
        alpha (B, 1, *S/sub_sample) -> resized to *S -> times x -> W 1x1x1, norm -> (B, C, *S)

    Differs from the paper: instance norm after W by default (batch norm in the released code). What the released
    network puts behind a gate (``combine_gates``: 1x1x1 convolution, batch norm, ReLU) is not part of the module.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels C of the skip connection.
        gating_channels: channels G of the gating signal.
        inter_channels: channels I in which skip and gating signal are added; ``None`` takes max(1, C // 2).
        sub_sample: stride of theta, one factor or one per axis: the ratio of the grids of skip and gating signal.
        norm: MONAI norm after W, or ``None``.

    Shape:
        ``x (B, C, *S)`` and ``gating (B, G, *T)``, any sizes, to ``(B, C, *S)``. Every axis of ``S`` must be at least
        ``sub_sample``.

    Raises:
        ValueError: if ``spatial_dims`` is not 2 or 3, ``inter_channels`` is below 1, or ``sub_sample`` does not have
            one positive factor per axis.

    Example:
        >>> gate = AttentionGate(3, 8, 12)
        >>> gate(torch.zeros(1, 8, 8, 6, 10), torch.zeros(1, 12, 4, 3, 5)).shape
        torch.Size([1, 8, 8, 6, 10])

    Cost:
        Parameters ``s·C·I + (G+1)·I + (I+1) + (C+1)·C`` and ``2C`` for the affine norm, s the product of
        ``sub_sample``. Time O(N·C·(C+I)) for N voxels; no N by N map.

    References:
        O. Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", 2018, arXiv:1804.03999. Consulted:
        https://github.com/ozan-oktay/Attention-Gated-Networks (MIT), ``GridAttentionBlock3D``, mode "concatenation".
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        gating_channels: int,
        *,
        inter_channels: int | None = None,
        sub_sample: int | Sequence[int] = 2,
        norm: str | tuple | None = ("instance", {"affine": True}),
    ) -> None:
        super().__init__()
        check_spatial_dims(spatial_dims)
        conv = Conv[Conv.CONV, spatial_dims]
        stride = per_axis(sub_sample, spatial_dims, "sub_sample")
        inter_channels = max(1, in_channels // 2) if inter_channels is None else inter_channels
        check_width(inter_channels, "inter_channels")
        self.theta = conv(in_channels, inter_channels, stride, stride=stride, bias=False)
        self.phi = conv(gating_channels, inter_channels, 1)
        self.psi = conv(inter_channels, 1, 1)
        self.W = nn.Sequential(conv(in_channels, in_channels, 1))
        if norm is not None:
            self.W.append(get_norm_layer(norm, spatial_dims, in_channels))

    def attention_map(self, x: Tensor, gating: Tensor) -> Tensor:
        """Return the gate ``(B, 1, *S)`` on the grid of the skip connection, values in (0, 1).

        Args:
            x: skip connection ``(B, C, *S)``.
            gating: gating signal ``(B, G, *T)``.
        """
        theta = self.theta(x)
        gate = torch.sigmoid(self.psi(torch.relu(theta + resize(self.phi(gating), list(theta.shape[2:])))))
        return resize(gate, list(x.shape[2:]))

    def forward(self, x: Tensor, gating: Tensor) -> Tensor:
        """Return the gated skip connection.

        Args:
            x: skip connection ``(B, C, *S)``.
            gating: gating signal ``(B, G, *T)``.
        """
        return self.W(self.attention_map(x, gating) * x)
