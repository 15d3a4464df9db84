"""One loop runs the windows of both paths; a slow float64 reference says what it must return."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from custom_networks.workflow import MirrorSlidingWindowInferer, RegionClassesd
from custom_networks.workflow.infer import inferers
from custom_networks.workflow.infer.windows import grow_window, slab_axis, windows_of
from custom_networks.workflow.memory.fake_run import LiveStorages


class Context(nn.Module):
    """Logits of every voxel that depend on its neighbours and on where the window ends."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, classes, 3, padding=1)
        self.windows: list[int] = []

    def forward(self, x):
        self.windows.append(len(x))
        return self.conv(x) * 3


@pytest.mark.parametrize(
    ("size", "window"),
    [
        ((19, 12, 10), (8, 8, 8)),  # windows that end at the border, slabs along axis 0
        ((9, 30, 11), (8, 8, 8)),  # along axis 1
        ((16, 16, 50), (16, 16, 8)),  # one window wide in two axes, along axis 2
        ((5, 7, 20), (8, 8, 8)),  # smaller than the window in two axes
        ((8, 8, 8), (8, 8, 8)),
    ],
)
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.7])
def test_the_classes_of_the_normal_path(size, window, overlap):
    torch.manual_seed(0)
    net = Context(5)
    image = torch.randn(2, 2, *size)
    for mode, mirror_axes, batch in itertools.product(("constant", "gaussian"), ([], [0, 2]), (1, 3)):
        options = {"mode": mode, "overlap": overlap, "sw_batch_size": batch, "mirror_axes": mirror_axes, "amp": False}
        with torch.no_grad():
            logits = MirrorSlidingWindowInferer(window, **options)(image, net)
            labels = MirrorSlidingWindowInferer(window, low_memory=True, **options)(image, net)
        assert labels.dtype == torch.uint8
        assert labels.shape == (2, 1, *size)
        assert torch.equal(labels.long(), logits.softmax(1).argmax(1, keepdim=True)), (mode, mirror_axes, batch)
        assert len(labels.unique()) == 5


def test_the_innermost_region_of_the_normal_path():
    names, regions = ["background", "a", "b", "c", "d"], [[1, 2, 3], [2, 3], [3], [4]]
    net, image = Context(4), torch.randn(2, 2, 19, 12, 10)
    options = {"overlap": 0.5, "mode": "gaussian", "amp": False, "regions": regions}
    with torch.no_grad():
        logits = MirrorSlidingWindowInferer((8, 8, 8), **options)(image, net)
        labels = MirrorSlidingWindowInferer((8, 8, 8), low_memory=True, **options)(image, net)
    to_classes = RegionClassesd("pred", names, regions)
    want = torch.stack([to_classes({"pred": one.sigmoid()})["pred"] for one in logits])
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), want.long())
    assert labels.unique().tolist() == [0, 1, 2, 3, 4]


def test_windows_are_run_in_batches_and_get_the_arguments():
    class Scaled(Context):
        def forward(self, x, sign):
            return super().forward(x) * sign

    net = Scaled(3)
    inferer = MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, sw_batch_size=3, overlap=0.5, amp=False)
    image = torch.randn(1, 2, 12, 8, 8)
    with torch.no_grad():
        labels, opposite = inferer(image, net, 1.0), inferer(image, net, sign=-1.0)
    assert max(net.windows) == 3
    assert not (labels == opposite).any()


def test_the_meta_data_stays():
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    image = MetaTensor(torch.randn(1, 2, 12, 8, 8), affine=affine)
    with torch.no_grad():
        labels = MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, amp=False)(image, Context(3))
    assert isinstance(labels, MetaTensor)
    assert torch.equal(labels.affine, affine)
    assert labels.dtype == torch.uint8


def test_the_logits_of_a_slab_are_held_only():
    net, classes, depth = Context(16), 16, 128
    image = torch.randn(1, 2, depth, 16, 16)
    peaks = []
    for low_memory in (False, True):
        inferer = MirrorSlidingWindowInferer((16, 16, 16), low_memory=low_memory, overlap=0.5, amp=False)
        with torch.no_grad(), LiveStorages() as storages:
            inferer(image, net)
        peaks.append(storages.peak)
    assert peaks[0] > classes * depth * 16 * 16 * 4
    assert peaks[1] < 0.6 * peaks[0]


def test_the_thinnest_slab():
    assert slab_axis((64, 64, 64), (32, 32, 32)) == 0
    assert slab_axis((512, 512, 40), (256, 256, 16)) == 2


def test_more_classes_than_a_byte_holds():
    with torch.no_grad(), pytest.raises(ValueError, match="257 classes"):
        MirrorSlidingWindowInferer((4, 4, 4), low_memory=True, amp=False)(torch.zeros(1, 2, 4, 4, 4), Context(257))


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Return where windows start along an axis that is as long as a window or longer; the last ends with it."""
    step = max(1, int(window * (1 - overlap))) if length > window else window
    found = list(range(0, length - window, step))
    return [*found, length - window]


def gaussian(window) -> np.ndarray:
    """Return MONAI's weights: a Gaussian of an eighth of the window, no weight below a thousandth or the least."""
    lines = []
    for n in window:
        x = np.arange(-(n - 1) / 2.0, (n - 1) / 2.0 + 1)
        lines.append(np.exp(x**2 / (-2 * (n * 0.125) ** 2)))
    weights = lines[0][:, None, None] * lines[1][:, None] * lines[2]
    return weights.clip(max(weights.min(), 1e-3))


def reference(image, network, window, overlap, mirror_axes, skip: bool, background):
    """Return the mean logits in float64 of one image ``(C, X, Y, Z)`` whose air is the value 0."""
    pads = [
        (max(w - n, 0) // 2, max(w - n, 0) - max(w - n, 0) // 2) for w, n in zip(window, image.shape[1:], strict=True)
    ]
    padded = np.pad(image, [(0, 0), *pads])
    box = [(0, n) for n in padded.shape[1:]]
    if skip:
        for axis in range(3):
            places = np.nonzero((padded != 0).any(axis=tuple(a for a in range(4) if a != axis + 1)))[0]
            low, high = places[0], places[-1] + 1
            if high - low < window[axis]:
                low = min(max(0, (low + high) // 2 - window[axis] // 2), padded.shape[axis + 1] - window[axis])
                high = low + window[axis]
            box[axis] = (low, high)
    total = weight = 0
    for corner in itertools.product(*(starts(b - a, w, overlap) for (a, b), w in zip(box, window, strict=True))):
        place = tuple(slice(a + c, a + c + w) for (a, _), c, w in zip(box, corner, window, strict=True))
        part = padded[(slice(None), *place)]
        if skip and not (part != 0).any():
            continue
        logits = 0
        for flip in itertools.chain.from_iterable(itertools.combinations(mirror_axes, n) for n in range(4)):
            dims = [axis + 1 for axis in flip]
            x = torch.from_numpy(np.flip(part, dims).copy())[None]
            logits = logits + np.flip(network(x)[0].numpy(), dims)
        if isinstance(total, int):
            total, weight = np.zeros((len(logits), *padded.shape[1:])), np.zeros(padded.shape[1:])
        total[(slice(None), *place)] += logits / 2 ** len(mirror_axes) * gaussian(window)
        weight[place] += gaussian(window)
    result = np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.array(background)[:, None, None, None])
    inner = tuple(slice(before, before + n) for (before, _), n in zip(pads, image.shape[1:], strict=True))
    return result[(slice(None), *inner)]


def with_air(size, seed: int) -> torch.Tensor:
    """Return two channels that are 0 but in two opposite parts of the volume, away from its border."""
    image = torch.zeros(2, *size)
    for low, high in ((0.2, 0.5), (0.6, 0.9)):
        part = image[(slice(None), *(slice(int(low * n), int(high * n) + 1) for n in size))]
        part += torch.randn(part.shape, generator=torch.Generator().manual_seed(seed)) + 4
    return image


CLASSES, REGIONS = (0, -1e4, -1e4, -1e4), (-1e4,) * 4
NESTED = [[1, 2, 3], [2, 3], [3], [4]]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
@pytest.mark.parametrize("regions", [None, NESTED])
@pytest.mark.parametrize(
    ("size", "overlap"),
    [
        ((31, 17, 13), 0.5),
        ((44, 40, 30), 0.25),
        ((5, 7, 27), 0.25),
        ((9, 33, 8), 0.7),
        ((8, 8, 8), 0.5),
        ((21, 40, 3), 0.0),
    ],
)
def test_the_reference_in_float64(size, overlap, regions, mirror_axes, skip):
    torch.manual_seed(1)
    net, window = Context(4), (8, 8, 6)
    images = torch.stack([with_air(size, 0), with_air(size, 1).flip(1)])
    exact = nn.Conv3d(2, 4, 3, padding=1, dtype=torch.float64)
    exact.load_state_dict({name: value.double() for name, value in net.conv.state_dict().items()})
    background = CLASSES if regions is None else REGIONS
    with torch.no_grad():
        wanted = torch.stack(
            [
                torch.from_numpy(
                    reference(
                        image.double().numpy(), lambda x: exact(x) * 3, window, overlap, mirror_axes, skip, background
                    )
                )
                for image in images
            ]
        )
        for batch, low_memory in itertools.product((1, 3), (False, True)):
            inferer = MirrorSlidingWindowInferer(
                window,
                overlap=overlap,
                mode="gaussian",
                mirror_axes=mirror_axes,
                regions=regions,
                sw_batch_size=batch,
                skip_air=skip,
                low_memory=low_memory,
                amp=False,
            )
            got = inferer(images, net)
            if not low_memory:
                assert got.dtype == torch.float32
                torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)
            elif regions is None:
                assert torch.equal(got[:, 0].long(), wanted.argmax(1))
            else:
                to_classes = RegionClassesd("pred", ["background", "a", "b", "c", "d"], regions)
                classes = torch.stack([to_classes({"pred": one.sigmoid()})["pred"] for one in wanted])
                assert torch.equal(got.long(), classes.long())


class Bright(nn.Module):
    """Background where there is air, else a class by the intensity; notes how many windows it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        return torch.cat([2 - x[:, :1], x[:, :1] - 2, 3 * x[:, :1] - 14], 1)


@pytest.mark.parametrize("low_memory", [False, True])
def test_the_mask_is_the_same_where_air_is_background(low_memory):
    image, net = with_air((60, 50, 40), 3)[None], Bright()
    masks, seen = [], []
    for skip in (False, True):
        options = {"overlap": 0.5, "mode": "gaussian", "low_memory": low_memory, "amp": False, "skip_air": skip}
        net.seen = 0
        result = MirrorSlidingWindowInferer((8, 8, 8), **options)(image, net)
        masks.append(result if low_memory else result.softmax(1).argmax(1, keepdim=True))
        seen.append(net.seen)
    assert torch.equal(*masks)
    assert masks[0].unique().tolist() == [0, 1, 2]
    assert seen[1] < 0.3 * seen[0]


def test_a_voxel_that_no_window_covers_is_background_with_certainty():
    image = torch.zeros(1, 1, 30, 30, 30)
    image[..., :9, :9, :9] = 1 + torch.rand(9, 9, 9)

    def network(x):
        return torch.stack([x[:, 0], x[:, 0] + 5], 1)  # never background

    options = {"overlap": 0.5, "mode": "gaussian", "amp": False, "skip_air": True}
    logits = MirrorSlidingWindowInferer((8, 8, 8), **options)(image, network)
    assert torch.equal(logits.softmax(1)[0, 0, 9:], torch.ones(21, 30, 30))
    assert (logits.argmax(1)[..., :9, :9, :9] == 1).all()
    regions = MirrorSlidingWindowInferer((8, 8, 8), regions=[[1, 2], [2]], **options)(image, network)
    assert (regions.sigmoid()[..., 9:, :, :] == 0).all()
    assert (regions.sigmoid()[..., :9, :9, :9] > 0.5).all()


def test_an_image_of_air_alone_is_run_as_any_other():
    image, net = torch.zeros(1, 2, 12, 8, 8), Context(3)
    with torch.no_grad():
        skipped, normal = (
            MirrorSlidingWindowInferer((8, 8, 8), amp=False, skip_air=skip)(image, net) for skip in (True, False)
        )
    assert torch.equal(skipped, normal)


def test_a_crop_of_tissue_has_all_its_windows():
    image = torch.randn(1, 43, 59, 47, generator=torch.Generator().manual_seed(0))
    inside = tuple(slice(0, n) for n in image.shape[1:])
    every, kept = (windows_of(image, inside, (40, 56, 40), 0.5, skip) for skip in (False, True))
    assert every == kept
    assert len(every) == 8


def test_air_is_looked_for_in_each_image_alone():
    images = torch.stack([with_air((24, 24, 24), 0), 5 + torch.randn(2, 24, 24, 24)])
    net, options = Context(3), {"overlap": 0.5, "amp": False, "skip_air": True}
    with torch.no_grad():
        both = MirrorSlidingWindowInferer((8, 8, 8), **options)(images, net)
        alone = [MirrorSlidingWindowInferer((8, 8, 8), **options)(image[None], net) for image in images]
    assert torch.equal(both, torch.cat(alone))


@pytest.mark.parametrize("windows", [1, 2, 5, 8, 64, 10**6])
@pytest.mark.parametrize("image", [(200, 180, 40), (33, 32, 200), (20, 20, 20)])
def test_a_window_grows_within_the_image_and_what_is_allowed(image, windows):
    roi, divisor = (32, 24, 16), (8, 4, 4)
    grown = grow_window(roi, image, divisor, windows)
    assert math.prod(grown) <= windows * math.prod(roi)
    for n, r, part, whole in zip(grown, roi, divisor, image, strict=True):
        assert n >= r
        assert n % part == 0
        assert n == r or n < whole + part
    if windows == 1:
        assert grown == roi
    if windows == 10**6:
        assert grown == tuple(max(r, -(-n // part) * part) for r, n, part in zip(roi, image, divisor, strict=True))


class Local(nn.Module):
    """A network that says of itself that it is local, or not, and notes the sizes it has seen."""

    size_divisor = (2, 2, 2)

    def __init__(self, local: bool) -> None:
        super().__init__()
        self.local = local
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        self.sizes: list[tuple[int, ...]] = []

    def is_local(self):
        return self.local

    def forward(self, x):
        self.sizes.append(tuple(x.shape))
        return self.conv(x)


def test_a_local_network_gets_a_larger_window_and_any_other_more_of_them():
    image = torch.randn(1, 1, 24, 20, 16)
    for is_local in (True, False):
        net = Local(is_local)
        with torch.no_grad():
            got = MirrorSlidingWindowInferer((8, 8, 8), sw_batch_size=4, overlap=0.5, amp=False)(image, net)
            window = (16, 12, 10) if is_local else (8, 8, 8)
            assert {size[2:] for size in net.sizes} == {window}
            assert max(size[0] for size in net.sizes) == (1 if is_local else 4)
            net.sizes.clear()
            assert torch.allclose(got, SlidingWindowInferer(window, overlap=0.5)(image, net), atol=1e-5)
            MirrorSlidingWindowInferer((8, 8, 8), overlap=0.5, amp=False)(image, net)
        assert net.sizes[-1] == (1, 1, 8, 8, 8)


def test_of_equal_probabilities_the_first_class_is_the_largest():
    logits = torch.randint(0, 3, (5, 40, 40), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(inferers.largest(logits).long(), logits.softmax(0).argmax(0))


def test_the_weights_are_made_once(monkeypatch):
    made = []
    inferer = MirrorSlidingWindowInferer((8, 8, 8), mode="gaussian", amp=False)
    original = inferers.compute_importance_map
    monkeypatch.setattr(inferers, "compute_importance_map", lambda *a, **k: made.append(a) or original(*a, **k))
    for size in ((12, 8, 8), (20, 9, 8), (4, 4, 4)):
        inferer(torch.zeros(1, 1, *size), nn.Identity())
    assert len(made) == 1
    inferer(torch.zeros(1, 1, 8, 8, 8, dtype=torch.float64), nn.Identity())
    assert len(made) == 2


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 2])
def test_an_overlap_that_is_none(overlap):
    with pytest.raises(ValueError, match=f"overlap must be a number from 0 to less than 1, got {overlap}; use"):
        MirrorSlidingWindowInferer((4, 4, 4), overlap=overlap)
