"""The plan for a GPU: the rules for patch, batch and network, beside what nnU-Net plans for the same images."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from custom_networks import nets
from custom_networks.adapt import gpu_plan
from custom_networks.adapt.choices import deepest
from custom_networks.adapt.gpu_plan import SHARE, SMALLEST_BATCH, gpu_fit, ladder, largest_batch
from custom_networks.adapt.network import build, step_bytes
from tests.synthetic import SEGMENTATION, config, each_slowly

GPU = torch.device("cuda")
UNET = {"_target_": "custom_networks.nets.AttentionUnet", "kernel_size": 3}
# median image in x, y, z at its spacing; patch, features and strides that nnU-Net 2.8.1 plans for it
NNUNET = {
    "hippocampi": ((1, 1, 1), (36, 50, 35), [40, 56, 40], [32, 64, 128, 256]),
    "hearts": ((1.5, 1.5, 10), (216, 256, 9), [224, 256, 10], [32, 64, 128, 256, 320, 320]),
    "head and neck": ((3.92, 2.5, 3.92), (121, 110, 69), [128, 112, 80], [32, 64, 128, 256, 320]),
    "brains": ((2, 2, 2), (69, 89, 67), [80, 96, 80], [32, 64, 128, 256, 320]),
}
HEARTS = [[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 1], [2, 2, 1]]
BRAINS = NNUNET["brains"][:2]


def plan(bundle, memory, spacing, median, voxels=10**9, **knobs):
    known = {"spacing": list(spacing), "in_channels": 1, "label_names": ["background", "organ"], **knobs}
    return gpu_fit(bundle, config(bundle), known, list(median), memory, voxels, GPU), known


@pytest.mark.parametrize(("spacing", "median", "patch", "features"), NNUNET.values(), ids=NNUNET.keys())
def test_a_whole_image_gets_the_network_that_nnunet_plans(spacing, median, patch, features):
    rung = next(ladder(UNET, spacing, median))
    assert rung.patch_size == patch
    assert rung.knobs["network_def#features"] == features
    if median == NNUNET["hearts"][1]:
        assert rung.knobs["network_def#strides"] == HEARTS
        assert rung.knobs["network_def#kernel_size"][:2] == [[3, 3, 1], [3, 3, 1]]


@pytest.mark.parametrize(("voxels", "steps"), [(64, 4), (63, 3)])
def test_depth_leaves_four_voxels(voxels, steps):
    assert deepest((1, 1, 1), (voxels,) * 3) == steps


@pytest.mark.parametrize(("voxels", "steps"), [(48, 3), (47, 2)])
def test_a_step_along_one_axis_needs_more(voxels, steps):
    """Twelve voxels must be left of it before the step when the others have no more than four."""
    assert deepest((1, 1, 1), (voxels, 16, 16)) == steps


@pytest.mark.parametrize("median", [(300, 200, 100), (512, 512, 40)])
def test_smaller_patches_keep_the_aspect_of_the_image(median):
    sizes = [rung.patch_size for rung in ladder(UNET, (1, 1, 1), median)]
    assert all(math.prod(later) < math.prod(size) for size, later in pairwise(sizes))
    for size in sizes:
        shares = [n / whole for n, whole in zip(size, median, strict=True)]
        apart = [64 / whole for whole in median]  # two of the coarsest strides
        assert max(shares) - min(shares) <= max(apart)
    assert math.prod(sizes[-1]) < 32**3


@each_slowly(SEGMENTATION)
def test_the_largest_patch_that_fits(bundle):
    """The next larger one of the ladder would not."""
    image, memory = ((1, 1, 1), (48, 56, 48)), 400_000_000
    chosen, known = plan(bundle, memory, *image)
    assert chosen.batch_size == SMALLEST_BATCH
    assert not chosen.whole
    assert chosen.step_bytes <= SHARE * memory
    rungs = list(ladder(config(bundle)["network_def"], *image))
    position = next(i for i, rung in enumerate(rungs) if rung.patch_size == chosen.patch_size)
    needs = []
    for rung in (rungs[position], rungs[position - 1]):
        network = build(bundle, {**known, **rung.knobs})
        needs.append(step_bytes(network, {**config(bundle), **known}, rung.patch_size, SMALLEST_BATCH, GPU))
    assert needs[0] == chosen.step_bytes
    assert needs[1] > SHARE * memory


@pytest.mark.slow
def test_more_memory_makes_a_larger_patch():
    patches = [
        plan(SEGMENTATION[0], memory, (1, 1, 1), (160, 192, 160))[0].patch_size for memory in (3 * 10**9, 6 * 10**9)
    ]
    assert math.prod(patches[0]) < math.prod(patches[1])


@pytest.mark.slow
def test_the_batch_grows_where_the_patch_is_the_image():
    """To 5 % of the voxels, to what fits, and to two in any case."""
    unet, voxels = SEGMENTATION[0], math.prod(BRAINS[1])
    batches = []
    for memory, images in ((80 * 10**9, 15), (80 * 10**9, 300), (8 * 10**9, 300)):
        chosen, known = plan(unet, memory, *BRAINS, voxels=images * voxels)
        assert chosen.whole
        assert chosen.patch_size == [80, 96, 80]
        batches.append(chosen.batch_size)
    most = round(0.05 * 300 * voxels / (80 * 96 * 80))
    assert batches[:2] == [2, most]
    assert 2 < batches[2] < most
    assert chosen.step_bytes <= SHARE * 8 * 10**9
    sizes = {**config(unet), **known}, chosen.patch_size, batches[2] + 1, GPU
    assert step_bytes(chosen.network, *sizes) > SHARE * 8 * 10**9


def test_too_little_memory_is_refused_with_what_would_do():
    with pytest.raises(
        ValueError, match=r"at full width takes \d+ MB with 2 patches of .* more than 85% of 50 MB; give"
    ):
        plan(SEGMENTATION[0], 50_000_000, *BRAINS)


@pytest.mark.parametrize("limit", [24, 30, 31, 59, 60, 65, 700, 701])
@pytest.mark.parametrize("most", [2, 3, 7, 100])
def test_the_largest_batch(limit, most):
    batch, need = largest_batch(lambda n: 10 + 7 * n, limit, most)
    assert need == 10 + 7 * batch <= limit
    assert 2 <= batch <= most
    assert batch == most or need + 7 > limit


@pytest.mark.parametrize("name", ["AttentionUnet", "MbtfeUnet", "TransUnet", "MedicalTransformer", "AxialUnet", "Setr"])
@pytest.mark.parametrize("steps", [2, 3, 4, 6])
def test_every_network_scales(name, steps):
    """Its arguments make a network of so many halvings, 32 channels wide at first and 320 at most."""
    kind = getattr(nets, name)
    if steps < kind.fewest_steps or (kind.most_steps or steps) < steps:
        pytest.skip("never asked for")
    scaled = kind.scaled_arguments(steps, {})
    assert math.prod(max(step) for step in kind.steps_of(scaled, 3)) == 2**steps
    assert scaled["features"][0] == 32
    pooled = "stem_pool" in scaled  # the stem and the level after it are of one width
    widest = 768 if name == "Setr" else min(320, 32 * 2 ** (steps - pooled))
    assert max(scaled["features"]) == widest
    assert isinstance(kind(**scaled), kind)


@pytest.mark.parametrize("version", [1, 2, 3])
def test_primus_scales_to_its_released_size(version):
    """Three halvings whatever the patch, and the width of the tokens that it was published with."""
    assert nets.Primus.fewest_steps == nets.Primus.most_steps == 3
    scaled = nets.Primus.scaled_arguments(3, {"version": version})
    assert nets.Primus.steps_of(scaled, 3) == [(2, 2, 2)] * 3
    assert scaled["features"][-1] == 396
    with torch.device("meta"):
        assert nets.Primus(3, 1, 2, **scaled).size_divisor == (8, 8, 8)


def test_the_widths_of_the_classifier_are_those_of_its_paper():
    assert nets.AttentionClassifier(3, 1, 2, **nets.AttentionClassifier.scaled_arguments()).head[0].in_features == 128


def test_the_transformer_has_heads_of_at_most_64_features():
    for steps in (2, 3, 4):
        scaled = nets.TransUnet.scaled_arguments(steps, {})
        hidden = 3 * scaled["features"][-1] // 2
        assert hidden % scaled["num_heads"] == 0
        assert hidden / scaled["num_heads"] <= 64


def test_knobs_of_every_gpu_plan():
    assert gpu_plan.GPU_KNOBS["steps_per_epoch"] * gpu_plan.EPOCHS == 250_000
