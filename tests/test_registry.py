"""The registry holds exactly the plug-in attentions."""

from __future__ import annotations

import inspect
import re

import pytest
from torch import nn

from custom_networks import attention
from custom_networks.registry import ATTENTION


def test_holds_every_attention_class():
    assert {kind.__name__ for kind in ATTENTION.values()} == set(attention.__all__)


@pytest.mark.parametrize("name", ATTENTION)
def test_name_is_the_snake_case_of_the_class_and_of_its_file(name):
    kind = ATTENTION[name]
    assert issubclass(kind, nn.Module)
    assert kind.__module__ == f"custom_networks.attention.{name}"
    assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() == name


@pytest.mark.parametrize("name", ATTENTION)
def test_every_class_takes_two_arguments_by_position_and_the_others_by_name(name):
    parameters = list(inspect.signature(ATTENTION[name]).parameters.values())
    assert [p.name for p in parameters[:2]] == ["spatial_dims", "in_channels"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[2:])


def test_is_immutable():
    with pytest.raises(TypeError):
        ATTENTION["mine"] = nn.Identity
