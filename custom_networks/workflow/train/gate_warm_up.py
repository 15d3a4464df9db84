"""Training a network whose gates stand still at first."""

from __future__ import annotations

import logging

from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import nn

logger = logging.getLogger(__name__)


class GateWarmUp:
    r"""Keep the gates of a network at their values for the first epochs, then train them with everything else.

    In epoch e, the first being 1, with N ``epochs`` of warm-up, the gates g take part in the optimiser's step

    .. math:: g \leftarrow g - [e > N]\,\Delta g

    and with ``weight_decay`` in no other way either: after every backward pass of a frozen epoch their gradients are
    dropped, and an optimiser leaves alone what has none. The epoch alone decides, so a resumed training equals an
    uninterrupted one, and the processes of a distributed training agree: no parameter changes what it asks for.

    Args:
        network: the network, wrapped for distributed training or not. One without gates trains as without this.
        epochs: N, at least 0.
        name: the last part of the name of the parameters that are gates.

    Raises:
        ValueError: if ``epochs`` is negative.

    Example:
        >>> network = nn.Module()
        >>> network.gates = nn.Parameter(torch.ones(4))
        >>> [len(GateWarmUp(network, 3, name).gates) for name in ("gates", "weight")]
        [1, 0]

    References:
        J. M. J. Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", MICCAI
        2021, arXiv:2102.10662, whose code (https://github.com/jeya-maria-jose/Medical-Transformer) frees its gates in
        epoch 10 of 400.
    """

    def __init__(self, network: nn.Module, epochs: int, name: str = "gates") -> None:
        if epochs < 0:
            raise ValueError(
                f"epochs of the gates' warm-up must be at least 0, got {epochs}; use 0 to train them at once"
            )
        self.gates = {key: p for key, p in network.named_parameters() if key.rpartition(".")[2] == name}
        self.epochs = epochs

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer.

        Args:
            engine: a MONAI trainer.
        """
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._log)

    def __call__(self, engine: Engine) -> None:
        """Drop the gradients of the gates in a frozen epoch.

        Args:
            engine: the trainer, between its backward pass and the optimiser's step.
        """
        if engine.state.epoch <= self.epochs:
            for gates in self.gates.values():
                gates.grad = None

    def _log(self, engine: Engine) -> None:
        """Say what has become of the gates."""
        for name, gates in self.gates.items():
            values = " ".join(f"{value:.3f}" for value in gates.detach().flatten().tolist())
            logger.info("%s after epoch %d: %s", name, engine.state.epoch, values)
