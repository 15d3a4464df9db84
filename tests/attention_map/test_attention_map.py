"""Maps land where they belong in the image: ramps that a toy network copies, known rows, and the shipped bundle."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.transforms import LoadImage
from torch import nn

from custom_networks.__main__ import main
from custom_networks.attention import Eca
from custom_networks.attention_map import attention_map as tool
from custom_networks.attention_map.spatial_map import attention_maps, attention_modules
from custom_networks.nets import AttentionUnet
from custom_networks.workflow.report.overlay import save_map
from tests.synthetic import ROOT, config, volume, weights, write_nifti

pytest.importorskip("matplotlib", reason="the extra demo is not installed")
BUNDLE = ROOT / "bundles" / "hippocampus_mr_attention_unet_segmentation"
RAMP = np.array([1.0, 0.4, -0.7])
"""Intensity per mm along R, A, S: another value at every place, and a straight line stays one when it is averaged."""


class CopyGate(nn.Module):
    """A gate that copies the map it gates."""

    def attention_map(self, x):
        return x

    def forward(self, x):
        return x


class Itself(CopyGate):
    """Every voxel attends to itself alone."""

    def attention_map(self, x):
        return torch.eye(x[0, 0].numel(), dtype=x.dtype, device=x.device)[None]


class Toy(nn.Module):
    """One averaging convolution, padded (size kept but for the stride) or not, then attention of several kinds."""

    def __init__(self, padded=True):
        super().__init__()
        self.first = nn.Conv3d(1, 2, 5, bias=False) if not padded else nn.Conv3d(1, 2, 2, stride=2, bias=False)
        nn.init.constant_(self.first.weight, 1 / self.first.weight[0].numel())
        self.pool = nn.Identity() if padded else nn.Sequential(nn.AvgPool3d(2), nn.AvgPool3d(3, stride=1))
        self.gate, self.itself, self.channel = CopyGate(), Itself(), Eca(3, 2)
        self.parts = nn.Sequential(CopyGate())
        if padded:
            self.size_divisor = (2, 2, 2)

    def forward(self, x):
        x = self.pool(self.first(x))
        self.gate(x)
        self.itself(x)
        self.channel(x)
        return self.parts(x) + self.parts(x)


def toy_bundle(folder: Path, padded: bool, patch: list[int]) -> Path:
    """Write a bundle around the toy that orients and resamples but does not scale; unpadded, it crops to the patch."""
    settings = config(BUNDLE, "inference")
    transforms = [t for t in settings["preprocessing"]["transforms"] if "Normalize" not in t["_target_"]][:4]
    if not padded:
        transforms.append({"_target_": "ResizeWithPadOrCropd", "keys": "image", "spatial_size": "@patch_size"})
    settings |= {"patch_size": patch, "device": "$torch.device('cpu')", "preprocessing": {"_target_": "Compose"}}
    settings["preprocessing"]["transforms"] = transforms
    settings["network_def"] = {"_target_": f"{__name__}.Toy", "padded": padded}
    (folder / "configs" / "profiles").mkdir(parents=True)
    (folder / "configs" / "train.json").write_text("{}")
    (folder / "configs" / "inference.json").write_text(json.dumps(settings))
    (folder / "models").mkdir()
    torch.save(Toy(padded).state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    return toy_bundle(tmp_path_factory.mktemp("toy") / "padded", True, [24, 24, 24])


@pytest.fixture(scope="module")
def unpadded(tmp_path_factory):
    return toy_bundle(tmp_path_factory.mktemp("toy") / "unpadded", False, [21, 20, 22])


@pytest.fixture
def no_picture(monkeypatch):
    """Leave the pictures out, which take longer than all the rest."""
    monkeypatch.setattr(tool, "save_map", lambda _image, _values, _voxel, path, *_: path.touch())


def affine(axes: str, spacing: tuple[float, ...], tilt: float = 0.0) -> np.ndarray:
    """Return the affine of an image with these axes, tilted by an angle in the axial plane, away from the origin."""
    matrix = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (1, 1, 1))
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    result = np.eye(4)
    result[:3, :3] = turn @ np.linalg.inv(matrix[:3, :3]) @ np.diag(spacing)
    result[:3, 3] = (12.0, -31.0, 7.5)
    return result


def world(shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Return the position in mm of every voxel."""
    return nib.affines.apply_affine(matrix, np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))


def ramp(path: Path, shape: tuple[int, ...], matrix: np.ndarray) -> np.ndarray:
    """Write an image that rises along a straight line in space."""
    values = (world(shape, matrix) @ RAMP).astype(np.float32)
    write_nifti(values, path, matrix)
    return values


def shown(bundle: Path, image: Path, output: Path, name: str, **arguments) -> nib.Nifti1Image:
    """Run the tool for one module and return its NIfTI."""
    tool.attention_map(str(image), bundle=str(bundle), module=name, output_dir=str(output), **arguments)
    return nib.load(output / f"{image.name.split('.')[0]}_{name}.nii.gz")


GEOMETRIES = [
    ("RAS", (23, 18, 21), (1.0, 1.0, 1.0), 0.0),
    ("LPS", (17, 25, 20), (1.0, 1.0, 1.0), 0.0),
    ("PIR", (13, 19, 15), (2.0, 1.0, 1.5), 0.0),
    ("SLA", (21, 12, 27), (1.0, 2.0, 0.9), 0.15),
]


@pytest.mark.parametrize(("axes", "shape", "spacing", "tilt"), GEOMETRIES, ids=lambda value: str(value))
def test_a_gate_that_copies_the_image_gives_the_image_back(no_picture, padded, tmp_path, axes, shape, spacing, tilt):
    """The ramp comes back voxel by voxel on the file's own grid, whatever its axes, spacing and size."""
    matrix = affine(axes, spacing, tilt)
    values = ramp(tmp_path / "ramp.nii.gz", shape, matrix)
    result = shown(padded, tmp_path / "ramp.nii.gz", tmp_path / "out", "gate")
    np.testing.assert_allclose(result.affine, matrix, atol=1e-5)
    assert result.shape == shape
    assert result.get_data_dtype() == np.float32
    # Near the border the convolution sees the padding.
    inner = tuple(slice(int(np.ceil(3 / s)), -int(np.ceil(3 / s))) for s in spacing)
    np.testing.assert_allclose(result.get_fdata()[inner], values[inner], atol=2e-3)
    assert not np.isnan(result.get_fdata()).any()


@pytest.mark.parametrize("axes", ["RAS", "LPI"])
def test_unpadded_convolutions_leave_a_margin(no_picture, unpadded, tmp_path, axes):
    """Ramp and margin are right for kernels of 5 and 3 without padding and pooling that drops a voxel."""
    matrix, shape = affine(axes, (1.0, 1.0, 1.0)), (21, 20, 26)
    values = ramp(tmp_path / "ramp.nii.gz", shape, matrix)
    result = shown(unpadded, tmp_path / "ramp.nii.gz", tmp_path / "out", "gate").get_fdata()
    reached = ~np.isnan(result)
    # 21 - 4 = 17, pooled 8, 6 with the second kernel: 12 voxels from voxel 4 on (RAS); 20 and 22 likewise.
    counts = [np.flatnonzero(reached.any(axis=tuple({0, 1, 2} - {a}))) for a in range(3)]
    expected = [(4, 16), (4, 16), (2 + 4, 2 + 4 + 14)]
    if axes == "LPI":
        expected = [(n - end, n - start) for n, (start, end) in zip(shape, expected, strict=True)]
    assert [(int(c[0]), int(c[-1]) + 1) for c in counts] == expected
    assert reached.sum() == 12 * 12 * 14
    inner = tuple(slice(start + 1, end - 1) for start, end in expected)
    np.testing.assert_allclose(result[inner], values[inner], atol=1e-3)


@pytest.mark.parametrize(("axes", "shape", "spacing", "tilt"), GEOMETRIES[1:], ids=lambda value: str(value))
def test_the_query_is_a_voxel_of_the_file(no_picture, padded, tmp_path, axes, shape, spacing, tilt):
    """A voxel that attends to itself alone lights up at the queried place and nowhere else."""
    matrix = affine(axes, spacing, tilt)
    ramp(tmp_path / "image.nii.gz", shape, matrix)
    places = world(shape, matrix)
    for voxel in (None, (2, 9, 5), tuple(n - 3 for n in shape)):
        result = shown(padded, tmp_path / "image.nii.gz", tmp_path / "out", "itself", voxel=voxel).get_fdata()
        voxel = voxel or tuple(n // 2 for n in shape)
        centre = np.average(places, axis=(0, 1, 2), weights=result)
        # The query's centre lies at most half a coarse voxel of 2 mm from the middle of what lights up, per axis.
        assert np.abs(np.linalg.inv(matrix[:3, :3] / spacing) @ (centre - places[voxel])).max() < 1.3
        assert result[voxel] > 0.1
        assert (result[np.linalg.norm(places - places[voxel], axis=-1) > 6] == 0).all()


def test_maps_that_no_single_place_belongs_to():
    toy = Toy().eval()
    maps = attention_maps(toy, list(attention_modules(toy)), torch.randn(1, 1, 8, 8, 8), np.full(3, 100.0))
    assert maps["gate"].values.shape == (4, 4, 4)
    assert "2 times" in str(maps["parts.0"])
    assert "outside" in str(maps["itself"])
    assert "no place" in str(maps["channel"])
    flat = nn.Sequential(nn.Flatten(2), CopyGate())
    assert "no grid of voxels" in str(attention_maps(flat, ["1"], torch.zeros(1, 1, 4, 4, 4), np.zeros(3))["1"])


def test_all_modules_of_a_network(padded, tmp_path, capsys):
    image = write_nifti(volume(0)[0], tmp_path / "image.nii.gz")
    output = tmp_path / "new" / "maps"
    assert (
        main(["attention_map", str(image), "--bundle", str(padded), "--output_dir", str(output), "--voxel", "3,4,5"])
        == 0
    )
    names = {f"image_{name}.{kind}" for name in ("gate", "itself") for kind in ("nii.gz", "png")}
    assert {path.name for path in output.iterdir()} == names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in output.glob("*.png"))
    printed = capsys.readouterr().out
    assert "left out: channel: its map has the shape (1, 2, 1, 1, 1)" in printed
    assert "left out: parts.0: it was called 2 times" in printed
    for name in names:
        assert f"written: {output / name}" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{image}", "--module", "gaet"], r"Toy has no module 'gaet' with an attention map; nearest: 'gate'"),
        (["{image}", "--module", "channel"], "channel of Toy cannot be shown: .* no place in the image"),
        (
            ["{image}", "--voxel", "3,28,2"],
            r"voxel 3,28,2 is not in .*; give three integers from 0,0,0 to 23,27,21",
        ),
        (["{image}", "--voxel", "3,4"], "give three integers"),
        (["{image}", "--voxel", "3,4,-1"], "give three integers"),
        (["{image}", "--voxel", "3,4,1.5"], "give three integers"),
        (["{image}", "--ckpt_path", "none.pt"], "no checkpoint none.pt"),
        (["{image}", "--profile", "none"], "no profile none"),
        (["{image}x"], "there is no image .*; give a NIfTI or NRRD file"),
        (["{folder}"], "holds 2 images; give one of them"),
        (["{damaged}"], "is truncated: it ends"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(padded, tmp_path, capsys, arguments, sentence):
    folder = tmp_path / "images"
    image = write_nifti(volume(0)[0], folder / "image.nii.gz")
    write_nifti(volume(1)[0], folder / "other.nii.gz")
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(image.read_bytes()[:500])
    words = [word.format(image=image, folder=folder, damaged=damaged) for word in arguments]
    assert main(["attention_map", *words, "--bundle", str(padded), "--output_dir", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1, error
    assert re.search(sentence, error), error
    assert not (tmp_path / "out").exists()


def test_profiles_are_laid_over_the_config(padded, tmp_path):
    image = str(write_nifti(volume(0)[0], tmp_path / "image.nii.gz"))
    with pytest.raises(ValueError, match="AttentionUnet has no module with an attention map; switch its attention on"):
        tool.attention_map(image, bundle=str(BUNDLE), profile="plain")
    mine, later = tmp_path / "mine.json", tmp_path / "later.json"
    mine.write_text('{"in_channels": 2}')
    with pytest.raises(ValueError, match=r"1 channels .* where 2 are expected"):
        tool.attention_map(image, bundle=str(padded), profile=str(mine))
    later.write_text('{"in_channels": 3}')
    with pytest.raises(ValueError, match=r"1 channels .* where 3 are expected"):
        tool.attention_map(image, bundle=str(padded), profile=[str(mine), str(later)])
    mine.write_text("{")
    with pytest.raises(ValueError, match=r"mine.json is not valid JSON"):
        tool.attention_map(image, bundle=str(padded), profile=str(mine))


def test_an_nrrd_file_keeps_its_geometry(no_picture, padded, tmp_path):
    """NRRD counts its axes to the left and to the back (LPS); the NIfTI lies at the same place in the patient."""
    matrix = affine("PIR", (1.0, 1.0, 2.0))
    values = (world((17, 19, 12), matrix) @ RAMP).astype(np.float32)
    flip = np.diag([-1.0, -1, 1])
    header = {"space": "left-posterior-superior", "space directions": (flip @ matrix[:3, :3]).T}
    nrrd.write(str(tmp_path / "image.nrrd"), values, {**header, "space origin": flip @ matrix[:3, 3]})
    result = shown(padded, tmp_path / "image.nrrd", tmp_path / "out", "gate")
    np.testing.assert_allclose(result.affine, matrix, atol=1e-5)
    np.testing.assert_allclose(result.get_fdata()[3:-3, 3:-3, 2:-2], values[3:-3, 3:-3, 2:-2], atol=2e-3)


def test_a_query_outside_the_crop_is_refused(no_picture, unpadded, tmp_path):
    image = write_nifti(volume(0, shape=(40, 20, 22))[0], tmp_path / "image.nii.gz")
    with pytest.raises(ValueError, match="outside the part of the image"):
        shown(unpadded, image, tmp_path / "out", "itself", voxel=(3, 10, 10))
    assert not (tmp_path / "out").exists()
    assert np.nanmax(shown(unpadded, image, tmp_path / "out", "itself", voxel=(20, 10, 10)).get_fdata()) > 0.3


def test_a_failing_picture_leaves_no_map(padded, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the disk is full")

    image = write_nifti(volume(0)[0], tmp_path / "image.nii.gz")
    monkeypatch.setattr(tool, "save_map", fail)
    with pytest.raises(OSError, match="disk"):
        shown(padded, image, tmp_path / "out", "gate")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_picture_shows_the_patient_not_the_file(tmp_path):
    """One anatomy stored with other axes gives the same picture; another map or point gives another."""
    from matplotlib.image import imread

    image = nib.Nifti1Image(volume(0)[0], np.diag([1, 1, 2, 1.0]))
    values = nib.Nifti1Image(np.where(volume(0)[1] > 0, 1, np.float32(np.nan)) * volume(2)[0], image.affine)
    turned = nib.orientations.axcodes2ornt("PSL")
    pictures = {}
    for name, voxel, shift in (("file", (5, 9, 7), 0), ("map", (5, 9, 7), 1), ("point", (9, 9, 7), 0)):
        changed = nib.Nifti1Image(np.roll(values.get_fdata(), 3 * shift, 0), image.affine)
        save_map(image, changed, voxel, tmp_path / f"{name}.png", "title", "label")
        pictures[name] = imread(tmp_path / f"{name}.png")
    other, other_values = image.as_reoriented(turned), values.as_reoriented(turned)
    same = nib.affines.apply_affine(np.linalg.inv(other.affine) @ image.affine, (5, 9, 7))
    save_map(other, other_values, np.rint(same).astype(int), tmp_path / "turned.png", "title", "label")
    np.testing.assert_array_equal(imread(tmp_path / "turned.png"), pictures["file"])
    assert not np.array_equal(pictures["map"], pictures["file"])
    assert not np.array_equal(pictures["point"], pictures["file"])
    saturation = np.ptp(pictures["file"][..., :3], axis=-1)
    assert 500 < (saturation > 0.3).sum() < 0.2 * saturation.size  # colours, and only where the map has numbers


@pytest.mark.parametrize("module", ["decoder.0.gate", "encoder.2.3"])
def test_the_shipped_bundle(no_picture, tmp_path, module):
    """On an image that needs no resampling the files hold what the modules return, resized by torch."""
    if not (BUNDLE / "models" / "model.pt").is_file():
        pytest.skip("the bundle ships no weights")
    shape = (37, 57, 42)
    array = volume(3, shape=shape)[0]
    image = write_nifti(array, tmp_path / "image.nii.gz")
    voxel = (30, 20, 11)
    found = shown(BUNDLE, image, tmp_path / "out", module, voxel=voxel)

    network = AttentionUnet(3, 1, 3, features=(16, 32, 64)).eval()
    network.load_state_dict(weights(BUNDLE / "models" / "model.pt"), strict=False)
    tensor = torch.from_numpy((array - array.mean()) / array.std())[None, None]
    maps = []
    network.get_submodule(module).register_forward_pre_hook(lambda part, args: maps.append(part.attention_map(*args)))
    with torch.no_grad():
        network(F.pad(tensor, (1, 1, 1, 2, 1, 2)))  # to (40, 60, 44)
    expected = maps[0]
    if module == "encoder.2.3":
        query = [(v + 1) // 4 for v in voxel]
        expected = maps[0][0, (query[0] * 15 + query[1]) * 11 + query[2]].reshape(1, 1, 5, 7, 5)
        # The keys are pooled by two: those of 15 and 11 voxels leave the last one out.
        expected = F.interpolate(expected, size=(40, 56, 40), mode="trilinear")
        found_part, expected = found.get_fdata()[:, :55, :39], expected[0, 0, 1:38, 1:56, 1:40]
        assert np.isnan(found.get_fdata()[:, 55:]).all() and np.isnan(found.get_fdata()[:, :, 39:]).all()
    else:
        found_part = found.get_fdata()
        expected = F.interpolate(expected, size=(40, 60, 44), mode="trilinear")[0, 0, 1:38, 1:58, 1:43]
    np.testing.assert_allclose(found_part, expected, atol=1e-5)
    np.testing.assert_allclose(found.affine, LoadImage(image_only=True)(image).affine, atol=1e-6)
