"""The indices of the classes that keep only their largest component, in a crop and in a head."""

from __future__ import annotations

import pytest

from custom_networks.workflow import head_label_names, largest_component_labels

NAMES = ["background", "heart", "aorta", "lung"]


@pytest.mark.parametrize(
    ("chosen", "labels"), [(True, [1, 2, 3]), (False, []), ([], []), (["lung", "heart"], [1, 3]), (("aorta",), [2])]
)
def test_the_classes_that_are_chosen(chosen, labels):
    assert largest_component_labels(chosen, NAMES) == labels


def test_in_a_head_a_class_is_chosen_in_every_place():
    of_head = head_label_names([{"name": "Left"}, {"name": "Right"}], NAMES)
    chosen = largest_component_labels(["heart", "lung"], NAMES, places=2)
    assert [of_head[label] for label in chosen] == ["Left-heart", "Left-lung", "Right-heart", "Right-lung"]
    assert [of_head[label] for label in largest_component_labels(True, NAMES, places=2)] == of_head[1:]
