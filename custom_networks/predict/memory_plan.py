"""What memory an image takes, and which path that leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from custom_networks.workflow.memory.bill import available_bytes, format_bytes, inference_bill, parse_bytes
from custom_networks.workflow.memory.memory_report import check_fits

if TYPE_CHECKING:
    from custom_networks.predict.segmenter import Segmenter

logger = logging.getLogger(__name__)


class MemoryPlan:
    """Decide by the memory bill of each image how it is segmented.

    Args:
        segmenter: what segments where memory is plenty.
        memory: what an image may take, such as 8GB; what is free now if None.
    """

    def __init__(self, segmenter: Segmenter, memory: str | None) -> None:
        names = ("device", "in_channels", "spacing", "patch_size", "amp", "low_memory", "series")
        self.knobs = {name: segmenter.parser.get_parsed_content(name) for name in names}
        self.classes = len(
            segmenter.parser.get_parsed_content("regions") or segmenter.parser.get_parsed_content("label_names")
        )
        self.network = segmenter.network
        device = torch.device(self.knobs["device"])
        self.limit = available_bytes(device) if memory is None else parse_bytes(memory)
        self.total = lru_cache(maxsize=None)(self._total)

    def _total(self, stored: tuple[int, ...], resampled: tuple[int, ...]) -> int | None:
        """Return the bytes that an image takes, None where the network cannot be run without values."""
        try:
            bill = inference_bill(
                self.network,
                resampled,
                in_channels=self.knobs["in_channels"],
                out_channels=self.classes,
                patch_size=self.knobs["patch_size"],
                original_shape=None if stored == resampled else stored,
                amp=self.knobs["amp"],
                device=torch.device(self.knobs["device"]),
            )
        except Exception:  # networks of users may do anything in their forward pass
            return None
        return sum(bill.values())

    def bytes_of(self, case: Mapping[str, Any]) -> int | None:
        """Return the bytes that an image takes, None where that is not known.

        Args:
            case: the image.

        Raises:
            ValueError: if the image itself, resampled, would not fit.
        """
        return self.total(
            *check_fits(case["image"], self.knobs["spacing"], self.knobs["in_channels"], self.knobs["series"])
        )

    def is_low(self, case: Mapping[str, Any]) -> bool:
        """Return whether an image is segmented on the path of ``low_memory``, which is said.

        Args:
            case: the image.
        """
        if self.knobs["low_memory"]:
            return False
        need = self.bytes_of(case)
        if need is None or need <= self.limit:
            return False
        logger.warning(
            "%s would take %s of memory where it may take %s; it is segmented with low_memory, with rougher borders",
            case["case"],
            format_bytes(need),
            format_bytes(self.limit),
        )
        return True

    def needs_all(self, case: Mapping[str, Any]) -> bool:
        """Return whether an image takes so much that no other is read or written beside it.

        Args:
            case: the image.
        """
        try:
            need = self.bytes_of(case)
        except (ValueError, OSError):  # is said when it is read
            return False
        return need is not None and 2 * need > self.limit
