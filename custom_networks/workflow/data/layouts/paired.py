"""Images and labels that belong together by their names: in two folders, or by two patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.workflow.data.cases import FORMATS, Case, Found, Problem, case_name, same_name
from custom_networks.workflow.data.layouts.files import broken, has_image_name, is_image_file, is_series

FOLDERS = ("imagesTr", "labelsTr")
KNOBS = ("image_glob", "label_glob")
Key = tuple[str, ...]


def read_pairs(root: Path, index: Mapping[str, Any]) -> Found | None:
    """Return the cases of ``imagesTr`` and ``labelsTr``, ``None`` if there are not both.

    Files of one name belong together. Where no two have one name, but all have if an ending that all images share is
    left out, or one that all labels share, as in ``a_img.nii.gz`` and ``a_mask.nii.gz``, the rest is the name.

    Args:
        root: the data set folder.
        index: not looked at.
    """
    if not all((root / folder).is_dir() for folder in FOLDERS):
        return None
    return read_patterns(root, None, None)


def read_patterns(root: Path, image_glob: str | None, label_glob: str | None) -> Found:
    """Return the cases whose images and labels match two patterns.

    What each ``*`` stands for pairs them and is the name of the case; with several, the last one if that is different
    in every case, else all with ``_`` between them. Where the patterns have other wildcards, or not the same number of
    ``*``, files of one name belong together. What is hidden, and files of other formats, are no images.

    Args:
        root: the data set folder.
        image_glob: pattern under it for images; if ``None``, what ``imagesTr`` holds.
        label_glob: the same for labels, ``labelsTr``.

    Raises:
        FileNotFoundError: if nothing matches one of them.
        ValueError: if a pattern is none, or no image and label belong together.
    """
    patterns = [given or f"{folder}/*" for given, folder in zip((image_glob, label_glob), FOLDERS, strict=True)]
    problems: list[Problem] = []
    matches = [_matches(root, pattern, knob, problems) for pattern, knob in zip(patterns, KNOBS, strict=True)]
    for paths, pattern, knob in zip(matches, patterns, KNOBS, strict=True):
        if not paths and not problems:
            raise FileNotFoundError(f"no {FORMATS} file matches {root / pattern}; set dataset_dir or {knob}")
    layout = f"{patterns[0]} and {patterns[1]}"
    for keys in (_stars(root, patterns, matches), [[(case_name(path),) for path in paths] for paths in matches]):
        if keys and set(keys[0]) & set(keys[1]):
            return _pair(root, keys, matches, problems, layout)
    if image_glob is None and label_glob is None and (endings := _endings(matches)):
        keys = [
            [(case_name(path).removesuffix(end),) for path in paths]
            for paths, end in zip(matches, endings, strict=True)
        ]
        return _pair(root, keys, matches, problems, f"{layout}, without the endings {' and '.join(map(repr, endings))}")
    if problems:
        return Found([], problems, layout)
    image, label = (paths[0].relative_to(root) for paths in matches)
    raise ValueError(
        f"no image and label under {root} have one name, such as {image} and {label}; give patterns with one * for "
        f"what they have in common, {how_to_give('imagesTr/*_img.nii.gz', 'labelsTr/*_mask.nii.gz')}"
    )


def how_to_give(images: str, labels: str) -> str:
    """Return where patterns are given, with an example.

    Args:
        images: pattern for the images.
        labels: pattern for the labels.
    """
    return f"such as --images '{images}' --labels '{labels}' of check and adapt, the knobs {' and '.join(KNOBS)}"


def _matches(root: Path, pattern: str, knob: str, problems: list[Problem]) -> list[Path]:
    try:
        paths = sorted(root.glob(pattern))
    except (ValueError, NotImplementedError, IndexError) as error:
        raise ValueError(
            f"{knob} {pattern!r} is no pattern under {root} ({error}); give one such as imagesTr/*"
        ) from error
    paths = [path for path in paths if not any(part.startswith(".") and part != ".." for part in _parts(path, root))]
    wrong = broken(path for path in paths if has_image_name(path))
    problems += wrong
    bad = {problem.path for problem in wrong}
    return [path for path in paths if path not in bad and (is_image_file(path) or is_series(path))]


def _parts(path: Path, root: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts


def _stars(root: Path, patterns: Sequence[str], matches: Sequence[Sequence[Path]]) -> list[list[Key]] | None:
    """Return what the ``*`` of each pattern stand for, ``None`` where they cannot be compared."""
    plain = [pattern.replace("**/", "") for pattern in patterns]
    if any("**" in text or set("?[") & set(text) for text in plain):
        return None
    if not plain[0].count("*") == plain[1].count("*") > 0:
        return None
    keys = []
    for pattern, paths in zip(patterns, matches, strict=True):
        words = re.split(r"(\*\*/|\*)", "/".join(Path(pattern).parts))
        text = "".join({"**/": "(?:.*/)?", "*": "([^/]*)"}.get(word, re.escape(word)) for word in words)
        found = [re.fullmatch(text, path.relative_to(root).as_posix()) for path in paths]
        if not all(found):
            return None
        own = [match.groups() for match in found if match]
        if pattern.endswith("*"):  # the star of a file holds its suffix
            own = [
                (*key[:-1], case_name(key[-1])) if path.is_file() else key for key, path in zip(own, paths, strict=True)
            ]
        keys.append(own)
    return keys


def _endings(matches: Sequence[Sequence[Path]]) -> tuple[str, str] | None:
    """Return the endings without which all images and labels have one name, the shortest for the images."""
    images, labels = ({case_name(path) for path in paths} for paths in matches)
    if len(images) < 2:
        return None  # of one name, anything is an ending
    for end in _shared_endings(images):
        for other in _shared_endings(labels):
            names = {name.removesuffix(end) for name in images}
            if names == {name.removesuffix(other) for name in labels} and len(names) == len(images):
                return end, other
    return None


def _shared_endings(names: Iterable[str]) -> list[str]:
    """Return what all names end with and what begins where a word does, the shortest first."""
    some = min(names)
    starts = [match.start() for match in re.finditer(r"[_.\-]", some)][::-1]
    return ["", *(some[start:] for start in starts if start and all(name.endswith(some[start:]) for name in names))]


def _pair(
    root: Path, keys: Sequence[Sequence[Key]], matches: Sequence[Sequence[Path]], problems: list[Problem], layout: str
) -> Found:
    """Put images and labels of one key together."""
    images, labels = (_by_key(own, paths, root, problems) for own, paths in zip(keys, matches, strict=True))
    for one, other, missing in ((images, labels, "label"), (labels, images, "image")):
        what = f"has no {missing} of the same name; add the {missing} or remove this file"
        problems += [Problem(one[key], what) for key in sorted(set(one) - set(other))]
    both = sorted(set(images) & set(labels))
    names = _names(both, images, labels)
    cases = [Case(name, (images[key],), labels[key]) for name, key in zip(names, both, strict=True)]
    return Found(cases, problems, layout)


def _names(keys: Sequence[Key], images: Mapping[Key, Path], labels: Mapping[Key, Path]) -> list[str]:
    """Return names of cases: those that image and label share as files, else what the stars stand for."""
    files = [case_name(images[key]) for key in keys]
    same = files == [case_name(labels[key]) for key in keys] and len(set(files)) == len(files)
    if same and all(key[-1] in name for key, name in zip(keys, files, strict=True)):
        return files
    last = [key[-1] for key in keys]
    return last if len(set(last)) == len(last) else ["_".join(key) for key in keys]


def _by_key(keys: Sequence[Key], paths: Sequence[Path], root: Path, problems: list[Problem]) -> dict[Key, Path]:
    named: dict[Key, Path] = {}
    for key, path in zip(keys, paths, strict=True):
        first = named.setdefault(key, path)
        if first is not path:
            problems.append(same_name(path, first, root))
    return named
