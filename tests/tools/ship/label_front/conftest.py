"""What the tests of the front share."""

from __future__ import annotations

import pytest

from tests.tools.ship.label_front.label_client import Client, nifti, volume


@pytest.fixture
def client(tmp_path):
    client = Client(tmp_path)
    (client.studies / "a.nii.gz").write_bytes(nifti(volume()))
    return client
