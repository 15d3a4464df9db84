"""The network of an inference, run by the engine that its knob names."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from monai.utils import convert_to_dst_type
from torch import Tensor, nn

from custom_networks.checks import check_input
from custom_networks.workflow.guard.knobs import check_knobs
from custom_networks.workflow.infer.engines.choice import choose
from custom_networks.workflow.infer.engines.openvino_runner import (
    MissingPackageError,
    OpenVinoRunner,
    openvino_runner,
    require,
)

logger = logging.getLogger(__name__)


class EngineNetwork(nn.Module):
    """A network whose forward pass in eval mode on a CPU is OpenVINO's.

    The graph is made at the first call, so that weights may be loaded after the network was wrapped. In training mode,
    and on another device, PyTorch runs as ever. Attributes that are not the wrapper's are those of the network.

    Args:
        module: the network, which stays what it is.
        engine: "openvino", or "auto" for the faster of it and torch.
        amp: whether to compute in bfloat16 where the processor has it.
        weights: the file that the weights come from, beside which the graph is kept.

    Attributes:
        engine: "torch" or "openvino", what runs the network; ``None`` with "auto" before the first call.
        precision: "float32" or "bfloat16", what it computes in; ``None`` before the first call.

    Shape:
        As the network.

    Raises:
        ValueError: when called, if an input does not fit, or with "openvino" if the network cannot be converted.
    """

    def __init__(self, module: nn.Module, *, engine: str, amp: bool, weights: Path) -> None:
        super().__init__()
        self.engine = None if engine == "auto" else engine
        self.precision: str | None = None
        self.amp = amp
        self.weights = weights
        self.module = module
        self._runner: OpenVinoRunner | None = None
        self.train(module.training)

    @property
    def apart_from_torch(self) -> bool:
        """Whether torch computes nothing, whose bfloat16 alone thin grids break."""
        return self.engine == "openvino"

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits.

        Args:
            x: ``(B, C, *S)``.
        """
        if self.training or x.device.type != "cpu":
            return self.module(x)
        divisor = getattr(self.module, "size_divisor", None)
        if divisor is not None:
            check_input(x, self.module.in_channels, divisor)  # type: ignore[arg-type]
        if self.precision is None:
            self._begin(x.as_subclass(Tensor))
        if self._runner is None:
            return self.module(x)
        return convert_to_dst_type(self._runner(x.as_subclass(Tensor)), x)[0]

    def _begin(self, x: Tensor) -> None:
        """Convert the network, or take it from the cache, and with "auto" decide what runs it."""

        def converted() -> OpenVinoRunner:
            return openvino_runner(self.module, x, weights=self.weights, amp=self.amp)

        self._runner = converted() if self.engine == "openvino" else choose(self.module, converted, x, amp=self.amp)
        self.engine = "torch" if self._runner is None else "openvino"
        autocast = "bfloat16" if torch.is_autocast_enabled("cpu") else "float32"
        self.precision = autocast if self._runner is None else self._runner.precision


def build_network(
    network: nn.Module, *, engine: str, device: torch.device | str, amp: bool, ckpt_path: str | Path
) -> nn.Module:
    """Return the network as the knob ``engine`` wants it run.

    Args:
        network: the network on its device; with "torch" it is returned as it is.
        engine: "torch", "openvino", or "auto" for the faster of the two on this machine.
        device: where images are.
        amp: whether to compute in bfloat16 where the processor has it.
        ckpt_path: the weights, loaded before or after, beside which a converted network is kept.

    Raises:
        ValueError: if there is no such engine, or with "openvino" if it is not installed or the device is no CPU.

    Example:
        >>> network = build_network(nn.Identity(), engine="torch", device="cpu", amp=True, ckpt_path="model.pt")
        >>> type(network).__name__
        'Identity'
    """
    check_knobs(engine=engine)
    if engine == "torch":
        return network
    if torch.device(device).type != "cpu":
        if engine == "openvino":
            raise ValueError(
                f"engine openvino runs on the CPU, got device {device}; set device to cpu, or engine to torch"
            )
        logger.info("engine auto takes torch: OpenVINO does not run on %s", device)
        return network
    try:
        require("openvino")
    except MissingPackageError as error:
        if engine == "openvino":
            raise
        logger.info("engine auto takes torch: %s", error)
        return network
    return EngineNetwork(network, engine=engine, amp=amp, weights=Path(ckpt_path))
