"""Reading and writing weights and the resumable state of a training."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor, nn

from custom_networks.failures import on_one_line
from custom_networks.workflow.guard.interrupts import PROGRESS
from custom_networks.workflow.infer.engines.engine_network import EngineNetwork
from custom_networks.workflow.train.checkpoint_files import keep_aside, read_checkpoint, save_atomically, weights_in
from custom_networks.workflow.train.gradients import takes_step
from custom_networks.workflow.train.openmind import is_pretrained, pretrained_state
from custom_networks.workflow.train.stop import GoOnInEpoch, middle_of_epoch, step_in_epoch

logger = logging.getLogger(__name__)
MIDDLE = "middle_of_epoch"
"""The entry of a training that was stopped after a step."""
ENDED = "ended"
"""The entry of a training that ``early_stop`` has ended before its last epoch; whoever resumes it trains on."""
SCALER = "scaler"
"""The entry of the loss scaling, in the checkpoints of trainings in float16."""
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def bare(network: nn.Module) -> nn.Module:
    """Return the network without the wrapper of distributed training or of an engine.

    Args:
        network: a network, or a ``DistributedDataParallel`` or an ``EngineNetwork`` around it.
    """
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel | EngineNetwork) else network


def _with_channels(network: nn.Module, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the convolutions that read the image, spread over the channels that the network has.

    The first convolution says how many channels the checkpoint and the network have; others with the same two numbers
    read the image, too (a local branch, a skip).
    """
    changes = {}
    for name, module in network.named_modules():
        key = f"{name}.weight".lstrip(".")
        old, new = state.get(key), getattr(module, "weight", None)
        if isinstance(module, TRANSPOSED) or getattr(module, "groups", 1) != 1 or not isinstance(old, Tensor):
            continue
        if isinstance(new, Tensor) and old.ndim == new.ndim > 2:
            changes[key] = (old, new.shape, (old.shape[1], new.shape[1]))
    first = next(iter(changes.values()))[2] if changes else (1, 1)
    return {
        key: weight.mean(dim=1, keepdim=True).expand(shape) * (first[0] / first[1])
        for key, (weight, shape, channels) in changes.items()
        if first[0] != first[1] and channels == first and weight[:, 0].shape == (shape[0], *shape[2:])
    }


def _layers(tensors: Sequence[str], current: Iterable[str]) -> str:
    """Return names of tensors, where all of a layer are among them the layer's name."""
    names = []
    for key in tensors:
        layer = key.rpartition(".")[0]
        whole = layer and all(other in tensors for other in current if other.startswith(f"{layer}."))
        names.append(layer if whole else key)
    return ", ".join(dict.fromkeys(names))


def load_weights(network: nn.Module, path: str | Path, *, strict: bool = True) -> bool:
    """Load a state dict, the "model" entry of a resumable checkpoint, or pre-trained weights of nnssl into a network.

    Fine-tuning (``strict=False``) loads what fits by name and shape and logs in one line which layers it does not.
    Where images have another number of channels, each channel of the first convolution gets the mean of the old ones
    times old / new number: ``w'[:, j] = (C / C') * mean_i w[:, i]``, so that equal channels give the response they gave
    before (where a convolution standardises its weights, a multiple of it, which the norm behind divides out).

    Args:
        network: the network, wrapped for distributed training or not.
        path: the checkpoint.
        strict: refuse any difference.

    Returns:
        Whether every tensor of the network comes from the file, so that nothing in it starts anew.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the checkpoint belongs to another network (with ``strict``: if anything differs).
    """
    network = bare(network)
    checkpoint = read_checkpoint(path)
    state = pretrained_state(checkpoint, network, path) if is_pretrained(checkpoint) else weights_in(checkpoint, path)
    current = network.state_dict()
    known = {key: value for key, value in state.items() if not key.startswith("auxiliary_heads.") or key in current}
    fitting = {k: v for k, v in known.items() if k in current and getattr(v, "shape", None) == current[k].shape}
    misfits = sorted(set(known) - set(fitting)) + sorted(set(current) - set(known))
    if not fitting or (strict and misfits):
        raise ValueError(
            f"checkpoint {path} does not fit {type(network).__name__}: {len(misfits)} of {len(current)} tensors differ "
            f"in name or shape, the first is {(misfits or ['none'])[0]!r}; use the checkpoint of this network and the "
            "profile it was trained with"
        )
    spread = {} if strict else _with_channels(network, known)
    network.load_state_dict({**fitting, **spread}, strict=False)
    fresh = [key for key in current if key not in fitting and key not in spread]
    unused = sorted(set(known) - set(current))
    notes = {
        "averaged over the old channels and spread over the new ones": ", ".join(
            key.rpartition(".")[0] for key in spread
        ),
        "re-initialised": _layers(fresh, current),
        "not used": _layers(unused, known),
    }
    if misfits:
        told = "; ".join(f"{what}: {names}" for what, names in notes.items() if names)
        logger.warning("%s: %d of %d tensors loaded; %s", path, len(fitting) + len(spread), len(current), told)
    return not fresh


class WrittenBeside(Protocol):
    """What is written beside weights whenever they are."""

    def write(self, weights: Path) -> None:
        """Write it beside weights that the training has made.

        Args:
            weights: their file.
        """

    def write_of_start(self, weights: Path, start: Path) -> None:
        """Write what holds of the weights that the training started from, none of whose cases they have seen.

        Args:
            weights: their file.
            start: the file that they were taken from.
        """


class BestCheckpoint:
    """Write the network's weights whenever the validation metric is the best so far.

    Unlike a saver that forgets its score, this one is part of the resumable state, so that a resumed training does not
    overwrite better weights. Beside the weights lies what says of them which cases they have seen, and what these are
    like, for evaluations and predictions.

    Weights that a training starts from are the first candidate, validated as epoch 0. Where they lie in ``path`` itself
    they are not written again, and the first better ones move them to ``model_<time>.pt`` beside it.

    Args:
        network: the network whose plain float32 state dict is written.
        path: the file to write, ``model.pt``.
        records: what to write beside it.
        start: the weights that the training starts from, ``None`` for random ones.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str | Path,
        records: Sequence[WrittenBeside],
        start: str | Path | None = None,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.records = records
        self.start = Path(start) if start else None
        self.starting_metric: float | None = None
        self.best_metric = -float("inf")
        self.best_epoch = 0

    def attach(self, engine: Engine) -> None:
        """Listen to an evaluator.

        Args:
            engine: a MONAI evaluator with a key metric.
        """
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare the evaluator's key metric with the best one.

        Args:
            engine: the evaluator that has just finished.
        """
        metric = float(engine.state.metrics[engine.state.key_metric_name])  # type: ignore[attr-defined]
        epoch = int(engine.state.epoch)
        if self.start and epoch == 0:
            self.starting_metric = metric
            self.best_metric = max(self.best_metric, metric)  # stays if the metric is NaN
            if idist.get_rank() == 0 and not self._starts_in_place():
                self._save()
                for record in self.records:
                    record.write_of_start(self.path, self.start)
        elif metric > self.best_metric:
            if idist.get_rank() == 0:
                if self.best_epoch == 0 and self._starts_in_place():
                    logger.info("the weights before are %s now", keep_aside(self.path))
                self._save()
                for record in self.records:
                    record.write(self.path)
            self.best_metric = metric
            self.best_epoch = epoch

    def _starts_in_place(self) -> bool:
        return self.start is not None and self.path.exists() and self.start.samefile(self.path)

    def _save(self) -> None:
        state = bare(self.network).state_dict()
        save_atomically({key: value.detach().cpu() for key, value in state.items()}, self.path)

    def state_dict(self) -> dict[str, float | int | None]:
        """Return the best metric, its epoch, and the metric of the weights at the start, if they have one."""
        return {
            "best_metric": self.best_metric,
            "best_epoch": self.best_epoch,
            "starting_metric": self.starting_metric,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what was the best.

        Args:
            state: result of :meth:`state_dict`.
        """
        self.best_metric = float(state["best_metric"])
        self.best_epoch = int(state["best_epoch"])
        self.starting_metric = state.get("starting_metric")  # which states of before it do not have


def _restore(value: Any, state: Any, subject: str) -> None:
    """Load a state, or say in one sentence that it does not fit."""
    try:
        value.load_state_dict(state)
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(
            f"{subject} does not fit ({on_one_line(error)}); give the last_checkpoint.pt of this very training, with "
            "the knobs and profiles that it was started with"
        ) from error


def _restore_scaler(trainer: Any, state: Any) -> None:
    """Load the state of the loss scaling, which the trainer makes anew when it starts, if it scales here."""
    if trainer.scaler is not None:
        trainer.scaler.load_state_dict(state)


def _note_step(trainer: Engine) -> None:
    """Remember the step, for the line with which an interrupted training says where it was."""
    state = trainer.state
    PROGRESS.step = f"step {step_in_epoch(trainer)} of {state.epoch_length} of epoch {state.epoch}"


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def has_ended(path: str | Path) -> bool:
    """Return whether a resumable state is that of the end of its training, so that nothing is left to train.

    Args:
        path: a ``last_checkpoint.pt``.

    Raises:
        ValueError: if it cannot be read.
    """
    checkpoint = read_checkpoint(path)
    trainer = checkpoint.get("trainer", {})
    planned = trainer.get("epoch_length", 0) * trainer.get("max_epochs", 0)
    return ENDED in checkpoint or 0 < planned <= trainer.get("iteration", 0)


class ResumableCheckpoint:
    """Write all that a training needs to go on, after every epoch, and read it back.

    The file always holds a whole state: it is replaced in one step, so a kill at any moment loses at most one epoch.

    Args:
        path: the file to write, ``last_checkpoint.pt``.
        objects: name to object with ``state_dict`` and ``load_state_dict``; must hold "model" and "trainer".
        resume_ckpt: file to go on from, or ``None`` to start anew.
    """

    def __init__(self, path: str | Path, objects: Mapping[str, Any], resume_ckpt: str | Path | None = None) -> None:
        self.path = Path(path)
        self.objects = {key: bare(value) if isinstance(value, nn.Module) else value for key, value in objects.items()}
        self.resume_ckpt = resume_ckpt

    def attach(self, trainer: Engine) -> None:
        """Restore the state if asked to, then save at the end of every epoch.

        Must be the last handler, so that the learning rate, the validation and the best metric are up to date.

        Args:
            trainer: the MONAI trainer.

        Raises:
            FileNotFoundError: if ``resume_ckpt`` does not exist.
            ValueError: if it is not a resumable checkpoint of this training, or nothing is left to train.
        """
        if self.resume_ckpt:
            self._resume(trainer, self.resume_ckpt)
            PROGRESS.save(Path(self.resume_ckpt), trainer.state.epoch)
        trainer.add_event_handler(Events.ITERATION_STARTED, _note_step)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._stop_if_asked)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def _stop_if_asked(self, trainer: Engine) -> None:
        """Save and end after a step, if somebody has asked for it; the last of an epoch has its validation first."""
        if PROGRESS.asked is not None and takes_step(trainer) and step_in_epoch(trainer) != trainer.state.epoch_length:
            self._save(trainer, {MIDDLE: middle_of_epoch(trainer)})
            PROGRESS.save_step(self.path)
            raise PROGRESS.asked

    def _resume(self, trainer: Engine, path: str | Path) -> None:
        checkpoint = read_checkpoint(path)
        missing = sorted(set(self.objects) - set(checkpoint))
        if missing:
            raise ValueError(
                f"{path} cannot be resumed from, it lacks {', '.join(missing)}; give the last_checkpoint.pt of a "
                "training as resume_ckpt, or give weights as finetune_ckpt"
            )
        load_weights(self.objects["model"], path)
        if SCALER in checkpoint:
            trainer.add_event_handler(Events.STARTED, _restore_scaler, checkpoint[SCALER])
        epochs = trainer.state.max_epochs
        horizon = self._horizon()
        for key, value in self.objects.items():
            if key != "model":
                _restore(value, checkpoint[key], f"{path} cannot be resumed from, its {key}")
        if epochs is not None and trainer.state.epoch >= epochs:
            raise ValueError(
                f"{path} has finished epoch {trainer.state.epoch} of {epochs} and its schedule with it; to train on, "
                "start anew with its weights as finetune_ckpt"
            )
        if self._horizon() != horizon:
            logger.warning(
                "%s planned its learning rate over %s iterations, not %s, and keeps that plan, after whose end nothing "
                "is learned; to train longer, start anew with the weights as finetune_ckpt",
                path,
                self._horizon(),
                horizon,
            )
        trainer.state.max_epochs = epochs
        middle = checkpoint.get(MIDDLE)
        if middle is not None:
            GoOnInEpoch(middle).attach(trainer)
        where = (
            f"step {middle['steps']} of epoch {trainer.state.epoch + 1}" if middle else f"epoch {trainer.state.epoch}"
        )
        logger.info("resumed from %s after %s of %s", path, where, epochs)

    def _horizon(self) -> int | None:
        """Return the number of iterations over which the learning rate is planned, where the schedule has one."""
        return getattr(self.objects.get("lr_scheduler"), "total_iters", None)

    def __call__(self, trainer: Engine) -> None:
        """Write the state.

        Args:
            trainer: the trainer whose epoch has just ended.
        """
        if idist.get_rank() > 0:
            PROGRESS.save(self.path, trainer.state.epoch)
        else:
            before = _identity(self.path)
            try:
                self._save(trainer, {ENDED: True} if trainer.should_terminate else {})
            finally:  # Ctrl-C may come while the file is moved to its place
                if _identity(self.path) != before:
                    PROGRESS.save(self.path, trainer.state.epoch)
        if PROGRESS.asked is not None:
            raise PROGRESS.asked

    def _save(self, trainer: Any, more: Mapping[str, Any]) -> None:
        """Write the state of all objects, and more."""
        state = {key: value.state_dict() for key, value in self.objects.items()}
        if getattr(trainer, "scaler", None) is not None:
            state[SCALER] = trainer.scaler.state_dict()
        save_atomically({**state, **more}, self.path)
