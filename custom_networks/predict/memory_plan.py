"""What memory an image takes, and which path that leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from custom_networks.workflow.data.volumes import read_grid
from custom_networks.workflow.memory.bill import (
    available_bytes,
    format_bytes,
    inference_bill,
    parse_bytes,
    volume_bill,
)
from custom_networks.workflow.memory.head_bill import check_head_fits, of_head
from custom_networks.workflow.memory.memory_report import check_fits

if TYPE_CHECKING:
    from custom_networks.predict.segmenter import Segmenter

logger = logging.getLogger(__name__)


SMALL = 1 / 8
"""Share of the limit below which the volumes of an image are not what fills the memory."""


class MemoryPlan:
    """Decide by the memory bill of each image how it is segmented.

    The volumes of an image, its logits among them, come first: where they take less than an eighth of the limit, the
    path of ``low_memory``, which saves volumes only, is of no help, and nobody asks what the network takes.

    Args:
        segmenter: what segments where memory is plenty.
        memory: what an image may take, such as 8GB; what is free now if None.
    """

    def __init__(self, segmenter: Segmenter, memory: str | None) -> None:
        get = segmenter.parser.get_parsed_content
        self.device = torch.device(get("device"))
        self.low_memory, self.spacing, self.series = get("low_memory"), get("spacing"), get("series")
        self.window, self.amp, self.at_once = get("patch_size"), get("amp"), get("windows_at_once", default=1)
        self.channels = {"in_channels": get("in_channels"), "out_channels": len(get("regions") or get("label_names"))}
        self.network = segmenter.network
        self.limit = available_bytes(self.device) if memory is None else parse_bytes(memory)
        self.total = lru_cache(maxsize=None)(self._total)

    def _total(self, stored: tuple[int, ...], resampled: tuple[int, ...]) -> int | None:
        """Return the bytes that an image takes, None where the network cannot be run without values."""
        sizes: dict[str, Any] = {**self.channels, "low_memory": self.low_memory}
        sizes["original_shape"] = None if stored == resampled else stored
        volumes = sum(volume_bill(resampled, window=self.window, at_window={}, **sizes).values())
        if volumes < SMALL * self.limit:
            return volumes
        options: dict[str, Any] = {"amp": self.amp, "sw_batch_size": self.at_once, "device": self.device}
        try:
            bill = inference_bill(self.network, resampled, patch_size=self.window, **options, **sizes)
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
        return self.total(*check_fits(case["image"], self.spacing, self.channels["in_channels"], self.series))

    def is_low(self, case: Mapping[str, Any]) -> bool:
        """Return whether an image is segmented on the path of ``low_memory``, which is said.

        Args:
            case: the image.
        """
        if self.low_memory:
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


class HeadPlan:
    """Refuse a head that does not fit: the network sees crops, so that only its volumes count.

    Args:
        segmenter: what segments heads.
        memory: what an image may take, such as 8GB; what is free now if None.
    """

    def __init__(self, segmenter: Segmenter, memory: str | None) -> None:
        get = segmenter.parser.get_parsed_content
        self.series, self.in_channels = get("series"), get("in_channels")
        self.limit = available_bytes(torch.device("cpu")) if memory is None else parse_bytes(memory)

    def is_low(self, case: Mapping[str, Any]) -> bool:
        """Return False, there is no path of ``low_memory``.

        Args:
            case: the image.

        Raises:
            ValueError: if the head does not fit.
        """
        check_head_fits(read_grid(case["image"], self.series).shape, self.in_channels, case["image"], self.limit)
        return False

    def needs_all(self, case: Mapping[str, Any]) -> bool:
        """Return whether a head takes so much that no other image is read or written beside it.

        Args:
            case: the image.
        """
        try:
            shape = read_grid(case["image"], self.series).shape
        except (ValueError, OSError):  # is said when it is read
            return False
        return 2 * sum(of_head(shape, self.in_channels).values()) > self.limit
