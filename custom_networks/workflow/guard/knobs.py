"""What every knob of the configs must be: one table, and the guard that holds a run's knobs against it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from custom_networks.workflow.guard.sides import exchanged_sides

Test = Callable[[Any], bool]
SEEDS = 2**32
SPATIAL_DIMS = 3
ENGINES = ("torch", "openvino", "auto")


@dataclass(frozen=True)
class Rule:
    """What a knob must be.

    Args:
        expected: that in words, which follow "must be".
        advice: what to write instead.
        fits: whether a value is so.
        is_text: whether it is a text, whatever that looks like.
    """

    expected: str
    advice: str
    fits: Test
    is_text: bool = False


def _integer(least: float, most: float = math.inf) -> Test:
    """Return the test of an integer; true and false are none."""
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) <= most


def _number(fits: Test) -> Test:
    """Return the test of a finite number."""
    return lambda value: (
        isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value) and fits(value)
    )


def _list_of(fits: Test, length: int | None = None) -> Test:
    """Return the test of a list, or a tuple, as the command line gives one."""
    return lambda value: (
        isinstance(value, list | tuple) and length in (None, len(value)) and all(fits(v) for v in value)
    )


def _or_null(fits: Test) -> Test:
    return lambda value: value is None or fits(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _number(lambda share: 0 <= share <= 1)(value)


def _is_positive(value: Any) -> bool:
    return _number(lambda number: number > 0)(value)


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and value != "" and not Path(value).is_absolute()


def _are_names(value: Any) -> bool:
    return _list_of(_is_text)(value) and len(set(value)) == len(value) >= 2


def _are_axes(value: Any) -> bool:
    return _list_of(_integer(0, SPATIAL_DIMS - 1))(value) and len(set(value)) == len(value)


def _are_values(value: Any) -> bool:
    """Return whether a value is an integer, or a list of integers, for each class; which, the classes check."""
    return _list_of(lambda entry: isinstance(entry, Integral | Sequence) and not isinstance(entry, str))(value)


def _are_schemes(value: Any) -> bool:
    """Return whether a value is a list; what a scheme is, the transform checks."""
    return _list_of(lambda entry: isinstance(entry, str | dict))(value)


def _is_range(value: Any) -> bool:
    return _list_of(_number(lambda _: True), 2)(value) and value[0] < value[1]


def _is_device(value: Any) -> bool:
    """Return whether a tensor can be made there."""
    if not isinstance(value, str | torch.device):
        return False
    try:
        torch.empty(0, device=value)
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
    return True


def _is_point(value: Any) -> bool:
    return _list_of(_number(lambda _: True), SPATIAL_DIMS)(value)


def _are_places(value: Any) -> bool:
    """Return whether a value is a list of places with different names."""
    needed: Mapping[str, Test] = {"name": _is_text, "point": _is_point, "mirrored": _is_switch}
    kinds = {**needed, "volume_ml": _or_null(_is_range)}
    entries = _list_of(
        lambda entry: (
            isinstance(entry, Mapping)
            and needed.keys() <= entry.keys() <= kinds.keys()
            and all(kinds[key](value) for key, value in entry.items())
        )
    )
    return entries(value) and len({entry["name"] for entry in value}) == len(value) > 0


def _are_points(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(_is_text(k) and _is_point(v) for k, v in value.items())


def _file(what: str) -> Rule:
    return Rule(
        f"null or a file that exists, {what}",
        "correct the path",
        _or_null(lambda value: _is_path(value) and os.path.isfile(value)),  # noqa: PTH113 - False where one may not look
        is_text=True,
    )


FOLDER = Rule("the text of a path", "write for example ./results", _is_path, is_text=True)
TEXT = Rule("a text", "put it in quotation marks", _is_text, is_text=True)
SWITCH = Rule("true or false", "write true or false in a JSON file, True or False on the command line", _is_switch)
SIZES = Rule("three positive integers", "write for example [96, 96, 64]", _list_of(_integer(1), SPATIAL_DIMS))
SHARE = Rule("a number from 0 to 1", "write for example 0.5", _is_share)
POSITIVE = Rule("a positive integer", "write for example 10", _integer(1))
COUNT = Rule("an integer, 0 or more", "write for example 2", _integer(0))
PATTERN = Rule(
    "null or a pattern relative to dataset_dir",
    "write for example imagesTr/*.nii.gz",
    _or_null(_is_pattern),
    is_text=True,
)
AXES = Rule("a list of different spatial axes, 0 to 2", "write for example [0, 1], or [] for none", _are_axes)
VALUES = Rule(
    "null or a list of integers and lists of integers", "write for example [0, 1, [2, 3]]", _or_null(_are_values)
)

RULES = {
    "bundle_root": FOLDER,
    "dataset_dir": FOLDER,
    # expressions of the configs add file names to the next two
    "output_dir": replace(FOLDER, fits=_is_text),
    "ckpt_dir": replace(FOLDER, fits=_is_text),
    "in_channels": POSITIVE,
    "label_names": Rule(
        "a list of two or more different texts", 'write for example ["background", "heart"]', _are_names
    ),
    "label_values": VALUES,
    "regions": VALUES,
    "spacing": Rule(
        "three positive numbers", "write for example [1.0, 1.0, 2.5]", _list_of(_is_positive, SPATIAL_DIMS)
    ),
    "ignore_value": Rule("null or an integer", "write for example 255", _or_null(_integer(-math.inf))),
    "intensity": Rule(
        "null or a list with one entry per channel", 'write for example ["z_score"]', _or_null(_are_schemes)
    ),
    "intensity_range": Rule("two numbers, the lower first", "write for example [-150, 250]", _is_range),
    "patch_size": SIZES,
    "foreground_ratio": SHARE,
    "epochs": POSITIVE,
    "steps_per_epoch": Rule("null or a positive integer", "write for example 250", _or_null(_integer(1))),
    "val_interval": POSITIVE,
    "batch_size": POSITIVE,
    "learning_rate": Rule("a positive number", "write for example 0.001", _is_positive),
    "accumulate": POSITIVE,
    "clip_gradients": Rule("null or a positive number", "write for example 1.0", _or_null(_is_positive)),
    "early_stop": Rule("null or a positive integer", "write for example 50", _or_null(_integer(1))),
    "amp": SWITCH,
    "deterministic": SWITCH,
    "seed": Rule(f"an integer from 0 to {SEEDS - 1}", "write for example 0", _integer(0, SEEDS - 1)),
    "num_workers": Rule(
        "auto or an integer, 0 or more", "write for example 2", lambda value: value == "auto" or _integer(0)(value)
    ),
    "cache_rate": SHARE,
    "cache_dir": Rule(f"null or {FOLDER.expected}", "write for example ./cache", _or_null(_is_path), is_text=True),
    "fold": Rule(
        'the number of a fold or "all"', "write for example 0", lambda v: v == "all" or _integer(-math.inf)(v)
    ),
    "mirror_axes": AXES,
    "tta_mirror_axes": AXES,
    "overlap": Rule("a number from 0 to less than 1", "write for example 0.5", _number(lambda share: 0 <= share < 1)),
    "sw_batch_size": Rule("null or a positive integer", "write for example 4", _or_null(_integer(1))),
    "skip_air": SWITCH,
    "largest_component": Rule(
        "true, false or a list of names of classes",
        'write for example true, or ["heart"]',
        lambda value: _is_switch(value) or _list_of(_is_text)(value),
    ),
    "surface_tolerance": Rule("null or a positive number", "write for example 2.0", _or_null(_is_positive)),
    "report": SWITCH,
    "low_memory": SWITCH,
    "max_shape": SIZES,
    "expected_input": TEXT,
    "csv_file": TEXT,
    "evaluation_split": TEXT,
    "image_glob": PATTERN,
    "label_glob": PATTERN,
    "folds_file": Rule(
        f"null or {FOLDER.expected}", "write for example ./folds.json", _or_null(_is_path), is_text=True
    ),
    "series": Rule("null or the text of a UID", "put it in quotation marks", _or_null(_is_text), is_text=True),
    "places": Rule(
        "a list of places with name, point and mirrored",
        'write for example [{"name": "Left", "point": [-23, -23.5, -12], "mirrored": false}]',
        _are_places,
    ),
    "crop_size": Rule("three positive numbers", "write for example [36, 52, 38]", _list_of(_is_positive, SPATIAL_DIMS)),
    "start_points": Rule(
        "null or three numbers for each place", 'write for example {"Left": [-23, -20, -15]}', _or_null(_are_points)
    ),
    "template": _file("the image of a template"),
    "device": Rule("cpu, or another device that this machine has", "set device to cpu", _is_device),
    "engine": Rule(
        "torch, openvino or auto", "write torch for PyTorch itself", lambda value: _is_text(value) and value in ENGINES
    ),
    "resume_ckpt": _file("the last_checkpoint.pt of a training"),
    "finetune_ckpt": _file("the weights to start from"),
    "overwrite": SWITCH,
    "gate_warm_up_epochs": COUNT,
    "ckpt_path": FOLDER,
    "load_pretrain": SWITCH,
}


def wrong_knob(knobs: Mapping[str, Any]) -> str | None:
    """Return a sentence about the first knob whose value is of another kind than it must be, ``None`` if all fit.

    Args:
        knobs: the values by name; one that the table has no rule for may be anything.
    """
    for name, value in knobs.items():
        rule = RULES.get(name)
        if rule is None or rule.fits(value):
            continue
        if name == "device" and str(value).startswith("cuda") and not torch.cuda.is_available():
            return f"device is {value}, but there is no CUDA device here; set device to cpu"
        got = str(value) if isinstance(value, torch.device) else repr(value)
        return f"{name} must be {rule.expected}, got {got}; {rule.advice}"
    return None


def _wrong_classes(chosen: bool | Sequence[str], label_names: Sequence[str], regions: Any) -> str | None:
    """Return a sentence about a list of names in ``largest_component`` that cannot be used."""
    if isinstance(chosen, bool):
        return None
    if regions is not None:
        return "largest_component must be true or false where there are regions, which hold each other; write one"
    unknown = [name for name in chosen if name not in label_names[1:]]
    if not unknown:
        return None
    return f"largest_component names {unknown[0]}, but the classes are {', '.join(label_names[1:])}; correct the name"


def check_knobs(**knobs: Any) -> None:
    """Refuse the first knob whose value is of another kind than it must be, before anything is made of it.

    What depends on other knobs or on files is checked where it is used.

    Args:
        **knobs: the values of knobs, evaluated.

    Raises:
        ValueError: if a value does not fit, flips would exchange structures of the left and the right, or
            ``largest_component`` names no class, or one of several regions.

    Example:
        >>> check_knobs(patch_size=[96, 96, 64], epochs=10)
        >>> check_knobs(patch_size=40)
        Traceback (most recent call last):
        ValueError: patch_size must be three positive integers, got 40; write for example [96, 96, 64]
    """
    if wrong := wrong_knob(knobs):
        raise ValueError(wrong)
    if wrong := _wrong_classes(
        knobs.get("largest_component", False), knobs.get("label_names", ()), knobs.get("regions")
    ):
        raise ValueError(wrong)
    for knob in ("mirror_axes", "tta_mirror_axes"):
        if wrong := exchanged_sides(knobs.get("label_names", ()), knobs.get(knob, ()), knob):
            raise ValueError(wrong)
