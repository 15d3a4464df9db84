"""The loss of classes, or of regions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from custom_networks.workflow.transforms.class_labels import IGNORED
from custom_networks.workflow.transforms.regions import Regions, region_classes, region_masks


class SegmentationLoss(nn.Module):
    r"""Apply a loss of classes, or, where there are regions, losses of their overlapping masks.

    With the masks :math:`y_r` of the regions, R of them, without the background,

    .. math:: \mathrm{loss}(\hat y, c) = \sum_k \mathrm{loss}_k(\hat y, (y_1, \dots, y_R)), \qquad
              y_r = [c \in \mathrm{region}_r]

    for the logits :math:`\hat y` and the class c of every voxel. In nnU-Net they are Dice after a sigmoid and binary
    cross-entropy, over all channels.

    With an ``ignore_value`` the voxels without a label, whose class is ``IGNORED``, have no part in it: the losses get
    those that are left, of the whole batch, as one row of voxels. So Dice must be one over the batch, and is what it
    would be if these voxels did not exist; their logits get gradients of zero. Where none is left, the loss is 0.

    Differs from nnU-Net: with an ignored label, too, binary cross-entropy is the mean over voxels and regions; there it
    is the sum over the regions then.

    Args:
        of_classes: loss of logits ``(B, C, *S)`` and classes ``(B, 1, *S)``; used as it is if ``regions`` is None.
        of_regions: losses of logits and masks ``(B, R, *S)``, which are added.
        label_names: names, background first.
        regions: see :func:`custom_networks.workflow.transforms.regions.region_values`, or None.
        ignore_value: value of voxels without a label in the files, or None where there are none.

    Shape:
        Logits ``(B, C, *S)``, C being R where there are regions, and classes ``(B, 1, *S)``, to a scalar. With an
        ``ignore_value`` the losses get ``(1, C, N)`` and ``(1, 1, N)``, N being the number of labelled voxels.

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
        ignore_value: int | None = None,
    ) -> None:
        super().__init__()
        self.of_classes = of_classes
        self.of_regions = nn.ModuleList(of_regions)
        self.held = None if regions is None else region_classes(label_names, regions)
        self.ignores = ignore_value is not None

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss.

        Args:
            logits: of the classes, or of the regions.
            label: class indices.
        """
        if self.ignores:
            labelled = label[:, 0] != IGNORED
            logits, label = (volume.movedim(1, -1)[labelled].T[None] for volume in (logits, label))
            if label.numel() == 0:
                return logits.sum()  # 0, with a gradient
        if self.held is None:
            return self.of_classes(logits, label)
        masks = region_masks(label, self.held, dim=1).to(logits.dtype)
        return sum(loss(logits, masks) for loss in self.of_regions)
