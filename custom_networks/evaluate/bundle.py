"""A bundle on a labelled data set: its masks of all images, and how they compare with the labels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import read_config
from custom_networks.evaluate.classes import KNOBS, Classes, of_index, of_knobs
from custom_networks.evaluate.commands import Choice
from custom_networks.evaluate.labelled_cases import choose, find_labelled
from custom_networks.evaluate.measure import check_grids, check_label, measure, values_in
from custom_networks.evaluate.predictions import Pair, Prediction
from custom_networks.evaluate.table import print_table
from custom_networks.files import read_json
from custom_networks.predict.commands import CROP, Options
from custom_networks.predict.members import Member, find_members
from custom_networks.predict.quick_import import import_monai
from custom_networks.predict.run import Run, only_warnings, segment
from custom_networks.predict.shards import Shard
from custom_networks.workflow.data.cases import Case
from custom_networks.workflow.data.inference_list import RESULT, RESULT_SUFFIX
from custom_networks.workflow.data.label_checks import grid_problems
from custom_networks.workflow.data.training_cases import find_seen_cases
from custom_networks.workflow.data.volumes import read_grid
from custom_networks.workflow.guard.interrupts import sigterm_as_ctrl_c
from custom_networks.workflow.guard.knobs import wrong_knob
from custom_networks.workflow.report.segmentation_report import default_tolerance

logger = logging.getLogger(__name__)
GLOBS = ("image_glob", "label_glob")
FOLDER = "predictions"
"""Where the masks are, in the folder of the results."""


def evaluate_bundle(
    data: Path,
    bundle: Path,
    profiles: Sequence[Path],
    weights: Sequence[str],
    choice: Choice,
    tolerance: float | None,
    out: Path,
) -> None:
    """Segment the images of a labelled data set, compare the masks with the labels, write and print what came out.

    What does not fit together is refused before the first image is segmented. A mask that is there already is made
    again only if the image, the network or its configuration has changed.

    Args:
        data: folder of the data set.
        bundle: the bundle's folder.
        profiles: override files, the later wins.
        weights: checkpoints in place of the bundle's own.
        choice: which cases.
        tolerance: that of the normalised surface Dice in mm; ``None`` for that of the bundle.
        out: folder for the results.

    Raises:
        FileNotFoundError: if there are no weights, or no cases.
        ValueError: if classes or grids do not fit together, or an image could not be segmented.
    """
    import_monai()
    members = find_members([bundle], [profiles], weights)
    train = read_config(bundle, "train", profiles)
    names = (*KNOBS, *GLOBS, "spacing", "surface_tolerance")
    knobs: dict[str, Any] = {name: train.get_parsed_content(name) for name in names}
    source = " with ".join([bundle.name, *(path.name for path in profiles)])
    if wrong := wrong_knob(knobs):
        raise ValueError(f"{source}: {wrong}")
    classes = of_knobs(knobs, source)
    cases = choose(find_labelled(data, *(knobs[glob] for glob in GLOBS)), choice, data)
    _check(cases, classes, data, profiles)
    for member in members:
        _warn_of_seen(member, cases)
    result = out / FOLDER
    entries = [_entry(case) for case in cases]
    with only_warnings(), sigterm_as_ctrl_c():
        segment(Run(members, _options(result)), entries)
    pairs = [Pair(case, Prediction(result / entry["mask"])) for case, entry in zip(cases, entries, strict=True)]
    check_grids(pairs)
    distance = tolerance or knobs["surface_tolerance"] or default_tolerance(knobs["spacing"])
    report = measure(pairs, classes, distance, out)
    print_table(report.rows, classes.label_names, report.tolerance, out)


def _check(cases: Sequence[Case], classes: Classes, data: Path, profiles: Sequence[Path]) -> None:
    """Refuse labels without images, of other classes, or on other grids than their images."""
    if not cases[0].images:
        raise ValueError(
            f"{data} holds label maps and no images; give the folder of the data set, or two folders without --bundle"
        )
    mapped = any(read_json(path).get(knob) is not None for path in profiles for knob in ("label_values", "regions"))
    index = None if mapped else of_index(data, beside=False)
    if index is not None:
        _compare_classes(classes, index)
    for case in cases:
        if problems := grid_problems(read_grid(case.label), read_grid(case.images), case.images[0]):
            raise ValueError(f"{case.label} {problems[0]}")
        check_label(case.label, values_in(case.label), classes)


def _compare_classes(of_bundle: Classes, of_data: Classes) -> None:
    """Refuse a label value that is one class for the bundle and another for the data set."""
    called = {value: name for name, own in _named(of_data).items() for value in own}
    for name, own in _named(of_bundle).items():
        for value in own:
            other = called.get(value, name)
            if other.lower() != name.lower():
                raise ValueError(
                    f"the label value {value} is {name} for {of_bundle.source} but {other} in {of_data.source}; give a "
                    "--profile whose label_values or regions say which values of these labels are the bundle's classes"
                )


def _named(classes: Classes) -> dict[str, list[int]]:
    return dict(zip(classes.label_names[1:], classes.values[1:], strict=True))


def _warn_of_seen(member: Member, cases: Sequence[Case]) -> None:
    """Say it where the weights were trained on cases that are called as some of these."""
    seen = find_seen_cases(member.weights(), member.bundle / "configs" / "folds.json")
    if both := sorted((seen.names or frozenset()) & {case.name for case in cases}):
        logger.warning(
            "%d of the %d cases, such as %s, are called as some of %s: the figures of those that were trained on say "
            "nothing of new cases; leave them out with --cases or --folds_file",
            len(both),
            len(cases),
            both[0],
            seen.what,
        )


def _entry(case: Case) -> Mapping[str, Any]:
    """Return a case as ``predict`` takes it."""
    images = [str(path) for path in case.images]
    image = images[0] if len(images) == 1 else images
    return {"image": image, "case": case.name, "mask": f"{case.name}{RESULT}{RESULT_SUFFIX}"}


def _options(result: Path) -> Options:
    return Options(
        result=result,
        series=None,
        output_format="nifti",
        probabilities=False,
        tta=False,
        device=None,
        engine=None,
        memory=None,
        way=CROP,
        start_points=None,
        jobs=1,
        shard=Shard(),
        overwrite=False,
        strict=False,
        report=False,
        show_names=False,
        json=False,
    )
