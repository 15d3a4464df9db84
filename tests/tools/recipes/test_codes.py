"""The codes in metadata.json: each is in the dictionary of DICOM with its meaning, in the list for its use."""

from __future__ import annotations

import json

import pytest

from custom_networks.workflow.infer.structures import cielab_of, with_codes
from tests.synthetic import ROOT, SEGMENTATION
from tools.ship.metadata_schema import SCHEMA

LISTS = {"category": "cid7150", "type": "cid7151", "modifier": "cid2"}
"""Segmentation property categories, segmentation property types, anatomic modifiers."""


def metadata(bundle) -> dict:
    return json.loads((bundle / "configs" / "metadata.json").read_text())


@pytest.mark.parametrize("bundle", SEGMENTATION, ids=lambda bundle: bundle.name)
def test_every_code_is_in_the_dictionary_with_its_meaning(bundle):
    codes = pytest.importorskip("pydicom.sr.codedict").codes
    entries = metadata(bundle)["codes"]
    found = {name: {kind: entry[kind] for kind in LISTS if kind in entry} for name, entry in entries.items()}
    for kinds in found.values():
        for kind, code in kinds.items():
            known = getattr(getattr(codes, LISTS[kind]), code["meaning"].replace(" ", ""))
            assert (known.scheme_designator, known.value, known.meaning) == (
                code["scheme"],
                code["value"],
                code["meaning"],
            )
    # two structures of one code could not be told apart
    assert len({json.dumps(kinds) for kinds in found.values()}) == len(found)


@pytest.mark.parametrize("bundle", SEGMENTATION, ids=lambda bundle: bundle.name)
def test_every_structure_has_a_label_and_a_colour(bundle):
    own = metadata(bundle)
    _, *names = own["network_data_format"]["outputs"]["pred"]["channel_def"].values()
    assert list(own["codes"]) == names
    for number, structure in enumerate(with_codes([{"name": name, "values": [1]} for name in names], own), 1):
        assert set(structure["codes"]) == {"label", "category", "type", "modifier", "cielab"}
        lightness, *chroma = cielab_of(structure, number)
        assert 0 <= lightness <= 100 and all(-128 <= part <= 127 for part in chroma)
        assert 0 < len(structure["codes"]["label"]) <= 64


def test_metadata_with_codes_fit_the_schema():
    validator = pytest.importorskip("jsonschema").Draft202012Validator(SCHEMA)
    for file in ROOT.glob("bundles/*/configs/metadata.json"):
        assert not list(validator.iter_errors(json.loads(file.read_text())))
