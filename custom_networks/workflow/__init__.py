"""What the bundles' JSON configs call besides MONAI."""

from custom_networks.workflow.data.classification_list import classification_data_list
from custom_networks.workflow.data.image_checks import WarnLargeInputd, check_data
from custom_networks.workflow.data.inference_list import inference_data_list
from custom_networks.workflow.data.patch_checks import check_patches, class_weights
from custom_networks.workflow.data.segmentation_list import segmentation_data_list
from custom_networks.workflow.data.training_cases import TrainingCases
from custom_networks.workflow.data.volumes import VolumeReader
from custom_networks.workflow.guard.errors import report_errors
from custom_networks.workflow.guard.knobs import check_knobs
from custom_networks.workflow.guard.outputs import check_outputs
from custom_networks.workflow.guard.overrides import check_overrides
from custom_networks.workflow.guard.version import require_version
from custom_networks.workflow.infer.inferers import AutocastInferer, MirrorInferer, MirrorSlidingWindowInferer
from custom_networks.workflow.infer.masks import SaveMasksd, check_masks
from custom_networks.workflow.memory.memory_report import report_memory
from custom_networks.workflow.report.classification_report import ClassificationReport
from custom_networks.workflow.report.segmentation_report import SegmentationReport
from custom_networks.workflow.train.checkpoint import BestCheckpoint, ResumableCheckpoint, load_weights
from custom_networks.workflow.train.deep_supervision import StackedDeepSupervisionLoss
from custom_networks.workflow.train.gate_warm_up import GateWarmUp
from custom_networks.workflow.train.handlers import (
    LastEpochValidation,
    NonFiniteLossHandler,
    ReseedHandler,
    TrainingProgress,
)
from custom_networks.workflow.train.optimizers import adan
from custom_networks.workflow.train.processes import end_processes, start_processes
from custom_networks.workflow.train.segmentation_loss import SegmentationLoss
from custom_networks.workflow.transforms.class_labels import ClassLabelsd, FileLabelsd, label_dtype
from custom_networks.workflow.transforms.ignored import ClearIgnoredd, RandCropLabelledd, SplitIgnoredd
from custom_networks.workflow.transforms.intensity import NormalizeChannelsd
from custom_networks.workflow.transforms.region_transforms import LargestRegionsd, RegionClassesd, RegionMasksd
from custom_networks.workflow.transforms.spacing import MonaiLabelSpacingd

__all__ = [
    "AutocastInferer",
    "BestCheckpoint",
    "ClassLabelsd",
    "ClassificationReport",
    "ClearIgnoredd",
    "FileLabelsd",
    "GateWarmUp",
    "LargestRegionsd",
    "LastEpochValidation",
    "MirrorInferer",
    "MirrorSlidingWindowInferer",
    "MonaiLabelSpacingd",
    "NonFiniteLossHandler",
    "NormalizeChannelsd",
    "RandCropLabelledd",
    "RegionClassesd",
    "RegionMasksd",
    "ReseedHandler",
    "ResumableCheckpoint",
    "SaveMasksd",
    "SegmentationLoss",
    "SegmentationReport",
    "SplitIgnoredd",
    "StackedDeepSupervisionLoss",
    "TrainingCases",
    "TrainingProgress",
    "VolumeReader",
    "WarnLargeInputd",
    "adan",
    "check_data",
    "check_knobs",
    "check_masks",
    "check_outputs",
    "check_overrides",
    "check_patches",
    "class_weights",
    "classification_data_list",
    "end_processes",
    "inference_data_list",
    "label_dtype",
    "load_weights",
    "report_errors",
    "report_memory",
    "require_version",
    "segmentation_data_list",
    "start_processes",
]
