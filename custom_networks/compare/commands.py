"""The command ``compare``: what was given is looked at before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

DEFAULT_RATES = "0.0003,0.001,0.003"


def compare(
    *,
    profile: str,
    networks: str,
    out: str,
    minutes: float | None = None,
    steps: int | None = None,
    seeds: int = 3,
    folds: str = "0",
    learning_rates: str = DEFAULT_RATES,
    alone: bool = False,
    jobs: int = 1,
    devices: str | None = None,
    against: tuple[str, ...] = (),
    against_nnunet: str | None = None,
) -> None:
    """Train networks under one recipe and budget, with the same folds and seeds, and say what the difference is.

    All have the profile's data, patch, batch, augmentation and loss. Each has a learning rate of its own, the best of
    the same few, tried for a fifth of the budget on a part of the training cases. Weights are those of the last epoch,
    so that nothing is chosen by the cases that are scored. Every network of this collection brings two twins: without
    its attention (``:plain``), and without it and widened until it costs as much (``:plain_wide``). Patients, as
    ``patients.csv``, names or folders tell them, are what is drawn by chance, and so are the trainings:
    :func:`custom_networks.compare.differences.interval_of_mean` has the interval.

    OUT gets ``comparison.csv`` (network, fold, seed, case, class, metrics), ``comparison.json``, ``comparison.md``,
    ``comparison.png``, and a folder per network. A command that was interrupted or killed goes on where it stopped when
    it is called again, and takes more networks or seeds.

    Args:
        profile: a profile of ``adapt``.
        networks: with commas between them, the first is what the others are compared to: bundles by name, folder or the
            part that tells the network (``attention_unet``), ``:plain`` or ``:plain_wide`` behind it for a twin;
            ``monai:SegResNet`` for a network of MONAI; ``file.json#network_def`` for any other.
        out: folder for everything.
        minutes: wall time of each training, whose steps are measured here.
        steps: optimiser steps of each training, in place of minutes: which network learns most from the same patches.
        seeds: trainings of each network per fold, with the seeds 0, 1, ...; with one, nothing is said of differences.
        folds: numbers of the folds to hold back, with commas between them.
        learning_rates: those that are tried; a single one is taken as it is.
        alone: leave out the twins that are not named.
        jobs: trainings side by side on this machine's processors.
        devices: in place of that, a training on each of these, such as cuda:0,cuda:1.
        against: a folder of masks of the held-back cases, made elsewhere; may be given several times.
        against_nnunet: the folder of a trained nnU-Net, with ``fold_0`` and so on in it.

    Raises:
        FileNotFoundError: if a file or folder does not exist.
        ValueError: if an argument is none that can be, or a training failed.
    """
    if not Path(str(profile)).is_file():
        raise FileNotFoundError(f"there is no profile {profile}; write one with custom_networks adapt")
    if (minutes is None) == (steps is None):
        raise ValueError("give --minutes for equal time or --steps for equal steps, one of the two")
    from custom_networks.compare.request import read_request

    request = read_request(
        minutes=minutes, steps=steps, seeds=seeds, folds=folds, learning_rates=learning_rates, jobs=jobs
    )
    from custom_networks.compare.comparison import run_comparison

    run_comparison(
        Path(str(profile)),
        [name.strip() for name in str(networks).split(",")],
        Path(str(out)),
        request,
        alone=alone,
        devices=devices,
        against=[Path(str(folder)) for folder in against],
        nnunet=None if against_nnunet is None else Path(str(against_nnunet)),
    )
