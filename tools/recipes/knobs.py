"""The knobs of the configs: what each means, and what it is where a bundle does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from tools.recipes.bundle import Bundle

NO_DEFAULT = object()


@dataclass(frozen=True)
class Knob:
    """A value at the top of a config, for a user to change.

    Args:
        meaning: one sentence, with the unit.
        default: its value where a bundle gives none; without a default, a bundle or the recipe must give one.
    """

    meaning: str
    default: Any = NO_DEFAULT


KNOBS = {
    "bundle_root": Knob("Folder of the bundle, from which its own files are found."),
    "dataset_dir": Knob(
        "Folder of the data set; for inference an image, or a folder of images or DICOM series at any depth."
    ),
    "output_dir": Knob(
        "Folder for what a run writes: masks or predictions, metrics, the training curve and TensorBoard's logs.",
        "$@bundle_root + '/eval'",
    ),
    "ckpt_dir": Knob(
        "Folder of the weights: `model.pt`, the best of a training, `training_cases.json`, the cases that it has seen, "
        "`training_data.json`, what these are like (segmentation), and `last_checkpoint.pt`, from which one resumes; a "
        "fine-tuning has one of its own by default.",
        "$@bundle_root + '/models'",
    ),
    "in_channels": Knob("Number of channels of an image."),
    "label_names": Knob("Names of the classes in the order of their indices, in segmentation the background first."),
    "label_values": Knob(
        "Value in the label files of each class, or a list of values that are one class; with `null` 0, 1, 2, ... in "
        "the order of `label_names`.",
        None,
    ),
    "regions": Knob(
        "Value in the label files of each region after the background, or a list of them, outer regions before those "
        "inside them; with `null` the classes exclude each other.",
        None,
    ),
    "ignore_value": Knob(
        "Value in the label files of voxels that nobody has labelled, which count in no loss, metric or choice of a "
        "patch; with `null` every voxel has a label.",
        None,
    ),
    "spacing": Knob("Size of a voxel in mm, along the axes of RAS, to which images are resampled."),
    "intensity": Knob(
        'Normalisation of each channel: `"z_score"`, `"z_score_nonzero"`, or `{"clip": [low, high], "mean": m, "std": '
        's}` in the unit of the image; with `null` `"z_score"` for all.',
        None,
    ),
    "intensity_range": Knob("Intensities, in the unit of the image, that become 0 and 1; what is beyond is clipped."),
    "patch_size": Knob(
        "Voxels at `spacing` of what the network gets: a training patch and the sliding window in segmentation, the "
        "whole image, padded or cropped, in classification."
    ),
    "foreground_ratio": Knob(
        "Share of the training patches whose centre is a voxel of the foreground, each class of it equally often, 0 to "
        "1.",
        0.5,
    ),
    "epochs": Knob("Number of epochs, each one pass over the training cases, or as many steps as `steps_per_epoch`."),
    "steps_per_epoch": Knob(
        "Steps of an epoch, in each process of a distributed training, for which the cases are drawn as often as "
        "needed, each again only after all the others; with `null` one pass over them.",
        None,
    ),
    "val_interval": Knob("Epochs from one validation to the next; the last epoch is validated in any case."),
    "batch_size": Knob("Training cases per step, in each process of a distributed training."),
    "learning_rate": Knob("Learning rate of the first step, from which it decays to 0 at the end of the training."),
    "accumulate": Knob(
        "Batches whose gradients are averaged for one step of the optimiser, for a batch that does not fit into the "
        "memory.",
        1,
    ),
    "clip_gradients": Knob(
        "Norm of all gradients, as one vector, to which larger ones are scaled down; `null` clips none.", None
    ),
    "early_stop": Knob(
        "Epochs without a better validation after which a training ends, its learning rate not yet 0; `null`: never.",
        None,
    ),
    "amp": Knob(
        "Mixed precision: bfloat16 on devices that compute in it, float16 with loss scaling on GPUs of compute "
        "capability 7, float32 on others and, on a CPU, for thin patches.",
        True,
    ),
    "deterministic": Knob(
        "On a GPU take algorithms that give the same digits in every run, where torch has them, not the fastest.",
        False,
    ),
    "seed": Knob("Seed of weights, order of the cases and augmentation.", 0),
    "num_workers": Knob(
        'Number of processes that load data, 0 for none beside the main process; with `"auto"` a training on a GPU '
        "has one for each core but one, at most eight, and everything else none.",
        "auto",
    ),
    "cache_rate": Knob("Share of the cases that stay in memory as the network gets them, before augmentation, 0 to 1."),
    "cache_dir": Knob(
        "Folder in which the training cases are kept as the network gets them, in place of the memory, for data sets "
        "that are larger than it; with `null` `cache_rate` says what stays in the memory.",
        None,
    ),
    "fold": Knob(
        'Fold, counted from 0, that validates while the others train; in segmentation `"all"` trains and validates on '
        "every case, with which an evaluation takes all of them.",
        0,
    ),
    "mirror_axes": Knob(
        "Axes of RAS, 0 to 2, along which training images are flipped at random; an axis along which names of classes "
        "come in pairs of left and right is refused.",
        [],
    ),
    "tta_mirror_axes": Knob(
        "Axes of RAS, 0 to 2, over whose flips predictions are averaged, 2^n passes for n axes; those of `mirror_axes` "
        "unless it says otherwise, `[]` for none.",
        "$@mirror_axes",
    ),
    "overlap": Knob(
        "Share of a window that the next one covers along each axis, 0 to less than 1; 0.25 runs less than half of the "
        "windows of 0.5.",
        0.5,
    ),
    "sw_batch_size": Knob(
        "Windows that the network gets at once, with `null` as many as half of the free memory holds; a network that "
        "sees only what is near gets one larger window in their place.",
        1,
    ),
    "skip_air": Knob(
        "Lay windows over the box of what is not air, and do not run those of air alone, which become background.",
        False,
    ),
    "report": Knob(
        "Write `report.html` at the end, a page of what the run has written, and for it the masks of an evaluation.",
        False,
    ),
    "largest_component": Knob(
        "Keep only the largest connected component of each predicted class or region, or of the classes in a list of "
        "names; regions are kept so all or none, since they hold each other.",
        False,
    ),
    "surface_tolerance": Knob(
        "Distance in mm between the surfaces of prediction and label that counts as none in the normalised surface "
        "Dice of an evaluation; with `null` the middle one of the three sides of a voxel at `spacing`.",
        None,
    ),
    "low_memory": Knob(
        "Hold classes of the whole image instead of probabilities, and resample in float32: less memory, rougher "
        "borders after resampling.",
        False,
    ),
    "max_shape": Knob(
        "Voxels at `spacing` of the largest training image; one more than twice as large along an axis gets a warning."
    ),
    "expected_input": Knob("What an image must show, in the words of that warning."),
    "csv_file": Knob("Name in `dataset_dir` of the CSV file that lists cases, classes and splits.", "labels.csv"),
    "evaluation_split": Knob("Split of the CSV file that evaluation takes."),
    "image_glob": Knob("Pattern under `dataset_dir` for the images; with `null` they are found by the layout.", None),
    "label_glob": Knob(
        "Pattern under `dataset_dir` for the labels; what its `*` stand for is the same as for the image.", None
    ),
    "folds_file": Knob(
        "JSON file with the names of the cases of each fold, or nnU-Net's `splits_final.json`; with `null` the "
        "bundle's `configs/folds.json` for the data set of the bundle, for others the rank of a patient of "
        "`patients.csv`, or of a name, modulo five.",
        None,
    ),
    "series": Knob("SeriesInstanceUID of the DICOM series to take from `dataset_dir`; with `null` all folders.", None),
    "places": Knob(
        "Where in a head the network is to look: the name of each place, its point in mm of the template (right, "
        "anterior, superior), whether it is mirrored for the network, and the least and largest volume in mL that is "
        "believed.",
    ),
    "crop_size": Knob(
        "Size in mm of the crop around each of the `places` in the template; it grows and shrinks with the head, to "
        "0.9 times that at least."
    ),
    "start_points": Knob(
        "Centre of each of the `places` in mm of the image (right, anterior, superior), by its name, in place of the "
        "registration; with `null` the registration finds them.",
        None,
    ),
    "template": Knob(
        "Image of the template without its skull, for the registration; with `null` the MNI152 of the package.", None
    ),
    "device": Knob("Where the network runs.", "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"),
    "engine": Knob(
        'What runs the network on a CPU: `"torch"`; `"openvino"`, faster on most, which needs `pip install openvino '
        'onnx onnxscript`; or `"auto"`, the faster of the two, measured once on each machine.',
        "torch",
    ),
    "resume_ckpt": Knob("A `last_checkpoint.pt` to resume from; with `null` the training starts anew.", None),
    "finetune_ckpt": Knob(
        "Weights to start from, as far as they fit by name and shape; with `null` random ones. Where nothing starts "
        "anew they are validated first, and stay unless an epoch is better.",
        None,
    ),
    "overwrite": Knob(
        "Replace a training that `ckpt_dir` holds; with `false` a new training refuses such a folder.", False
    ),
    "gate_warm_up_epochs": Knob("Epochs at the start in which the gates of the attention stand still."),
    "ckpt_path": Knob("The weights that evaluation and inference load."),
    "load_pretrain": Knob("Load `ckpt_path` for inference; `false` leaves the weights random."),
    "displayable_configs": Knob("Options of inference that MONAI Label shows, such as the format of the result."),
}


def find_knob(name: str) -> Knob:
    """Return a knob by its name.

    Args:
        name: its name in the configs.

    Raises:
        ValueError: if nothing says what it means.
    """
    if name not in KNOBS:
        raise ValueError(f"the knob {name} has no sentence; add one to KNOBS in tools/recipes/knobs.py")
    return KNOBS[name]


def select_knobs(bundle: Bundle, names: str) -> dict[str, Any]:
    """Return the values of the named knobs, in the order of the names.

    Args:
        bundle: the specification, whose values take the place of the defaults.
        names: the knobs, parted by spaces.

    Raises:
        ValueError: if a knob has no sentence, or neither a default nor a value in the specification.
    """
    given = {"max_shape": list(bundle.max_shape), "expected_input": bundle.expected, **bundle.knobs}
    given["places"] = [dict(place) for place in bundle.places]
    values = {name: given.get(name, find_knob(name).default) for name in names.split()}
    for name, value in values.items():
        if value is NO_DEFAULT:
            raise ValueError(f"{bundle.name} gives no value for {name}, which has no default; add it to its knobs")
    return values


def knobs_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the knobs of a config: what stands above its first section.

    Args:
        config: train.json, inference.json, or evaluate.json.

    Example:
        >>> knobs_of({"imports": [], "epochs": 5, "code_path": [], "rank": 0})
        {'epochs': 5}
        >>> knobs_of({"ckpt_path": "model.pt", "validate#handlers": []})
        {'ckpt_path': 'model.pt'}
    """
    above = takewhile(lambda name: name != "code_path" and "#" not in name, config)
    return {name: config[name] for name in above if name != "imports"}
