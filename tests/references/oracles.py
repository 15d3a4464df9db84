"""Comparing a module with the stored outputs and gradients of its original implementation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
# In training a bias before batch norm has a gradient of zero, of which the stored float32 sums are 5e-5 off.
TRAIN_GRADIENT_TOLERANCE = 1e-4


def lift(tensor: Tensor) -> Tensor:
    """Give a 2D input (B, C, H, W) or kernel (O, I, H, W) a first spatial axis of length one."""
    return tensor.unsqueeze(2) if tensor.dim() == 4 else tensor


def compare_with_oracle(
    module: nn.Module,
    oracle: dict,
    names: Callable[[dict], dict] = dict,
    *,
    forward: Callable[..., Tensor | tuple[Tensor, ...]] | None = None,
    lifted: bool = False,
    gradient_tolerance: float = TOLERANCE,
) -> None:
    """Compare outputs, gradients and running statistics in both modes, as far as the oracle holds them.

    Ours run in float64, so that what differs is the rounding of the stored float32 values.

    Args:
        module: our module, built for the oracle.
        oracle: what ``torch.load`` returned.
        names: turns the original's state dict (and its gradients) into one with our names.
        forward: what to call; the module itself if ``None``.
        lifted: the oracle is 2D and the module 3D.
        gradient_tolerance: absolute, at least 1e-4 in training; more than the default where the stored float32
            gradients are large sums.
    """
    module.double()
    forward = forward or module

    def adapt(tensor: Tensor) -> Tensor:
        return (lift(tensor) if lifted else tensor).double()

    for mode in ("eval", "train"):
        if f"output_{mode}" not in oracle:
            continue
        module.load_state_dict({k: adapt(v) for k, v in names(oracle["state_dict"]).items()})
        module.train(mode == "train").zero_grad()
        inputs = [adapt(x).clone().requires_grad_() for x in oracle["inputs"]]
        output = forward(*inputs)
        outputs = output if isinstance(output, tuple) else (output,)
        generator = torch.Generator().manual_seed(7)
        tolerance = gradient_tolerance if mode == "eval" else max(gradient_tolerance, TRAIN_GRADIENT_TOLERANCE)
        loss = torch.zeros(())
        for got, want in zip(outputs, oracle[f"output_{mode}"], strict=True):
            _close(got, adapt(want), f"output in {mode}")
            loss = loss + (got * adapt(torch.randn(want.shape, generator=generator))).sum()
        loss.backward()
        for x, want in zip(inputs, oracle[f"grad_input_{mode}"], strict=True):
            _close(x.grad, adapt(want), f"gradient of the input in {mode}", tolerance)
        gradients = names(oracle[f"grad_params_{mode}"])
        parameters = dict(module.named_parameters())
        assert gradients.keys() == parameters.keys()
        for name, want in gradients.items():
            _close(parameters[name].grad, adapt(want), f"gradient of {name} in {mode}", tolerance)
    state = module.state_dict()
    for name, want in names(oracle.get("state_after_train", {})).items():
        _close(state[name], adapt(want), f"{name} after a training step")


def _close(got: Tensor, want: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=tolerance, msg=lambda m: f"{what}\n{m}")
