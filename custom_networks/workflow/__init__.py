"""What the bundles' JSON configs call besides MONAI."""

from custom_networks.workflow.autocast import AutocastInferer, MirrorInferer, MirrorSlidingWindowInferer
from custom_networks.workflow.checkpoint import BestCheckpoint, ResumableCheckpoint, load_weights
from custom_networks.workflow.class_labels import ClassLabelsd, FileLabelsd, label_dtype
from custom_networks.workflow.classification_list import classification_data_list
from custom_networks.workflow.classification_report import ClassificationReport
from custom_networks.workflow.data_checks import WarnLargeInputd, check_data
from custom_networks.workflow.data_list import inference_data_list, segmentation_data_list
from custom_networks.workflow.deep_supervision import StackedDeepSupervisionLoss
from custom_networks.workflow.errors import report_errors
from custom_networks.workflow.evaluation import SegmentationReport
from custom_networks.workflow.gate_warm_up import GateWarmUp
from custom_networks.workflow.intensity import NormalizeChannelsd
from custom_networks.workflow.memory_report import report_memory
from custom_networks.workflow.optimizers import adan
from custom_networks.workflow.overrides import check_overrides
from custom_networks.workflow.patch_checks import check_patches, class_weights
from custom_networks.workflow.processes import end_processes, start_processes
from custom_networks.workflow.region_transforms import LargestRegionsd, RegionClassesd, RegionMasksd
from custom_networks.workflow.segmentation_loss import SegmentationLoss
from custom_networks.workflow.spacing import MonaiLabelSpacingd
from custom_networks.workflow.training import LastEpochValidation, NonFiniteLossHandler, ReseedHandler, TrainingProgress
from custom_networks.workflow.version import require_version

__all__ = [
    "AutocastInferer",
    "BestCheckpoint",
    "ClassLabelsd",
    "ClassificationReport",
    "FileLabelsd",
    "GateWarmUp",
    "LargestRegionsd",
    "LastEpochValidation",
    "MirrorInferer",
    "MirrorSlidingWindowInferer",
    "MonaiLabelSpacingd",
    "NonFiniteLossHandler",
    "NormalizeChannelsd",
    "RegionClassesd",
    "RegionMasksd",
    "ReseedHandler",
    "ResumableCheckpoint",
    "SegmentationLoss",
    "SegmentationReport",
    "StackedDeepSupervisionLoss",
    "TrainingProgress",
    "WarnLargeInputd",
    "adan",
    "check_data",
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
