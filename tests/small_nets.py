"""The arguments that make each network small: few levels and channels, every part of it built.

A network of ``nets.__all__`` must be in one of the two tables, by its name; the battery of ``tests/harness.py`` builds
it from that. Exporting takes time by the number of layers, so there are no more than the parts need: three levels for
attention on a skip connection and an auxiliary head, two where a block alone is three attentions.
"""

from __future__ import annotations

IN_CHANNELS = 2
OUT_CHANNELS = 3
SIZE = (8, 16, 12)  # a multiple of every network's size_divisor, the axes different

SEGMENTERS: dict[str, dict[str, object]] = {
    "AttentionUnet": {"features": (4, 8, 16)},
    # Their stems have half of the first width, and two channels are easily both negative everywhere.
    "AxialUnet": {"features": (8, 8), "num_units": (1,)},
    "MbtfeUnet": {"features": (8, 8, 16), "mbtfe_levels": (1,)},
    "MedicalTransformer": {"features": (8, 8), "num_units": (1,), "global_levels": 1, "window_size": 4},
    # Its third version has all that the second has, and more; the first is in its own tests.
    "Primus": {"version": 3, "features": (4, 8, 8, 24), "num_layers": 2, "num_heads": 2, "num_registers": 1},
    "Setr": {"features": (4, 8, 16), "num_layers": 1, "num_heads": 2},
    # The first level of units of its trunk is the one behind the pooling, so there is a second.
    "TransUnet": {
        "features": (4, 8, 8, 16),
        "strides": (2, 2, 1),
        "num_units": (1, 1),
        "num_layers": 1,
        "num_heads": 2,
    },
}
# Steps of strides, where they are not one fewer than the features: there the tokens have two widths on their grid.
STEPS = {"Primus": 2}
# What deep supervision needs besides: a third level has the only auxiliary head.
DEEP: dict[str, dict[str, object]] = {
    "AxialUnet": {"features": (8, 8, 8), "num_units": (1, 1)},
    "MedicalTransformer": {"features": (8, 8, 8), "num_units": (1, 1), "global_levels": 2},
}
CLASSIFIERS: dict[str, dict[str, object]] = {
    "AttentionClassifier": {"features": (8, 16), "attention_module": "cbam"},
}
