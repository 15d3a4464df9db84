"""A network whose output means nothing is noticed before a mask is made of it."""

from __future__ import annotations

import torch
from monai.data import MetaTensor
from torch import Tensor


def refuse_non_finite(logits: Tensor, inputs: Tensor, amp: bool) -> Tensor:
    """Return logits unchanged if every one of them is finite; of NaN and infinity the largest is an arbitrary class.

    Args:
        logits: what a network made of the inputs, or of a part of them.
        inputs: the images, whose file is named where it is known.
        amp: whether the network ran in mixed precision.

    Raises:
        ValueError: if a logit is NaN or infinite.

    Example:
        >>> refuse_non_finite(torch.zeros(1, 2, 3), torch.zeros(1, 1, 3), amp=False).shape
        torch.Size([1, 2, 3])
    """
    if bool(torch.isfinite(logits).all()):
        return logits
    file = inputs.meta.get("filename_or_obj") if isinstance(inputs, MetaTensor) else None
    names = [file] if isinstance(file, str) else list(file or [])
    of = f" for {', '.join(map(str, names))}" if names else ""
    advice = ("set amp to false, or " * amp) + "load another checkpoint"
    raise ValueError(f"the network's output{of} is not finite, it holds NaN or infinity; {advice}")
