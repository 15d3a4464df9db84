"""What ``--networks`` names: networks of the bundles, their twins without attention, and networks of others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

from custom_networks.bundle_folder import downloaded_bundles, find_bundle, known_bundles, task_of
from custom_networks.files import read_json

PLAIN, WIDE = "plain", "plain_wide"
TWINS = (PLAIN, WIDE)
MONAI = "monai"


@dataclass(frozen=True)
class Entry:
    """A network that takes part.

    Args:
        name: what the table calls it.
        bundle: the folder of the bundle whose recipe trains it.
        definition: its ``network_def``.
        twin: which twin without attention it is, :data:`PLAIN` or :data:`WIDE`; empty for none.
        own: whether ``definition`` is that of the bundle, so that its arguments follow from patch and spacing.
    """

    name: str
    bundle: Path
    definition: Mapping[str, Any] = field(repr=False)
    twin: str = ""
    own: bool = True


def find_entries(names: Sequence[str], alone: bool) -> list[Entry]:
    """Return the networks that take part, in the order of their names.

    Args:
        names: of each, a bundle by its name, its folder or the part of its name that tells its network
            (``attention_unet``), with ``:plain`` or ``:plain_wide`` behind it for a twin without attention; ``monai:``
            and the name of a network of MONAI; or a JSON file, ``#``, and its entry that defines a network.
        alone: leave out the twins of the bundles' networks that are not named.

    Raises:
        ValueError: if a name is none of these, or two are one network.
    """
    bundles = _segmentation_bundles()
    entries: list[Entry] = []
    for name in names:
        if name.startswith(f"{MONAI}:"):
            entries.append(_of_monai(name, bundles))
        elif "#" in name:
            entries.append(_of_file(name, bundles))
        else:
            entries += _of_bundle(name, bundles, alone)
    # a twin may be named beside the network that brings it
    found: dict[str, Entry] = {}
    for entry in entries:
        if found.setdefault(entry.name, entry) != entry:
            raise ValueError(f"two networks are called {entry.name}; rename the file of one of them")
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{twice} is named twice; a network is compared with others, name it once")
    if len(found) < 2:
        raise ValueError("a comparison needs two networks or more; give --networks with commas between them")
    return list(found.values())


def _segmentation_bundles() -> dict[str, Path]:
    folders = {folder.name: folder for folder in (*downloaded_bundles(), *known_bundles())}
    return {name: folder for name, folder in folders.items() if task_of(folder) == "segmentation"}


def _of_bundle(name: str, bundles: Mapping[str, Path], alone: bool) -> list[Entry]:
    short, _, twin = name.partition(":")
    if twin not in ("", *TWINS):
        raise ValueError(f"{name} names no network; write {short}, {short}:{PLAIN} or {short}:{WIDE}")
    matching = [bundle for bundle in bundles if re.search(rf"(^|_){re.escape(short)}(_|$)", bundle)]
    if len(matching) > 1 and short not in matching:
        raise ValueError(f"{short} may be {' or '.join(matching)}; write more of the name")
    folder = bundles[matching[0]] if len(matching) == 1 else find_bundle(short)
    if task_of(folder) != "segmentation":
        raise ValueError(f"{folder.name} does not segment; compare networks that do")
    definition = read_json(folder / "configs" / "train.json")["network_def"]
    label = short if len(matching) == 1 else folder.name
    whole = Entry(label, folder, definition)
    without = {**definition, "attention": []}
    twins = [Entry(f"{label}:{kind}", folder, without, kind) for kind in TWINS if "attention" in definition]
    if twin:
        return [entry for entry in twins if entry.twin == twin]
    return [whole] if alone else [whole, *twins]


def _of_monai(name: str, bundles: Mapping[str, Path]) -> Entry:
    import monai.networks.nets as nets

    short = name.partition(":")[2]
    kind = getattr(nets, short, None)
    known = set(signature(kind).parameters) if isinstance(kind, type) else set()
    if not {"in_channels", "out_channels"} <= known:
        raise ValueError(
            f"{name} is no network of monai.networks.nets with in_channels and out_channels; define it in a JSON file "
            "and give file.json#entry"
        )
    free: dict[str, Any] = {
        "spatial_dims": 3,
        "in_channels": "@in_channels",
        "out_channels": "$len(@regions or @label_names)",
        "norm_name": "instance",
    }
    definition = {key: value for key, value in free.items() if key in known}
    if len({"init_filters", "norm_name"} & known) == 2:  # SegResNet knows the old name of its norm, too
        definition.pop("norm_name")
    return Entry(name, _host(bundles), {"_target_": f"monai.networks.nets.{short}", **definition}, own=False)


def _of_file(name: str, bundles: Mapping[str, Path]) -> Entry:
    file, _, key = name.partition("#")
    definition = read_json(Path(file)).get(key)
    if not isinstance(definition, Mapping) or "_target_" not in definition:
        raise ValueError(f"{file} has no entry {key} with a _target_; name one that defines a network")
    return Entry(f"{Path(file).stem}#{key}", _host(bundles), dict(definition), own=False)


def _host(bundles: Mapping[str, Path]) -> Path:
    """Return the bundle whose recipe trains a network of others."""
    configs = {folder: read_json(folder / "configs" / "train.json") for folder in bundles.values()}
    plain = [folder for folder, config in configs.items() if not config["network_def"].get("deep_supervision")]
    if not plain:
        raise ValueError(
            "no bundle is here whose recipe could train it; run compare beside "
            "hippocampus_mr_attention_unet_segmentation"
        )
    return plain[0]
