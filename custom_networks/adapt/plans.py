"""A profile of a bundle from an nnU-Net plans file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_networks.adapt.labels import IGNORE, check_ignore, ignored_label, label_regions
from custom_networks.adapt.network import build
from custom_networks.bundle_folder import HOME, find_bundle, is_bundle
from custom_networks.failures import is_ours
from custom_networks.files import read_json, write_text
from custom_networks.workflow.guard.knobs import wrong_knob
from custom_networks.workflow.transforms.intensity import Z_SCORE, Z_SCORE_NONZERO

CT_PROPERTIES = ("percentile_00_5", "percentile_99_5", "mean", "std")
PLAIN_NETWORKS = ("PlainConvUNet",)
PLANS_FILE = "give a plans file of nnU-Net v2"
PLANS_BUNDLE = "hippocampus_mr_mbtfe_unet_segmentation"


def adapt_plans(
    plans: str,
    out: str,
    bundle: str | None = None,
    configuration: str = "3d_fullres",
    dataset_json: str | None = None,
) -> dict[str, Any]:
    """Write a profile with what an nnU-Net v2 plans file says of network, patch, spacing and batch.

    nnU-Net orders the axes of its arrays z, y, x and then as ``transpose_forward`` says; the profile has them in the
    order x, y, z of the bundles. A normalisation that has no counterpart is printed, not taken over.

    Args:
        plans: the plans file.
        out: the profile to write.
        bundle: name, folder, zip or address of the bundle that the profile is for; if None, the packed bundle that
            holds this package, or the one with nnU-Net's U-Net.
        configuration: key under ``configurations`` of the plans file, a 3D one.
        dataset_json: nnU-Net's dataset.json, from which channels and label names are read.

    Raises:
        FileNotFoundError: if a file does not exist.
        ValueError: if a file is not what nnU-Net v2 writes, or describes a network that is not its plain 3D U-Net.
    """
    folder = find_bundle(bundle or (None if is_bundle(HOME) else PLANS_BUNDLE))
    document = _read(plans)
    try:
        profile, others = _profile(document, configuration, plans)
    except KeyError as error:
        raise ValueError(f"{plans}, {configuration}: there is no entry {error}; {PLANS_FILE}") from error
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        if is_ours(error):
            raise
        raise ValueError(
            f"{plans}, {configuration} has an entry of another kind than nnU-Net writes ({error}); {PLANS_FILE}"
        ) from error
    if wrong := wrong_knob(profile):
        raise ValueError(f"{plans}, {configuration}: {wrong}")
    if dataset_json is not None:
        profile |= _dataset(dataset_json)
    try:
        build(folder, profile)
    except ValueError as error:
        raise ValueError(f"{plans}, {configuration}: {error}") from error
    write_text(Path(out), json.dumps(profile, indent=2) + "\n")
    for key, value in profile.items():
        print(f"{key}: {value}")
    if others:
        print(f"not taken over: {', '.join(others)}; such channels are brought to zero mean and unit variance")
    print(f"written: {out}")
    return profile


def _profile(document: Mapping[str, Any], configuration: str, file: str) -> tuple[dict[str, Any], list[str]]:
    """Return what a plans file alone says, and the normalisations that have no counterpart."""
    chosen = _configuration(document, configuration, file)
    network = _network(chosen, configuration, file)
    profile: dict[str, Any] = {
        "spacing": [float(n) for n in _in_our_order(chosen["spacing"], document)],
        "patch_size": _in_our_order(chosen["patch_size"], document),
        "batch_size": chosen["batch_size"],
        "network_def#features": network["features"],
        "network_def#strides": [_in_our_order(step, document) for step in network["strides"]],
        "network_def#kernel_size": [_in_our_order(kernel, document) for kernel in network["kernels"]],
    }
    if "foreground_intensity_properties_per_channel" in document:
        profile["in_channels"] = len(document["foreground_intensity_properties_per_channel"])
    intensity, others = _intensity(chosen, document, file)
    if any(scheme != Z_SCORE for scheme in intensity):
        profile["intensity"] = intensity
    return profile, others


def _read(file: str) -> Mapping[str, Any]:
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"{file} does not exist; give the plans.json of nnUNet_preprocessed/<dataset>")
    return read_json(path)


def _configuration(
    document: Mapping[str, Any], name: str, file: str, inherited_by: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a configuration, laid over the one that it inherits from."""
    known = document.get("configurations")
    if not isinstance(known, dict):
        raise ValueError(f"{file} has no configurations; {PLANS_FILE}")  # noqa: TRY004 - the file is wrong
    if name not in known:
        raise ValueError(f"{file} has no configuration {name}; use one of {', '.join(known)}")
    if name in inherited_by:
        raise ValueError(f"{file}: configuration {name} inherits from itself; {PLANS_FILE}")
    own = dict(known[name])
    parent = own.pop("inherits_from", None)
    merged = {**(_configuration(document, parent, file, [*inherited_by, name]) if parent else {}), **own}
    missing = [key for key in ("patch_size", "spacing", "batch_size") if key not in merged]
    if missing:
        raise ValueError(f"{file}: configuration {name} lacks {', '.join(missing)}; {PLANS_FILE}")
    if len(merged["patch_size"]) != 3:
        raise ValueError(f"{file}: configuration {name} is not 3D, its patch is {merged['patch_size']}; use 3d_fullres")
    return merged


def _network(chosen: Mapping[str, Any], name: str, file: str) -> dict[str, Any]:
    """Return features, strides below the first level and kernels, in nnU-Net's order of axes."""
    if "architecture" in chosen:  # nnU-Net from 2.4 on
        kind = str(chosen["architecture"]["network_class_name"]).rpartition(".")[2]
        arguments = chosen["architecture"]["arch_kwargs"]
        features, strides = arguments["features_per_stage"], arguments["strides"]
        kernels = arguments["kernel_sizes"]
        numbers = [arguments["n_conv_per_stage"], arguments["n_conv_per_stage_decoder"]]
    elif "UNet_class_name" in chosen:
        kind = str(chosen["UNet_class_name"])
        strides, kernels = chosen["pool_op_kernel_sizes"], chosen["conv_kernel_sizes"]
        base, most = chosen["UNet_base_num_features"], chosen["unet_max_num_features"]
        features = [min(base * 2**level, most) for level in range(len(strides))]
        numbers = [chosen["n_conv_per_stage_encoder"], chosen["n_conv_per_stage_decoder"]]
    else:
        raise ValueError(f"{file}: configuration {name} describes no network; {PLANS_FILE}")
    if kind not in PLAIN_NETWORKS:
        raise ValueError(f"{file}: {name} is a {kind}; plan with nnU-Net's default planner, whose is a PlainConvUNet")
    counts = {int(n) for number in numbers for n in ([number] if isinstance(number, int) else number)}
    if counts != {2}:
        raise ValueError(f"{file}: {name} has {sorted(counts)} convolutions per stage; the network here has 2")
    if set(strides[0]) != {1}:
        raise ValueError(f"{file}: {name} has strides {strides[0]} in its first stage; the network here has none")
    return {"features": [int(n) for n in features], "strides": strides[1:], "kernels": kernels}


def _intensity(chosen: Mapping[str, Any], document: Mapping[str, Any], file: str) -> tuple[list[Any], list[str]]:
    """Return one entry of the knob ``intensity`` per channel, and the schemes that have no counterpart."""
    names = chosen.get("normalization_schemes", [])
    masked = chosen.get("use_mask_for_norm", [False] * len(names))
    found = document.get("foreground_intensity_properties_per_channel", {})
    entries: list[Any] = []
    for number, (name, inside) in enumerate(zip(names, masked, strict=True)):
        if name == "CTNormalization":
            own = found.get(str(number), {})
            if not set(CT_PROPERTIES) <= set(own):
                raise ValueError(
                    f"{file} lacks {', '.join(CT_PROPERTIES)} of channel {number}; plan with nnU-Net v2 again"
                )
            low, high, mean, std = (own[key] for key in CT_PROPERTIES)
            entries.append({"clip": [low, high], "mean": mean, "std": std})
        else:
            entries.append(Z_SCORE_NONZERO if name == "ZScoreNormalization" and inside else Z_SCORE)
    return entries, sorted(set(names) - {"ZScoreNormalization", "CTNormalization"})


def _in_our_order(values: Sequence[Any], document: Mapping[str, Any]) -> list[Any]:
    """Return one value per axis x, y, z: undo the transposition, then turn z, y, x round."""
    backward = document.get("transpose_backward", [0, 1, 2])
    return [values[backward[2 - axis]] for axis in range(3)]


def _dataset(file: str) -> dict[str, Any]:
    document = _read(file)
    channels = document.get("channel_names", document.get("modality"))
    labels = document.get("labels")
    if not isinstance(channels, dict) or not isinstance(labels, dict):
        raise ValueError(  # noqa: TRY004 - the file is wrong
            f"{file} lacks channel_names or labels; give the dataset.json of nnUNet_raw/<dataset>"
        )
    ignore_value = ignored_label(document)
    ignored = {} if ignore_value is None else {"ignore_value": ignore_value}
    if regions := label_regions(document):
        check_ignore(ignore_value, regions, regions=True)
        names = {"label_names": list(regions), "regions": list(regions.values())[1:]}
        return {"in_channels": len(channels), **names, **ignored}
    if any(not isinstance(value, int) for value in labels.values()):
        raise ValueError(f"{file} has labels given as text; give each class one integer, or each region a list of them")
    classes = {value: name for name, value in labels.items() if name != IGNORE}
    if sorted(classes) != list(range(len(classes))):
        raise ValueError(f"{file} has the label values {sorted(classes)}; number the classes from 0 without gaps")
    check_ignore(ignore_value, {classes[value]: [value] for value in sorted(classes)}, regions=False)
    return {"in_channels": len(channels), "label_names": [classes[value] for value in sorted(classes)], **ignored}
