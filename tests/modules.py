"""What the tests of modules share: a random state, and a call on tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def randomised(module: nn.Module, std: float = 0.5) -> nn.Module:
    """Return the module in float64 and eval, its whole state drawn at random, zero-initialised parameters included."""
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5) if "running_var" in name else nn.init.normal_(tensor, std=std)
    return module.double().eval()


def on_tokens(module: nn.Module, dims: int, grid: tuple[int, int] = (6, 5)) -> Callable[[Tensor], Tensor]:
    """Return a function from the tokens ``(B, N, C)`` of a 2D grid (in 3D one slice of it) to those of the output."""

    def forward(tokens: Tensor) -> Tensor:
        return module(tokens.transpose(1, 2).unflatten(2, (1, *grid)[-dims:])).flatten(2).transpose(1, 2)

    return forward


def assert_permutes_voxels(module: nn.Module, channels: int) -> None:
    """Check that permuting the voxels of the input permutes those of the output."""
    x = torch.randn(2, channels, 3, 4, 5, dtype=torch.float64)
    order = torch.randperm(60)
    got = module(x.flatten(2)[:, :, order].reshape(x.shape)).flatten(2)
    torch.testing.assert_close(got, module(x).flatten(2)[:, :, order])


def largest_saved(module: nn.Module, x: Tensor) -> int:
    """Return the number of values of the largest tensor that a training step keeps for its backward pass."""
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        module.train()(x)
    return max(sizes)
