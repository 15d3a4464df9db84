"""The template brain of the package, and templates of users."""

from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest

from custom_networks.workflow.locate.template import TEMPLATE, load_template
from tools.__main__ import main


def saved(path, voxels, affine=None):
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def test_it_is_a_brain_in_mni_space():
    template = load_template()
    assert template.voxels.dtype == np.float32 and template.voxels.shape == template.brain.shape
    assert np.array_equal(template.affine[:3, :3], 3 * np.eye(3))

    # in the middle of white matter, in a ventricle, beyond the skull
    def at(*mm):
        return tuple(np.rint(np.linalg.solve(template.affine, [*mm, 1])[:3]).astype(int))

    white, fluid = template.voxels[at(-28, -20, 30)], template.voxels[at(-8, 20, 8)]
    assert white > 1.5 * fluid > 0
    assert template.brain[at(-8, 20, 8)] and not template.brain[at(0, -22, 88)]
    assert not template.voxels[~template.brain].any()
    # 1883 mL of the template at 1 mm are above a fifth of its maximum
    assert template.intracranial_ml == pytest.approx(1885, abs=10)


def test_it_travels_light_and_with_its_licence():
    assert TEMPLATE.stat().st_size <= 300_000
    licence = TEMPLATE.with_name("MNI152_LICENSE.txt").read_text(encoding="utf-8")
    assert "Permission to use, copy, modify, and distribute" in licence and TEMPLATE.name in licence


def test_the_command_makes_the_same_again(monkeypatch, tmp_path, capsys):
    pytest.importorskip("nilearn")
    import tools.data.template as made

    monkeypatch.setattr(made, "TEMPLATE", tmp_path / TEMPLATE.name)
    assert main(["template"]) == 0
    assert "1887 mL" in capsys.readouterr().out
    ours, again = nib.load(TEMPLATE), nib.load(tmp_path / TEMPLATE.name)
    assert np.array_equal(ours.get_fdata(), again.get_fdata()) and np.array_equal(ours.affine, again.affine)


def test_a_template_of_a_user_is_brought_to_3_mm(tmp_path):
    own = load_template()
    fine = np.kron(own.voxels, np.ones((3, 3, 3), np.float32))
    affine = own.affine @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
    affine[:3, 3] -= 1
    template = load_template(saved(tmp_path / "fine.nii.gz", fine, affine))
    assert np.allclose(template.voxels, own.voxels, atol=1e-3) and np.allclose(template.affine, own.affine)


def test_a_changed_file_is_read_again(tmp_path):
    path = saved(tmp_path / "one.nii", load_template().voxels, load_template().affine)
    first = load_template(path)
    assert load_template(path) is first
    saved(path, 2 * load_template().voxels, load_template().affine)
    os.utime(path, (1, 1))
    assert load_template(path).voxels.max() == 2 * first.voxels.max()


@pytest.mark.parametrize(
    ("voxels", "affine", "message"),
    [
        (np.ones((60, 60, 60, 2), np.float32), np.eye(4), "give one of a single 3D volume"),
        (np.ones((60, 60, 60), np.float32), np.eye(4), "216 mL of it are above zero; give a skull-stripped T1"),
        (np.full((60, 60, 60), np.nan, np.float32), np.eye(4), "not finite"),
        (-np.ones((60, 60, 60), np.float32), np.diag([3, 3, 3, 1]), "not a brain with zeros around it"),
    ],
)
def test_what_is_no_brain_is_refused(tmp_path, voxels, affine, message):
    with pytest.raises(ValueError, match=message):
        load_template(saved(tmp_path / "other.nii", voxels, affine))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no\.nii"):
        load_template(tmp_path / "no.nii")
