"""A network that takes any size, inside another one that wants sizes of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class Padded(nn.Module):
    """Pad the input with zeros to what divides it, run a network, and cut its output back.

    Half of what an axis lacks is put before it, the rest behind it.

    Args:
        network: takes and gives ``(B, C, *spatial)``, with sizes that ``divisor`` divides.
        divisor: one integer per axis.

    Shape:
        ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``, any size.

    Example:
        >>> import torch
        >>> Padded(nn.Identity(), (4, 4, 4))(torch.ones(1, 1, 5, 8, 3)).shape
        torch.Size([1, 1, 5, 8, 3])
    """

    def __init__(self, network: nn.Module, divisor: Sequence[int]) -> None:
        super().__init__()
        self.network, self.divisor = network, tuple(divisor)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the network on the grid of the input.

        Args:
            x: ``(B, C, *spatial)``.
        """
        lacking = [-size % part for size, part in zip(x.shape[2:], self.divisor, strict=True)]
        around = [side for lack in reversed(lacking) for side in (lack // 2, lack - lack // 2)]
        logits: Tensor = self.network(F.pad(x, around))
        # from the last axis back: deep supervision has one axis more before them
        for axis, (lack, size) in enumerate(zip(reversed(lacking), reversed(x.shape[2:]), strict=True), start=1):
            logits = logits.narrow(-axis, lack // 2, size)
        return logits
