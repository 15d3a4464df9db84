"""Where the grids of modules and keys lie, and what is made of the map of every attention module."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from custom_networks.attention import EfficientMultiHeadSelfAttention, NonLocal
from custom_networks.attention_map.spatial_map import Grid, GridFinder, attention_modules, key_grid, spatial_map
from custom_networks.nets import AttentionClassifier, AttentionUnet, Primus
from custom_networks.registry import ATTENTION

CHANNEL_MAPS = {"eca", "external_attention", "par_net_attention", "selective_kernel", "squeeze_excitation"}


def test_grids_of_the_networks_of_this_package():
    """Kernels, pooling and strides that differ between the axes; sizes that the pooling does not divide."""
    net = AttentionClassifier(3, 1, 2, features=(4, 8), attention_module="cbam").eval()
    for size in (28, 29):
        grid = GridFinder(net, ["attention.attention"], (1, 1, size, 28, 28)).grid("attention.attention")
        assert grid.shape == (6, 6, 8)
        np.testing.assert_allclose(grid.first, [8.5, 8.5, 6.5])  # 4 + 2 * 2 voxels off, 2 + 2 * 2 off the last
        np.testing.assert_allclose(grid.spacing, 2)
    unet = AttentionUnet(3, 1, 2, features=(4, 8, 8), strides=[[1, 2, 2], [2, 2, 1]]).eval()
    finder = GridFinder(unet, list(attention_modules(unet)), (1, 1, 10, 16, 12))
    for name, spacing in (("encoder.2.3", (2, 4, 2)), ("decoder.0.gate", (1, 2, 2))):
        grid = finder.grid(name)
        np.testing.assert_allclose(grid.spacing, spacing)
        np.testing.assert_allclose(grid.first, (np.array(spacing) - 1) / 2)
    for version, features in ((1, [12]), (3, [4, 4, 4, 4, 12])):
        tokens = Primus(3, 1, 2, version=version, features=features, num_layers=1, num_heads=2).eval()
        assert list(attention_modules(tokens)) == ["eva"]
        grid = GridFinder(tokens, ["eva"], (1, 1, 16, 24, 32)).grid("eva")
        assert grid.shape == (2, 3, 4)
        np.testing.assert_allclose([grid.first, grid.spacing], [[3.5] * 3, [8] * 3])
    strided = nn.Sequential(nn.Conv3d(1, 4, 3, stride=2, padding=1), nn.Identity())
    grid = GridFinder(strided, ["1"], (1, 1, 8, 9, 10)).grid("1")
    np.testing.assert_allclose(grid.first, 0)  # the centre tap of the first window
    fixed = nn.Sequential(nn.AdaptiveAvgPool3d(4), nn.Identity())
    with pytest.raises(ValueError, match="does not grow"):
        GridFinder(fixed, ["1"], (1, 1, 8, 8, 8)).grid("1")


def test_grids_of_pooled_keys():
    """A ramp through the reduction of the keys has, at the place of each key, the value of the ramp there."""
    x = torch.randn(1, 8, 5, 6, 1)
    keys = key_grid(NonLocal(3, 8), x)
    assert keys.shape == (2, 3, 1)
    np.testing.assert_allclose(keys.spacing[:2], 2)
    np.testing.assert_allclose(keys.first[:2], 0.5)
    module = EfficientMultiHeadSelfAttention(3, 8, reduction=2)
    nn.init.constant_(module.reduce.weight, 1 / 27)
    nn.init.zeros_(module.reduce.bias)
    line = torch.arange(9.0).reshape(1, 1, 9, 1, 1).expand(1, 8, 9, 9, 9)
    reduced = module.reduce(F.pad(line, module.margin))[0, 0, :, 2, 2]
    keys = key_grid(module, torch.randn(1, 8, 9, 9, 9))
    places = keys.first[0] + keys.spacing[0] * np.arange(keys.shape[0])
    np.testing.assert_allclose(places[1:-1], reduced[1:-1].detach(), atol=1e-4)
    on_input = keys.of(Grid((9, 9, 9), np.full(3, 8.5), np.full(3, 2.0)))
    np.testing.assert_allclose(on_input.first, 8.5 + 2 * keys.first)
    np.testing.assert_allclose(on_input.spacing, 2 * keys.spacing)


@pytest.mark.parametrize("name", [n for n, kind in ATTENTION.items() if hasattr(kind, "attention_map")])
def test_every_attention_module(name):
    """Gates give their mean, maps between voxels the row of the query, and channel maps are refused."""
    size, query = (2, 4, 8), (1, 2, 3)
    module, x = ATTENTION[name](3, 64).eval(), torch.randn(1, 64, *size)  # as many channels as voxels
    grid = Grid(size, np.zeros(3), np.ones(3))
    read = partial(spatial_map, module, (x,), grid, np.array(query) + 0.2)
    if name in CHANNEL_MAPS:
        with pytest.raises(ValueError, match=r"no place in the image|mean shows nothing"):
            read()
        return
    found = read()
    full = module.attention_map(x)[0].detach()
    if full.shape[1:] == size:
        assert found.values.shape == size
        np.testing.assert_allclose(found.values, full.mean(0), rtol=1e-5)
    elif full.shape[-1] == sum(size):
        line = full.mean(0)[query]
        np.testing.assert_allclose(found.values.sum(), line.sum(), rtol=1e-5)
        np.testing.assert_allclose(found.values[0, 2, 3], line[0], rtol=1e-5)
        np.testing.assert_allclose(found.values[1, [0, 1, 3], 3], line[2:6][[0, 1, 3]], rtol=1e-5)
        np.testing.assert_allclose(found.values[1, 2, 4:], line[10:], rtol=1e-5)
        off = [i for i in np.ndindex(size) if sum(a != b for a, b in zip(i, query, strict=True)) > 1]
        assert all(found.values[i] == 0 for i in off)
    else:
        row = full.reshape(-1, 64, full.shape[-1]).mean(0)[1 * 32 + 2 * 8 + 3]
        np.testing.assert_allclose(found.values.ravel(), row, rtol=1e-4, atol=1e-7)


def test_a_map_of_channels_is_not_taken_for_one_of_voxels():
    """Dual attention's channel map is square; with as many channels as voxels only the meaning differs."""
    dual, x = ATTENTION["dual_attention"](3, 60).eval(), torch.randn(1, 60, 3, 4, 5)
    grid = Grid((3, 4, 5), np.zeros(3), np.ones(3))
    with pytest.raises(ValueError, match="no place in the image"):
        spatial_map(dual.channel, (x,), grid, np.zeros(3))
    assert list(attention_modules(nn.Sequential(dual))) == ["0"]
