"""The mean of several networks, as one inferer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from torch import Tensor, nn

TINY = torch.finfo(torch.float32).tiny


class EnsembleInferer(Inferer):
    r"""Logits of the mean of the members' probabilities, on the network's grid.

    With the logits :math:`z_m` of member m, :math:`p = \frac1M \sum_m \mathrm{softmax}(z_m)` and the result is
    :math:`\log p`, whose softmax is p again, so that what follows an inferer need not know of the ensemble. For regions
    the sigmoid stands in the place of the softmax, and :math:`\log(p / (1 - p))` of the logarithm.

    Args:
        members: what gives the inferer and the network of each member, called for every image and let go of after it,
            so that members can be loaded one after another.
        regions: whether the network's outputs are regions that overlap.

    Cost:
        the members one after another, and one volume of probabilities beside the logits of one member.

    Example:
        >>> identity = (lambda inputs, network: network(inputs), nn.Identity())
        >>> inferer = EnsembleInferer([lambda: identity, lambda: identity], regions=False)
        >>> inferer(torch.zeros(1, 2, 1, 1, 1), None).softmax(1).flatten().tolist()
        [0.5, 0.5]
    """

    def __init__(self, members: Sequence[Callable[[], tuple[Callable[..., Any], nn.Module]]], regions: bool) -> None:
        super().__init__()
        self.members, self.regions = list(members), regions

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits ``(B, K, *spatial)`` in float32.

        Args:
            inputs: ``(B, C, *spatial)``.
            network: not used, every member has its own.
            *args: passed to the inferers.
            **kwargs: passed to the inferers.
        """
        total: Tensor | None = None
        for load in self.members:
            inferer, own = load()
            logits = torch.as_tensor(inferer(inputs, own.eval(), *args, **kwargs)).as_subclass(Tensor).float()
            del inferer, own
            probabilities = logits.sigmoid() if self.regions else logits.softmax(1)
            total = probabilities if total is None else total.add_(probabilities)
        if total is None:
            raise ValueError("an ensemble needs at least one network; give one")
        mean = total.div_(len(self.members)).clamp_(TINY, 1)
        # 1 itself has no logit; the largest number below it has
        result = torch.logit(mean, eps=torch.finfo(torch.float32).eps / 2) if self.regions else mean.log_()
        return MetaTensor(result).copy_meta_from(inputs, copy_attr=False) if isinstance(inputs, MetaTensor) else result
