"""Five cells of the table of what a network can know, trained anew."""

from __future__ import annotations

import pytest

from custom_networks.files import read_json
from tools.reference.reach import CONTROL
from tools.study import control, control_run

REPORT = read_json(CONTROL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "task", "solved"),
    [
        ("plain", "what", "no"),
        ("squeeze_excitation", "what", "yes"),
        ("squeeze_excitation", "which", "no"),
        ("multi_head_self_attention", "which", "yes"),
        ("plain_coordinates", "where", "yes"),
    ],
)
def test_a_mechanism_solves_what_it_can_reach_and_nothing_else(network, task, solved):
    record = control_run.train(network, task, seed=0, steps=REPORT["steps"])
    assert control.reach([record["correct"]])["solved"] == solved == REPORT["reach"][network][task]["solved"]
