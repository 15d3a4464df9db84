"""The argument checks: what they return, and the sentence of every error."""

from __future__ import annotations

import re

import pytest
import torch

from custom_networks.checks import (
    check_attention_parts,
    check_divides,
    check_divides_all,
    check_heads,
    check_input,
    check_odd,
    check_reduction,
    check_spatial_dims,
    check_width,
    per_axis,
    per_level,
)


@pytest.mark.parametrize(("value", "want"), [(2, (2, 2, 2)), ((1, 2, 3), (1, 2, 3)), ([4, 4, 1], (4, 4, 1))], ids=str)
def test_per_axis(value, want):
    assert per_axis(value, 3, "strides") == want


@pytest.mark.parametrize(
    "value", [0, -1, (1, 2), (1, 2, 3, 4), (2, 0, 2), (), 2.5, (2, 2.5, 2), "222", ("2", 2, 2)], ids=str
)
def test_per_axis_refuses(value):
    with pytest.raises(ValueError, match=r"strides must be a positive integer or 3 positive integers, got .*; use for"):
        per_axis(value, 3, "strides")


def test_per_level():
    assert per_level([2, (1, 2, 3)], 2, 3, "strides") == [(2, 2, 2), (1, 2, 3)]
    assert per_level(3, 2, 2, "kernel_size") == [(3, 3), (3, 3)]


@pytest.mark.parametrize("widths", ["features", "in_channels"])
def test_per_level_refuses(widths):
    message = f"strides must have 3 entries for these {widths}, got 2: (2, 2); give that many, or one integer for all"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        per_level((2, 2), 3, 3, "strides", widths)


def test_per_level_refuses_fractions():
    with pytest.raises(
        ValueError, match=r"strides must be a positive integer or 3 positive integers, got 2.5; use for"
    ):
        per_level(2.5, 2, 3, "strides")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ("gate", "attention must be a list of names, got 'gate'; use ['gate']"),
        (["gate", "se"], "attention must hold only ('gate', 'non_local'), got ['se']; leave out the rest"),
    ],
)
def test_check_attention_parts_refuses(parts, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_attention_parts(parts, ("gate", "non_local"))


def test_check_width():
    assert check_width(1, "inter_channels") == 1
    with pytest.raises(ValueError, match="inter_channels must be at least 1, got 0; use for example 8"):
        check_width(0, "inter_channels")


@pytest.mark.parametrize(("channels", "reduction", "want"), [(16, 8, 2), (16, 1, 16), (4, 8, 1), (5, 2, 2)])
def test_check_reduction(channels, reduction, want):
    assert check_reduction(channels, reduction) == want


@pytest.mark.parametrize("reduction", [0, -1])
def test_check_reduction_refuses(reduction):
    with pytest.raises(ValueError, match=f"width must be at least 1, got {reduction}; use 1 to keep all 16 channels"):
        check_reduction(16, reduction, "width")


@pytest.mark.parametrize(("channels", "parts", "want"), [(16, 4, 4), (10, 1, 10), (6, 6, 1)])
def test_check_divides(channels, parts, want):
    assert check_divides(channels, parts, "groups") == want


@pytest.mark.parametrize("parts", [0, -1, 4, 20])
def test_check_divides_refuses(parts):
    with pytest.raises(ValueError, match=f"groups must divide in_channels 10, got {parts}; use one of 1, 2, 5, 10$"):
        check_divides(10, parts, "groups")


def test_check_divides_names_what_is_divided():
    with pytest.raises(ValueError, match=r"^groups must divide in_channels / 2 = 3, got 2; use one of 1, 3$"):
        check_divides(3, 2, "groups", "in_channels / 2 =")


def test_check_divides_all():
    check_divides_all((8, 12), 4, "groups", "features")


@pytest.mark.parametrize("parts", [0, -1, 3, 8])
def test_check_divides_all_refuses(parts):
    message = f"groups must divide every entry of features (8, 12), got {parts}; use one of 1, 2, 4"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_divides_all((8, 12), parts, "groups", "features")


@pytest.mark.parametrize(
    ("heads", "width", "want"), [(4, None, [4, 4]), (1, None, [1, 16]), (3, 5, [3, 5]), (1, 1, [1, 1])]
)
def test_check_heads(heads, width, want):
    assert check_heads(16, heads, width) == want


@pytest.mark.parametrize(
    ("heads", "width", "message"),
    [
        (3, None, "num_heads must divide in_channels 16, got 3; use one of 1, 2, 4, 8, 16$"),
        (0, None, "num_heads must divide in_channels 16, got 0; use one of 1, 2, 4, 8, 16$"),
        (0, 4, "num_heads and head_channels must be at least 1, got 0 and 4; use for example 4 and None$"),
        (4, 0, "num_heads and head_channels must be at least 1, got 4 and 0; use for example 4 and None$"),
    ],
)
def test_check_heads_refuses(heads, width, message):
    with pytest.raises(ValueError, match=message):
        check_heads(16, heads, width)


@pytest.mark.parametrize("value", [1, 3, 7, (1, 3, 5), [3, 3]], ids=str)
def test_check_odd(value):
    check_odd(value, "kernel_size")


@pytest.mark.parametrize(
    ("value", "use"), [(2, 3), (0, 1), (-3, 1), ((1, 2, 3), (1, 3, 3)), ([3, -2], (3, 1)), ((0, 4), (1, 5))], ids=str
)
def test_check_odd_refuses(value, use):
    message = f"kernel_size must be odd and positive, got {value}; use for example {use}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_odd(value, "kernel_size")


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_check_spatial_dims(spatial_dims):
    check_spatial_dims(spatial_dims)


@pytest.mark.parametrize("spatial_dims", [0, 1, 4])
def test_check_spatial_dims_refuses(spatial_dims):
    with pytest.raises(ValueError, match=f"spatial_dims must be 2 or 3, got {spatial_dims}; reshape the data"):
        check_spatial_dims(spatial_dims)


@pytest.mark.parametrize("shape", [(1, 2, 8, 4, 12), (3, 2, 8, 8, 4), (1, 2, 16, 4, 4)], ids=str)
def test_check_input(shape):
    check_input(torch.zeros(shape), 2, (8, 4, 4))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 8, 4, 4), r"must have 5 axes \(batch, channel, 3 spatial\), got shape \(2, 8, 4, 4\); add or remove"),
        ((1, 2, 8, 4, 4, 1), r"must have 5 axes .* got shape \(1, 2, 8, 4, 4, 1\)"),
        ((1, 3, 8, 4, 8), r"must have 2 channels, got 3 \(shape \(1, 3, 8, 4, 8\)\); set in_channels=3 or select"),
        ((1, 2, 9, 4, 7), r"spatial shape \(9, 4, 7\) must be divisible by \(8, 4, 4\); pad to \(16, 4, 8\)"),
        ((1, 2, 8, 4, 4), r"spatial shape \(8, 4, 4\) leaves one voxel on the coarsest grid; pad to \(16, 4, 4\)"),
    ],
    ids=["too-few-axes", "too-many-axes", "channels", "divisor", "one-voxel"],
)
def test_check_input_refuses(shape, message):
    with pytest.raises(ValueError, match=message):
        check_input(torch.zeros(shape), 2, (8, 4, 4))
