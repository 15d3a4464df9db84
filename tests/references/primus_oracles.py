"""Comparing with the stored outputs of the released Primus, of whose gradients the large ones were left out."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

TOLERANCE = 1e-5
# A bias before a norm has a gradient of zero, and so has nearly a pointwise convolution of one channel; what is stored
# is rounding, which scales with the other gradients.
CANCELLING = re.compile(r"(conv[12]\.conv\.bias|stem\.blocks\.0\.skip\.0\.conv\.weight)$")


def once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out what the released code holds twice or does not use."""
    return {key: value for key, value in state.items() if ".all_modules." not in key and key != "mask_token"}


def compare_with_primus_oracle(
    module: nn.Module, oracle: dict, forward: Callable[..., Tensor] | None = None, prefix: str = ""
) -> None:
    """Compare outputs and gradients in both modes.

    Ours run in float32 as the original did: in float64 the sign of what a ReLU gets changes for a few voxels, and with
    it their gradients.

    Args:
        module: our module, built for the oracle.
        oracle: what ``torch.load`` returned.
        forward: what to call with the stored inputs; the module itself if ``None``.
        prefix: of the names in ours of which the gradients' names are the rest.
    """
    for mode in ("eval", "train"):
        if f"grad_input_{mode}" not in oracle or (mode == "train" and "grad_params_train" in oracle):
            continue  # patches dropped in training
        module.train(mode == "train").zero_grad()
        inputs = [x.clone() for x in oracle["inputs"]]
        inputs[0].requires_grad_()
        output = (forward or module)(*inputs)
        (want,) = oracle[f"output_{mode}"]
        torch.testing.assert_close(output, want, rtol=TOLERANCE, atol=TOLERANCE)
        (output * oracle["cotangent"][0]).sum().backward()
        _close_gradient(inputs[0].grad, oracle[f"grad_input_{mode}"][0], "the input")
        if mode == "eval":
            _compare_parameters(module, oracle["grad_params_eval"], prefix)


def _compare_parameters(module: nn.Module, gradients: dict[str, Tensor], prefix: str) -> None:
    parameters = dict(module.named_parameters())
    stored = once(gradients)
    largest = max(want.abs().max().item() for want in stored.values())
    assert len(stored) > len(parameters) / 4
    for name, want in stored.items():
        ours = prefix + name.replace("register_tokens", "eva.registers")
        _close_gradient(parameters[ours].grad, want, name, largest if CANCELLING.search(name) else None)


def _close_gradient(got: Tensor | None, want: Tensor, what: str, scale: float | None = None) -> None:
    assert got is not None, f"{what} gets no gradient"
    scale = want.abs().max().item() if scale is None else scale
    torch.testing.assert_close(
        got, want.float(), rtol=0, atol=TOLERANCE * scale, msg=lambda m: f"gradient of {what}\n{m}"
    )
