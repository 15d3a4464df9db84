"""Deep supervision for networks that stack their levels in one tensor."""

from __future__ import annotations

from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn


class StackedDeepSupervisionLoss(nn.Module):
    r"""Apply a loss to every level of a stacked output, halving the weight from level to level.

    .. math:: \sum_l 2^{-l}\,\mathrm{loss}(\hat y_l, y)

    An output without levels goes to the loss as it is, so one config serves both.

    Args:
        loss: loss of logits ``(B, C, *S)`` and a label ``(B, 1, *S)``.

    Shape:
        Logits ``(B, levels, C, *S)`` or ``(B, C, *S)``, label ``(B, 1, *S)``, to a scalar.

    Example:
        >>> import torch
        >>> loss = StackedDeepSupervisionLoss(nn.MSELoss())
        >>> float(loss(torch.ones(1, 2, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 4)))
        1.5

    References:
        Weights as in nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), not normalised to one.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.levels_loss = DeepSupervisionLoss(loss, weight_mode="exp")

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: with or without levels.
            label: class indices.
        """
        if logits.dim() == label.dim():
            return self.loss(logits, label)
        return self.levels_loss(list(logits.unbind(1)), label)
