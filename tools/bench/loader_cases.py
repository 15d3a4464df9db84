"""What both pipelines of the loader's benchmark draw their samples from; runs where there is nothing but NumPy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPE = (192, 192, 160)
CASES = 3
BATCH = 2
WARM_UP = 2
OURS_TURNED = 0.6
"""Share of the patches that the recipe turns and scales."""


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and a label of four classes, of which the last is small.

    Args:
        seed: of the values.

    Returns:
        ``(1, *SHAPE)`` each, float32 and int16.
    """
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=tuple(n // 16 for n in SHAPE))
    smooth = coarse.repeat(16, 0).repeat(16, 1).repeat(16, 2)
    image = (smooth + generator.normal(0, 0.3, SHAPE)).astype(np.float32)
    label = np.digitize(smooth, [0.8, 1.6, 2.4]).astype(np.int16)
    return image[None], label[None]


def cpu_seconds(draw_batch: Callable[[], Any], samples: int) -> float:
    """Return the processor's seconds per sample, after some batches that warm up.

    Args:
        draw_batch: makes a batch of ``BATCH``.
        samples: how many to draw.
    """
    for _ in range(WARM_UP):
        draw_batch()
    start = time.process_time()
    for _ in range(samples // BATCH):
        draw_batch()
    return (time.process_time() - start) / samples
