"""Runs of ``monai.bundle`` that are none: the processes are replaced by what writes what the configs would."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import torch

from custom_networks.bundle_folder import read_config

CURVE = "epoch,loss,learning_rate,seconds,validation_metric\n1,2.0,0.1,3.0,\n2,1.5,0,4.5,0.25\n"


def value(command, key):
    """Return what follows an option."""
    return command[command.index(f"--{key}") + 1]


class BundleRuns:
    """Stand in for ``CHILDREN.run``: keep the commands and write what the configs would.

    Args:
        bundle: whose network the weights are of.
    """

    def __init__(self, bundle: Path) -> None:
        self.bundle = bundle
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fail_at = -1
        self.weights = True
        self.dropped: list[Path] = []

    def __call__(self, command, environment, log, kept_open):
        self.commands.append(command)
        self.environments.append(environment)
        work = Path(value(command, "output_dir"))
        if len(self.commands) - 1 == self.fail_at:
            torch.save({"trainer": {"epoch_length": 5, "max_epochs": 4, "iteration": 15}}, work / "last_checkpoint.pt")
            with log.open("a") as file:
                file.write("first\nerror: the disk is full\n\n")
            return 1
        (work / "training_curve.csv").write_text(CURVE)
        (work / "metrics.json").write_text(
            json.dumps({"mean": {"dice": 0.25}, "files": {"a": {"image": "/mine/a.nii.gz"}}})
        )
        if self.weights:
            given = value(command, "args_file") if "--args_file" in command else "[]"
            files = [*self.dropped, *(ast.literal_eval(given) if given.startswith("[") else [given])]
            network = read_config(self.bundle, "train", [Path(file) for file in files]).get_parsed_content(
                "network_def"
            )
            torch.save(network.state_dict(), work / "model.pt")
        return 0
