"""The loss of classes, or of regions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from custom_networks.workflow.transforms.regions import Regions, region_classes, region_masks


class SegmentationLoss(nn.Module):
    r"""Apply a loss of classes, or, where there are regions, losses of their overlapping masks.

    With the masks :math:`y_r` of the regions, R of them, without the background,

    .. math:: \mathrm{loss}(\hat y, c) = \sum_k \mathrm{loss}_k(\hat y, (y_1, \dots, y_R)), \qquad
              y_r = [c \in \mathrm{region}_r]

    for the logits :math:`\hat y` and the class c of every voxel. In nnU-Net they are Dice after a sigmoid and binary
    cross-entropy, over all channels.

    Args:
        of_classes: loss of logits ``(B, C, *S)`` and classes ``(B, 1, *S)``; used as it is if ``regions`` is None.
        of_regions: losses of logits and masks ``(B, R, *S)``, which are added.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`, or None.

    Shape:
        Logits ``(B, C, *S)``, C being R where there are regions, and classes ``(B, 1, *S)``, to a scalar.

    Raises:
        ValueError: if ``regions`` cannot be used.

    Example:
        >>> import torch
        >>> names, regions = ["background", "tumour", "core"], [[1, 2], [1]]
        >>> loss = SegmentationLoss(nn.CrossEntropyLoss(), [nn.MSELoss()], names, regions)
        >>> float(loss(torch.tensor([[[1.0, 1.0], [0.0, 1.0]]]), torch.tensor([[[1, 2]]])))
        0.0

    References:
        F. Isensee et al., "nnU-Net", Nature Methods 18, 2021, doi:10.1038/s41592-020-01008-z. Consulted:
        https://github.com/MIC-DKFZ/nnUNet (Apache-2.0), ``DC_and_BCE_loss``.
    """

    def __init__(
        self,
        of_classes: nn.Module,
        of_regions: Sequence[nn.Module],
        label_names: Sequence[str],
        regions: Regions = None,
    ) -> None:
        super().__init__()
        self.of_classes = of_classes
        self.of_regions = nn.ModuleList(of_regions)
        self.held = None if regions is None else region_classes(label_names, regions)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: of the classes, or of the regions.
            label: class indices.
        """
        if self.held is None:
            return self.of_classes(logits, label)
        masks = region_masks(label, self.held, dim=1).to(logits.dtype)
        return sum(loss(logits, masks) for loss in self.of_regions)
