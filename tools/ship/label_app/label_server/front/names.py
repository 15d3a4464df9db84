"""Names, options and paths that come with a request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from label_server.front.images import SUFFIXES
from label_server.front.refusals import Refusal, shown

LONGEST = 255 - len(".nii.gz")
"""What a file system takes, in bytes, less the ending that is added."""
CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
QUERY_NAMES = ("image", "id", "label", "tag", "session_id")
"""What of a query becomes part of a path."""
OPTION_NAMES = ("label", "label_tag", "y", "y_pred", "model_filename", "run_id")
"""What of the options becomes part of a path or a command."""
NOT_FOR_REQUESTS = ("bundle_path", "image_path", "session", "tracking_uri")
WHOLE = {"max_epochs": 1, "max_batch_size": 0, "max_workers": 0, "max_samples": 0, "simulation_size": 1}
"""Options that are whole numbers, and the least of each."""
EXPRESSION = re.compile(r"\s*[$@%]")
"""What MONAI would run, look up or load when it is written over a value of a config."""


def check_name(kind: str, name: object) -> None:
    r"""Refuse a name that is no plain name of a file.

    Args:
        kind: what is named, for the sentence.
        name: what was sent.

    Raises:
        Refusal: 400.

    Example:
        >>> check_name("image", "3: T1 MPRAGE")
        >>> check_name("image", "../main")
        Traceback (most recent call last):
        ...
        label_server.front.refusals.Refusal: the image '../main' must be a plain name without / and \; leave them out
    """
    if not isinstance(name, str):
        raise Refusal(400, f"the {kind} must be a text, got {shown(name)}; send its name")
    if "/" in name or "\\" in name:
        raise Refusal(400, f"the {kind} {shown(name)} must be a plain name without / and \\; leave them out")
    if CONTROL.search(name):
        raise Refusal(400, f"the {kind} {shown(name)} has control characters; leave them out")
    if name.startswith("."):
        raise Refusal(400, f"the {kind} {shown(name)} must not begin with a full stop; leave it out")
    if len(name.encode("utf-8", "replace")) > LONGEST:
        raise Refusal(400, f"the {kind} {shown(name)} is longer than {LONGEST} bytes; shorten it")


def inside(path: str, folders: tuple[Path, ...]) -> bool:
    """Return whether a path is a file inside one of the folders, links followed.

    Args:
        path: an absolute path.
        folders: the folders.
    """
    try:
        resolved = Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        return False
    return resolved.is_file() and any(resolved.is_relative_to(folder.resolve()) for folder in folders)


def parse_json(text: str | bytes, what: str) -> Any:
    """Return what a text says in JSON.

    Args:
        text: the text.
        what: its name, for the sentence.

    Raises:
        Refusal: 400 if it is not JSON.
    """

    def refuse(word: str) -> Any:
        raise ValueError(word)

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"{what} must be JSON, got {shown(_text(text))}; send an object such as {{}}") from error


def check_options(options: object, what: str) -> dict[str, Any]:
    """Refuse options that MONAI would take for code, or that lead to a file.

    The options of a training are written over values of the bundle's config, where a text that begins with ``$`` is a
    Python expression and an object with ``_target_`` a call.

    Args:
        options: what was sent.
        what: its name, for the sentence.

    Raises:
        Refusal: 400.
    """
    if not isinstance(options, dict):
        raise Refusal(400, f"{what} must be a JSON object, got {shown(options)}; send an object such as {{}}")
    _check_values(options, what, 0)
    return options


def _check_values(value: object, what: str, depth: int) -> None:
    if depth > 8:
        raise Refusal(400, f"{what} is nested deeper than 8 levels; send plain values")
    if isinstance(value, str) and (CONTROL.search(value) or EXPRESSION.match(value)):
        raise Refusal(
            400, f"{what} must not begin with $, @ or % nor have control characters, got {shown(value)}; correct it"
        )
    if isinstance(value, list):
        for item in value:
            _check_values(item, what, depth + 1)
    if isinstance(value, dict):
        for key, item in value.items():
            _check_option(key, item)
            _check_values(item, shown(key), depth + 1)


def _check_option(key: str, value: object) -> None:
    if key.startswith("_") or (key in NOT_FOR_REQUESTS and value):
        raise Refusal(400, f"the option {shown(key)} is not for requests; leave it out")
    first = value[0] if isinstance(value, list) and value else value
    if key == "tracking" and str(first or "none").lower() != "none":
        raise Refusal(400, f"the option tracking must be None, got {shown(value)}; there is no tracking here")
    if key in OPTION_NAMES and value:
        for name in value if isinstance(value, list) else [value]:
            check_name(f"option {key}", name)
    if key == "run_id" and not re.fullmatch(r"\w*", str(value or "")):
        raise Refusal(400, f"the option run_id must be of letters, digits and _, got {shown(value)}; leave it out")
    if key in WHOLE and (type(value) is not int or value < WHOLE[key]):
        raise Refusal(
            400, f"the option {key} must be a whole number from {WHOLE[key]} on, got {shown(value)}; correct it"
        )
    if key == "val_split" and (type(value) not in (int, float) or not 0 < float(str(value)) < 1):
        raise Refusal(400, f"the option val_split must be a share between 0 and 1, got {shown(value)}; 0.2 is usual")
    if key == "gpus" and value and not re.fullmatch(r"all|\d+(,\d+)*", str(value)):
        raise Refusal(400, f"the option gpus must be all or numbers with commas between them, got {shown(value)}")
    if key in ("device", "model_filename") and (value == [] or not isinstance(first, str)):
        raise Refusal(400, f"the option {key} must be a text, got {shown(value)}; leave it out")
    if key == "result_extension" and value and value not in (*SUFFIXES, ".seg.nrrd", ".json"):
        raise Refusal(400, f"the option result_extension must be one of {', '.join(SUFFIXES)}, got {shown(value)}")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value[:100].decode("utf-8", "replace")
