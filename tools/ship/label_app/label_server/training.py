"""Training of bundles on what was labelled in the viewer, which never makes the served weights worse.

The served weights are validated first, and stay unless an epoch is better on the labels held back. What a training
writes lies in the bundle's folder ``training`` until it has ended; then its weights are served, and those before are
kept as ``models/model_<time>.pt``. Two options of the request are ours: ``restore``, the name of such weights, serves
them again and trains nothing; ``resume`` goes on with a training that was interrupted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.tasks.train.bundle import BundleTrainTask

from label_server.models import SERVED, without_state
from label_server.own_code import OwnCode
from label_server.served_weights import ServedWeights
from label_server.training_folder import TrainingFolder

PROFILE = "configs/profiles/finetune.json"
SHARE = 0.2
"""Of the labels that validate, as MONAI Label has it."""

logger = logging.getLogger(__name__)


class Training(BundleTrainTask):
    """Training of a segmentation bundle.

    Args:
        path: the bundle's folder.
        conf: the server's options.
    """

    def __init__(self, path: str, conf: dict[str, str]) -> None:
        super().__init__(path, conf)
        self.name = Path(path).name
        self.served, self.folder = ServedWeights(path), TrainingFolder(path)
        self.request: dict[str, Any] = {}
        self.lists: dict[str, Any] = {}
        if said := self.folder.say_interrupted():
            logger.warning(said)

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, str]:
        """Train the bundle with its own code, or bring weights back.

        Args:
            request: the request.
            datastore: where the labelled images are.

        Returns:
            ``weights``, what became of the served weights, and ``kept_as``, the name of those that were replaced.

        Raises:
            HTTPException: 422 with one sentence for a request that cannot be met.
        """
        if self.folder.runs():
            raise HTTPException(422, f"{self.name} is being trained by another process; wait for its end")
        if name := request.get("restore"):
            return self._restore(name)
        start = request.get("model_filename") or SERVED
        if start not in (SERVED, [SERVED]):
            raise HTTPException(422, f'a training starts from {SERVED}, got {start}; send "restore" first to serve it')
        self.request, self.lists = request, {}
        if request.get("resume") and self._resume():
            return self._finish()
        try:
            with OwnCode.of(self.bundle_path):
                # what one training has laid over the config must not stay for the next
                self.bundle_config = self._load_bundle_config(self.bundle_path, self.bundle_config_path)
                super().__call__(self.request, datastore)
        except BaseException:
            self.folder.leave()
            raise
        return self._finish()

    def config(self) -> dict[str, Any]:
        """Return the options that viewers show."""
        options = without_state(super().config())
        return {**options, "resume": False, "restore": ["", *self.served.kept()]}

    def stats(self) -> dict[str, str]:
        """Return what ``/info/`` says of the trainings: whether one was interrupted."""
        said = self.folder.say_interrupted()
        return {"interrupted": said} if said else {}

    def _restore(self, name: str) -> dict[str, str]:
        if name not in self.served.kept():
            there = ", ".join(self.served.kept()) or "none yet"
            raise HTTPException(422, f"no weights {name} of {self.name} are kept; use one of: {there}")
        self.folder.remove()  # an interrupted training would compare itself with weights that are served no more
        return self._answer(f"restored, {name}", self.served.replace(self.served.folder / name))

    def _resume(self) -> bool:
        """Take the request and the cases of an interrupted training; return whether its last epoch has ended."""
        record = self.folder.interrupted()
        if record is None or not self.folder.state.exists():
            raise HTTPException(422, f'no interrupted training of {self.name} is left to go on with; omit "resume"')
        self.lists = record["lists"]
        self.request = {**record["request"], "resume": True}
        epoch, epochs = self.folder.progress()
        return epoch >= epochs

    def _finish(self) -> dict[str, str]:
        """Serve the weights of a training that has ended if they are better, and say so."""
        best = self.folder.read_state()["best_checkpoint"]
        before, after, cases = best["starting_metric"], best["best_metric"], self.lists["validation"]
        where = f" on {len(cases)} case{'s'[: len(cases) > 1]}" if cases else ""
        kept = ""
        if best["best_epoch"] == 0:
            said = f"kept, {before:.3f}{where}"
        else:
            kept = self.served.replace(self.folder.weights)
            # weights of another network have no score, nor has what is not there
            said = f"replaced, {before:.3f} to {after:.3f}{where}" if before is not None else f"new, {after:.3f}{where}"
        self.folder.remove()
        return self._answer(said, kept)

    def _answer(self, said: str, kept: str) -> dict[str, str]:
        before = f'; those before are kept, train with "restore": "{kept}" to bring them back' if kept else ""
        logger.info("weights of %s: %s%s", self.name, said, before)
        return {"weights": said, **({"kept_as": kept} if kept else {})}

    def _partition_datalist(self, datalist: Any, request: Any, shuffle: bool = False) -> tuple[Any, Any]:
        if not self.lists:
            if len(datalist) < 2:
                raise HTTPException(
                    422, f"a training needs two labels or more, got {len(datalist)}; correct another image"
                )
            training, validation = _split(datalist, request.get("val_split", SHARE))
            self.lists = {"training": training, "validation": validation}
            self.folder.clear()  # not before: what is refused leaves an interrupted training alone
        self.folder.begin(self.request, self.lists)
        return self.lists["training"], self.lists["validation"]

    def _load_checkpoint(self, model_pytorch: str, pretrained: bool, train_handlers: list[dict[str, Any]]) -> None:
        """Leave the served weights, which the config loads and validates, where a training starts from nothing."""
        if pretrained or self.request.get("resume"):
            return
        path = self.folder.path / "untrained.pt"
        torch.save(self.bundle_config.get_parsed_content("network_def").state_dict(), path)
        loader = {"_target_": "CheckpointLoader", "load_path": str(path), "load_dict": {"model": "$@network"}}
        train_handlers.append(loader)

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        overrides["ckpt_dir"] = str(self.folder.path)
        overrides["epochs"] = overrides[self.const.key_train_trainer_max_epochs()]
        if self.served.file.exists():
            overrides["finetune_ckpt"] = str(self.served.file)
        if self.request.get("pretrained", True):
            overrides["learning_rate"] = json.loads((Path(self.bundle_path) / PROFILE).read_text())["learning_rate"]
        if self.request.get("resume"):
            overrides["resume_ckpt"] = str(self.folder.state)
        return overrides

    def _run_command(self, cmd: Sequence[str], env: Mapping[str, str]) -> None:
        subprocess.run(cmd, env=env, check=True)


def _split(cases: Sequence[dict[str, str]], share: float) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the cases to train on and those held back, at least one each.

    The name of its image decides on which side a case is, so that it stays there when labels are added: held back later
    than trained on, it would have the served weights scored on what they know.
    """

    def place(case: dict[str, str]) -> float:
        digest = hashlib.sha256(Path(case["image"]).name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8]) / 2**64

    ordered = sorted(cases, key=place)
    number = min(max(1, sum(place(case) < share for case in ordered)), len(ordered) - 1)
    return ordered[number:], ordered[:number]
