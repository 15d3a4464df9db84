"""What an image takes is asked of the path that segments it."""

from __future__ import annotations

from types import SimpleNamespace

from monai.bundle import ConfigParser
from torch import nn

from custom_networks.predict.memory_plan import MemoryPlan

KNOBS = {
    **{"device": "cpu", "spacing": [1.0] * 3, "series": None, "patch_size": [32] * 3, "amp": False},
    **{"in_channels": 1, "label_names": [str(number) for number in range(16)], "regions": None},
}


def test_low_memory_has_a_bill_of_its_own():
    totals = {}
    for low_memory in (False, True):
        parser = ConfigParser({**KNOBS, "low_memory": low_memory})
        plan = MemoryPlan(SimpleNamespace(parser=parser, network=nn.Conv3d(1, 16, 1)), "1GB")
        totals[low_memory] = plan.total((256, 256, 256), (256, 256, 256))
    assert totals[True] < totals[False] / 4
