"""What the bundles' JSON configs call besides MONAI; a name is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "data.cached_cases": "CachedCases",
    "data.classification_list": "classification_data_list",
    "data.image_checks": "WarnLargeInputd check_data",
    "data.inference_list": "inference_data_list",
    "data.patch_checks": "check_patches class_weights",
    "data.segmentation_list": "segmentation_data_list",
    "data.training_cases": "TrainingCases",
    "data.training_loader": "TrainingLoader choose_workers",
    "data.volumes": "VolumeReader",
    "guard.errors": "report_errors",
    "guard.finished_run": "check_ckpt_dir resume_from",
    "guard.knobs": "check_knobs",
    "guard.outputs": "check_outputs",
    "guard.overrides": "check_overrides",
    "guard.version": "require_version",
    "infer.engines.engine_network": "build_network",
    "infer.inferers": "AutocastInferer MirrorInferer MirrorSlidingWindowInferer needs_loss_scaling",
    "infer.masks": "SaveMasksd check_masks",
    "locate.head_inferer": "RegionsInferer",
    "locate.head_labels": "head_label_names",
    "locate.regions": "LocateRegions",
    "memory.fitting": "windows_that_fit",
    "memory.head_bill": "report_head_memory",
    "memory.memory_report": "report_memory",
    "report.classification_report": "ClassificationReport",
    "report.run_page": "check_page write_page",
    "report.segmentation_report": "SegmentationReport",
    "report.training_data": "TrainingData",
    "train.log.case_scores": "CaseScores",
    "train.checkpoint": "BestCheckpoint ResumableCheckpoint load_weights",
    "train.deep_supervision": "StackedDeepSupervisionLoss",
    "train.epoch_sampler": "EpochSampler",
    "train.early_stop": "EarlyStop",
    "train.gate_warm_up": "GateWarmUp",
    "train.gradients": "ClipGradients OptimizerSteps",
    "train.handlers": "DecayHandler LastEpochValidation NonFiniteLossHandler ReseedHandler",
    "train.optimizers": "adan",
    "train.processes": "end_processes start_processes",
    "train.log.progress": "TrainingProgress",
    "train.reproducible": "seed_training",
    "train.schedules": "WarmUpPolynomialLR",
    "train.segmentation_loss": "SegmentationLoss",
    "train.starting_weights": "say_outcome start_from",
    "train.log.summary": "say_end say_start",
    "train.training": "run_training",
    "transforms.class_indices": "ClassIndicesd",
    "transforms.class_labels": "ClassLabelsd FileLabelsd label_dtype",
    "transforms.ignored": "ClearIgnoredd SplitIgnoredd",
    "transforms.intensity": "NormalizeChannelsd",
    "transforms.largest_component": "largest_component_labels",
    "transforms.patches": "RandPatchd",
    "transforms.region_transforms": "LargestRegionsd RegionClassesd RegionMasksd",
    "transforms.spacing": "MonaiLabelSpacingd",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a name from its module: what segments an image need not load what trains a network."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the names that are not imported yet, among which the nearest of a misspelt one is looked for."""
    return [*globals(), *__all__]
