"""The command ``cross_validate``: what was given is looked at before torch is imported, which takes seconds."""

from __future__ import annotations

from pathlib import Path

from custom_networks.bundle_folder import find_bundle, profile_files


def cross_validate(
    profile: str,
    *,
    out: str,
    bundle: str | None = None,
    folds: str | None = None,
    jobs: str = "1",
    devices: str | None = None,
    seed: str | None = None,
) -> None:
    """Train a bundle on every fold of a data set, and measure it on the cases that each fold has held back.

    Every fold is a training and an evaluation of its own in ``OUT/fold0``, ``OUT/fold1`` and so on, with the weights of
    the last epoch, so that the cases held back choose none. Called again, the command goes on where it was interrupted,
    in whatever way. A fold that fails ends no other; the exit code is 1 then, and there is no table.

    Writes ``OUT/cross_validation.csv`` with a row per fold, case and class, ``OUT/summary.json`` with averages,
    intervals, spread over the folds and what they mean, and ``OUT/ensemble.json``, the profile with which the networks
    of all folds segment together: with ``largest_component`` where that was better on these cases.

    Args:
        profile: the profile of the data set, a JSON file as ``adapt`` writes it, or the name of one of the bundle's;
            its ``folds_file``, or the data set, says what the folds are.
        out: folder for folds and results.
        bundle: name, folder, zip or address of the bundle; in a packed bundle, this one if None.
        folds: numbers of the folds to run, such as 0,1; all if None.
        jobs: folds that are trained side by side, which share the processors.
        devices: devices of folds that are trained side by side, in place of jobs, such as cuda:0,cuda:1.
        seed: of the trainings; that of the profile if None.

    Raises:
        FileNotFoundError: if the profile, the bundle or the data set does not exist.
        ValueError: if an argument does not fit, or a fold failed.

    Example:
        ``custom_networks cross_validate mine.json --bundle hippocampus_mr_attention_unet_segmentation --out folds``
    """
    if not out.strip() or (Path(out).exists() and not Path(out).is_dir()):
        raise ValueError(f"--out must be a folder, got {out!r}; give another one")
    for name, number in (("jobs", jobs), ("seed", seed)):
        if number is not None and not number.isdecimal():
            raise ValueError(f"--{name} must be a number, got {number}; write for example --{name} 2")
    from custom_networks.studies.side_by_side import seats

    places = seats(int(jobs), devices)
    folder = find_bundle(bundle)
    files = profile_files(folder, [profile])
    if len(files) != 1:
        raise ValueError(f"cross_validate takes one profile, got {profile}; put them together in one file")
    from custom_networks.studies.cross_validation import CrossValidation

    study = CrossValidation(folder, files[0], Path(out), None if seed is None else int(seed))
    study.run(study.plan.choose(folds), places)
