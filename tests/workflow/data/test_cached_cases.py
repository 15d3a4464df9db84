"""Preprocessed cases in the memory and in files, and when a file is made anew."""

from __future__ import annotations

import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset
from monai.transforms import Compose, EnsureTyped, LoadImaged, RandGaussianNoised, ScaleIntensityd

from custom_networks.workflow import CachedCases, ClassIndicesd, VolumeReader

KEYS = ["image", "label"]


@pytest.fixture
def data(tmp_path):
    generator, cases = np.random.default_rng(0), []
    for number in range(3):
        case = {key: str(tmp_path / f"{key}{number}.nii.gz") for key in KEYS}
        volumes = {"image": generator.normal(size=(6, 5, 4)), "label": generator.integers(0, 3, (6, 5, 4))}
        for key in KEYS:
            nib.save(
                nib.Nifti1Image(volumes[key].astype(np.int16 if key == "label" else np.float32), np.eye(4)), case[key]
            )
        cases.append(case)
    return cases


def preprocessing(maximum=1.0, prob=1.0) -> Compose:
    return Compose(
        [
            LoadImaged(KEYS, reader=VolumeReader(), ensure_channel_first=True),
            ScaleIntensityd("image", maxv=maximum),
            EnsureTyped(KEYS, track_meta=False, dtype=[torch.float32, torch.int16]),
            ClassIndicesd("label", num_classes=3),
            RandGaussianNoised("image", prob=prob),
        ]
    )


def files(folder):
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_a_seed_decides_a_sample(data):
    cases = CachedCases(data, preprocessing())
    samples = [cases[(1, seed)]["image"] for seed in (5, 6, 5)]
    assert torch.equal(samples[0], samples[2])
    assert not torch.equal(samples[0], samples[1])


def test_without_a_seed_it_is_the_dataset_of_monai(data):
    ours, theirs = CachedCases(data, preprocessing(prob=0)), CacheDataset(data, preprocessing(prob=0), progress=False)
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(mine[key], other[key]) for key in KEYS)


def test_files_hold_what_the_memory_would(data, tmp_path):
    kept = tmp_path / "kept"
    in_files, in_memory = CachedCases(data, preprocessing(), cache_dir=kept), CachedCases(data, preprocessing())
    assert len(files(kept)) == 3
    for number in range(3):
        mine, other = in_files[(number, 9)], in_memory[(number, 9)]
        assert all(torch.equal(mine[key], other[key]) and mine[key].dtype == other[key].dtype for key in KEYS)
        assert all(map(torch.equal, mine["label_indices"], other["label_indices"]))


def test_files_are_found_again_also_by_another_process(data, tmp_path):
    kept = tmp_path / "kept"
    CachedCases(data, preprocessing(), cache_dir=kept)
    before = files(kept)
    CachedCases(data, preprocessing(prob=0.2), cache_dir=kept)  # what is random is not kept
    code = (
        "from tests.workflow.data.test_cached_cases import *\n"
        f"CachedCases({data!r}, preprocessing(), cache_dir={str(kept)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "5"})
    assert files(kept) == before


def test_a_changed_file_or_transform_is_seen(data, tmp_path):
    kept = tmp_path / "kept"
    CachedCases(data, preprocessing(), cache_dir=kept)
    nib.save(nib.Nifti1Image(np.full((6, 5, 4), 2, np.int16), np.eye(4)), data[0]["label"])
    changed = CachedCases(data, preprocessing(), cache_dir=kept)
    assert bool((changed[0]["label"] == 2).all())
    assert len(files(kept)) == 4
    assert CachedCases(data, preprocessing(maximum=3.0, prob=0), cache_dir=kept)[1]["image"].max() == 3
    assert len(files(kept)) == 7


def test_a_sample_does_not_change_the_file(data, tmp_path):
    cases = CachedCases(data, preprocessing(prob=0), cache_dir=tmp_path / "kept", copy_cache=False)
    cases[0]["image"].fill_(9)
    assert CachedCases(data, preprocessing(prob=0), cache_dir=tmp_path / "kept")[0]["image"].max() == 1


def test_a_file_that_cannot_be_written_leaves_none(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        CachedCases(data, preprocessing(), cache_dir=tmp_path / "kept")
    assert files(tmp_path / "kept") == {}
