"""Deep supervision for networks that stack their levels in one tensor."""

from __future__ import annotations

from torch import Tensor, nn


class StackedDeepSupervisionLoss(nn.Module):
    r"""Apply a loss to the levels of a stacked output with nnU-Net's weights.

    .. math:: \sum_{l=0}^{L-2} w_l\,\mathrm{loss}(\hat y_l, y), \qquad w_l = 2^{-l} \Big/ \sum_{m=0}^{L-2} 2^{-m}

    The coarsest of several levels has no part in it, as in nnU-Net; a single one has the weight 1. An output without
    levels goes to the loss as it is, so one config serves both.

    Differs from nnU-Net: the logits of all levels are compared on the grid of the label, not the label on theirs.

    Args:
        loss: loss of logits ``(B, C, *S)`` and a label ``(B, 1, *S)``.

    Shape:
        Logits ``(B, levels, C, *S)`` or ``(B, C, *S)``, label ``(B, 1, *S)``, to a scalar.

    Example:
        >>> import torch
        >>> loss = StackedDeepSupervisionLoss(nn.MSELoss())
        >>> float(loss(torch.ones(1, 3, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)))
        1.0

    References:
        F. Isensee et al., "nnU-Net", Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z. Consulted:
        https://github.com/MIC-DKFZ/nnUNet (Apache-2.0), ``nnUNetTrainer``.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: with or without levels.
            label: class indices.
        """
        if logits.dim() == label.dim():
            return self.loss(logits, label)
        weights = [0.5**level for level in range(max(1, logits.shape[1] - 1))]
        losses = [weight * self.loss(level, label) for weight, level in zip(weights, logits.unbind(1), strict=False)]
        return sum(losses) / sum(weights)
