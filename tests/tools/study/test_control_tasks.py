"""The tasks of the positive control: who could know the class, and that nobody else can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from tools.study.control_net import PlainUnet, WithCoordinates
from tools.study.control_tasks import CUBE, FAR, SIZE, TASKS, draw

each_task = pytest.mark.parametrize("task", TASKS)


@each_task
def test_the_same_key_draws_the_same_volumes_and_another_key_others(task):
    first, again, other = (draw(task, key, 3) for key in ((4, 1), (4, 1), (4, 2)))
    assert all(np.array_equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    assert not np.array_equal(first.images, other.images)
    assert np.array_equal(first.images[:2], draw(task, (4, 1), 2).images)
    assert first.images.shape == (3, 1, *SIZE) and first.images.dtype == np.float32


@each_task
def test_classes_are_balanced_and_so_are_places(task):
    volumes = draw(task, (0,), 600)
    assert all(binomtest(int(volumes.classes[:, i].sum()), 600).pvalue > 1e-3 for i in range(2))
    same = volumes.classes[:, 0] == volumes.classes[:, 1]
    assert same.sum() == (0 if task == "which" else 600)
    assert (volumes.blobs.sum((2, 3, 4)) == CUBE**3).all() and not (volumes.blobs[:, 0] & volumes.blobs[:, 1]).any()
    if task != "where":  # there the place is the answer
        places = np.argwhere(volumes.blobs[:, 0])
        means = [places[volumes.classes[places[:, 0], 0] == kind, 3].mean() for kind in (0, 1)]
        assert means[0] == pytest.approx(means[1], abs=2)


@each_task
def test_twins_have_the_other_class_and_differ_in_what_decides_alone(task):
    volumes, twins = draw(task, (1,), 20), draw(task, (1,), 20, swap=True)
    assert np.array_equal(twins.classes, 1 - volumes.classes)
    if TASKS[task].roll:
        turned = np.roll(twins.images, TASKS[task].roll, axis=-1)
        assert np.array_equal(turned, volumes.images) and not volumes.markers.any()
        return
    assert np.array_equal(volumes.blobs, twins.blobs) and np.array_equal(volumes.markers, twins.markers)
    differing = (volumes.images != twins.images)[:, 0]
    assert differing.any((1, 2, 3)).all() and not (differing & ~volumes.markers).any()
    for image, twin, marker in zip(volumes.images, twins.images, volumes.markers, strict=True):
        noiseless = [np.sort((v[0][marker]).round(6)) for v in (image, twin)]
        assert noiseless[0].mean() == pytest.approx(noiseless[1].mean(), abs=1e-5)


def reach(volumes: torch.Tensor, blobs: np.ndarray, padding_mode: str) -> np.ndarray:
    """Return the voxels on which the logits of a blob depend: positive weights, so that no ReLU hides one."""
    network = PlainUnet(padding_mode=padding_mode).double().eval()
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    image = torch.ones(1, 1, *SIZE, dtype=torch.float64, requires_grad=True)
    (network(image)[0, 0] * torch.from_numpy(blobs)).sum().backward()
    return image.grad[0, 0].numpy() > 0


@pytest.mark.parametrize("task", ["near", "what", "which"])
def test_markers_lie_in_sight_of_the_plain_network_only_when_near(task):
    volumes = draw(task, (2,), 3)
    for blobs, markers in zip(volumes.blobs, volumes.markers, strict=True):
        gap = [np.argwhere(blob)[:, 2].min() - np.argwhere(markers)[:, 2].max() - 1 for blob in blobs]
        assert min(gap) >= FAR or task == "near"
        for blob in blobs:
            seen = markers & reach(volumes.images, blob, "zeros")
            assert np.array_equal(seen, markers) if task == "near" else not seen.any()


def test_the_plain_network_sees_far_less_than_a_far_marker_is_away():
    blob = np.zeros(SIZE, bool)
    blob[:4, :4, 32:36] = True
    seen = np.argwhere(reach(None, blob, "zeros"))[:, 2]
    assert (32 - seen.min(), seen.max() - 35) == (17, 17)


def judged(network: torch.nn.Module, volumes) -> np.ndarray:
    """Return the logits of all voxels of the first blobs, in the order in which they lie in the blob."""
    network.eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(volumes.images).double())[:, 0].numpy()
    return logits[volumes.blobs[:, 0]].reshape(len(logits), -1)


def untrained(task: str, channels: int = 1) -> PlainUnet:
    """Return a network whose norms have statistics unlike those of a volume, as after a training."""
    torch.manual_seed(0)
    network = PlainUnet(channels, padding_mode=TASKS[task].padding_mode).double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.running_mean, 0, 0.1)
    return network


@pytest.mark.parametrize("task", ["what", "which", "where"])
def test_the_plain_network_says_the_same_of_twins_and_so_is_right_by_chance_whatever_its_weights(task):
    pairs = [draw(task, (3,), 8, swap) for swap in (False, True)]
    assert np.allclose(*(judged(untrained(task), volumes) for volumes in pairs), atol=1e-9)
    assert np.array_equal(pairs[0].classes, 1 - pairs[1].classes)


def test_near_markers_and_coordinates_tell_twins_apart():
    near = [judged(untrained("near"), draw("near", (3,), 8, swap)) for swap in (False, True)]
    assert (np.abs(near[0] - near[1]).max(1) > 1e-6).all()
    network = WithCoordinates(untrained("where", 4))
    where = [judged(network, draw("where", (3,), 8, swap)) for swap in (False, True)]
    assert (np.abs(where[0] - where[1]).max(1) > 1e-4).all()


def statistics(images: np.ndarray) -> np.ndarray:
    """Return what a histogram knows of each image, standardised, and a constant."""
    values = images.reshape(len(images), -1)
    quantiles = np.sort(values, axis=1)[:, np.linspace(0, values.shape[1] - 1, 9).astype(int)].T
    moments = [(values**power).mean(1) for power in (1, 2, 3, 4)]
    features = np.stack([*quantiles, *moments], 1)
    return np.c_[(features - features.mean(0)) / features.std(0), np.ones(len(features))]


def right(images: np.ndarray, classes: np.ndarray) -> int:
    """Return how often a linear classifier on intensities is right on the second half of images."""
    features, half = statistics(images), len(images) // 2
    weights = np.linalg.lstsq(features[:half], 2.0 * classes[:half] - 1, rcond=None)[0]
    return int(((features[half:] @ weights > 0) == classes[half:]).sum())


@each_task
def test_intensities_of_the_volume_do_not_tell_the_class(task):
    volumes = draw(task, (5,), 1200)
    classes = volumes.classes[:, 0]
    assert binomtest(right(volumes.images, classes), 600).pvalue > 1e-3
    leaking = volumes.images + 0.02 * classes[:, None, None, None, None].astype(np.float32)
    assert right(leaking, classes) > 400


@each_task
def test_intensities_around_a_blob_do_not_tell_its_class(task):
    """Those of the blob, and of the half in which it lies unless that is the marker's."""
    if task == "near":
        return
    volumes = draw(task, (6,), 1200)
    blobs = volumes.images[:, 0][volumes.blobs[:, 0]].reshape(1200, -1)
    assert binomtest(right(blobs, volumes.classes[:, 0]), 600).pvalue > 1e-3
