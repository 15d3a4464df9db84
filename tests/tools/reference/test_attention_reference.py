"""The reference page says what docstrings, notes and figures say, and its examples run."""

from __future__ import annotations

import copy
import inspect
import json
import re

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SegResNet
from torch import nn

from custom_networks.attention import Cbam
from custom_networks.blocks.residual_attention import ResidualAttention
from custom_networks.nets import AttentionClassifier
from custom_networks.registry import ATTENTION
from tools.__main__ import main
from tools.reference import attention_reference
from tools.reference.attention_notes import NOTES
from tools.reference.attention_reference import FIELDS, FIGURES, YARDSTICK, check_figures, page, reference
from tools.reference.docstrings import arguments, paragraph, prose, split
from tools.reference.reach import CONTROL

REPORT = json.loads(FIGURES.read_text())
REACH = json.loads(CONTROL.read_text())
PAGE = FIGURES.with_suffix(".md")
IN_COLUMN = {"gmacs": 1000, "forward_seconds": 1000, "step_seconds": 1000}  # MMACs and milliseconds


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return the figures' file in a folder of its own, with the page rendered beside it."""
    file = tmp_path / "attention.json"
    file.write_text(FIGURES.read_text())
    monkeypatch.setattr(attention_reference, "FIGURES", file)
    reference()
    return file


def test_the_committed_page_is_up_to_date():
    reference(check=True)


def test_a_second_run_writes_nothing(here, capsys):
    before = here.with_suffix(".md").stat().st_mtime_ns
    assert main(["reference"]) == 0
    assert capsys.readouterr().out == "nothing to write\n"
    assert here.with_suffix(".md").stat().st_mtime_ns == before


def test_check_fails_on_a_changed_figure(here, capsys):
    report = json.loads(here.read_text())
    report["modules"]["cbam"][0]["step_seconds"] *= 2
    here.write_text(json.dumps(report))
    before = here.with_suffix(".md").read_text()
    assert main(["reference", "--check"]) == 1
    assert capsys.readouterr().err == "error: attention.md is stale; run: python -m tools reference\n"
    assert here.with_suffix(".md").read_text() == before
    assert main(["reference"]) == 0
    assert main(["reference", "--check"]) == 0


@pytest.mark.parametrize(("old", "new"), [("one gate, then", "two gates, then"), (r"\odot x", r"\odot y")])
def test_check_fails_on_a_changed_docstring(here, monkeypatch, old, new):
    assert old in inspect.getdoc(Cbam)
    monkeypatch.setattr(Cbam, "__doc__", Cbam.__doc__.replace(old, new))
    with pytest.raises(ValueError, match=r"attention\.md is stale"):
        reference(check=True)


def test_check_fails_on_a_changed_note_and_a_page_that_is_not_there(here, monkeypatch):
    monkeypatch.setattr(attention_reference, "NOTES", {**NOTES, "cbam": NOTES["cbam"]._replace(use="Never.")})
    with pytest.raises(ValueError, match="stale"):
        reference(check=True)
    monkeypatch.undo()
    here.with_suffix(".md").unlink()
    monkeypatch.setattr(attention_reference, "FIGURES", here)
    with pytest.raises(ValueError, match="stale"):
        reference(check=True)


def test_every_module_needs_a_note_and_a_figure(monkeypatch):
    without = copy.deepcopy(REPORT)
    del without["modules"]["eca"]
    with pytest.raises(ValueError, match="there is no figure for eca; run: python -m tools bench attention"):
        page(without, REACH)
    without["modules"] |= {"eca": REPORT["modules"]["eca"][:1]}
    with pytest.raises(ValueError, match="eca was not measured at the sizes of the convolution"):
        page(without, REACH)
    unknown = {**REPORT, "modules": {**REPORT["modules"], "mine": REPORT["modules"]["eca"]}}
    with pytest.raises(ValueError, match="there is a figure for mine, not in the registry"):
        page(unknown, REACH)
    with pytest.raises(ValueError, match="there is no figure for convolution"):
        page({**REPORT, "modules": {n: r for n, r in REPORT["modules"].items() if n != YARDSTICK}}, REACH)
    monkeypatch.setattr(attention_reference, "NOTES", {name: note for name, note in NOTES.items() if name != "sim_am"})
    with pytest.raises(ValueError, match="there is no note for sim_am; correct tools/reference/attention_notes"):
        page(REPORT, REACH)
    monkeypatch.setattr(attention_reference, "NOTES", {**NOTES, "mine": NOTES["sim_am"]})
    with pytest.raises(ValueError, match="there is a note for mine"):
        page(REPORT, REACH)


def test_figures_of_a_module_that_has_changed_are_refused():
    modules = copy.deepcopy(REPORT["modules"])
    modules["cbam"][1]["parameters"] += 1
    with pytest.raises(ValueError, match=r"cbam was measured with \d+ parameters, it has \d+; run"):
        check_figures(modules)


def test_figures_that_are_not_there_or_broken_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attention_reference, "FIGURES", tmp_path / "attention.json")
    assert main(["reference"]) == 1
    assert "does not exist; run: python -m tools bench attention" in capsys.readouterr().err
    (tmp_path / "attention.json").write_text("{broken")
    assert main(["reference"]) == 1
    assert "is not valid JSON" in capsys.readouterr().err
    assert [f.name for f in tmp_path.iterdir()] == ["attention.json"]


def value(text: str) -> tuple[float, float, float]:
    """Return a cell's figure, half of its last digit, and the ratio in brackets."""
    figure, ratio = re.fullmatch(r"([\d,.]+) \(([\d.]+)x\)", text).groups()
    decimals = len(figure.partition(".")[2])
    return float(figure.replace(",", "")), 0.5 * 10**-decimals, float(ratio)


def check_row(texts: list[str], row: dict, reference_row: dict) -> None:
    assert len(texts) == len(FIELDS)
    for key, text in zip(FIELDS, texts, strict=True):
        figure, half, ratio = value(text)
        assert abs(figure - row[key] * IN_COLUMN.get(key, 1)) <= half * 1.001, key
        assert abs(ratio - row[key] / reference_row[key]) <= 0.00501, key


def test_tables_hold_the_figures_of_the_file():
    text = PAGE.read_text()
    tables = re.findall(r"^### (\d+) channels, ([\dx]+) voxels\n\n\| module .*\n.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(tables) == len(REPORT["modules"][YARDSTICK]) == 3
    for index, (channels, grid, lines) in enumerate(tables):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
        assert [row[0] for row in rows] == ["3x3x3 convolution", *(f"[`{name}`](#{name})" for name in ATTENTION)]
        for row, name in zip(rows, [YARDSTICK, *ATTENTION], strict=True):
            own = REPORT["modules"][name][index]
            assert (own["channels"], own["grid"]) == (int(channels), [int(n) for n in grid.split("x")])
            check_row(row[1:], own, REPORT["modules"][YARDSTICK][index])


@pytest.mark.parametrize("name", ATTENTION)
def test_section_of_a_module(name):
    kind = ATTENTION[name]
    text = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)[1]
    formula = " ".join(re.search(r"```math\n(.*?)```", text, re.DOTALL)[1].split())
    assert formula in " ".join(inspect.getdoc(kind).split())
    assert f"**Wrong in the public version.** {NOTES[name].public}\n" in text
    assert f"**When to use it.** {NOTES[name].use}\n" in text
    for title in ("Differs from the paper", "Cost", "References"):
        assert re.search(rf"\*\*{title}\.\*\* \S", text), title
    rows = re.findall(r"^\| \d+ channels, [\dx]+ voxels \| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    for line, row, yardstick in zip(rows, REPORT["modules"][name], REPORT["modules"][YARDSTICK], strict=True):
        check_row(line.split(" | "), row, yardstick)
    options = [p for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY]
    described = re.findall(r"^\| `(\w+)` \| `(.*)` \| \S.* \|$", text, re.MULTILINE)
    assert described == [(p.name, repr(p.default)) for p in options]
    assert ("`attention_map(x)`: " in text) == hasattr(kind, "attention_map")
    assert not re.search(r":math:|\.\. math|::$|(?<!`)``(?!`)", text, re.MULTILINE), "reStructuredText is left over"


def examples() -> list[dict]:
    """Return the JSON blocks of the page as it is committed."""
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)]


def built(example: dict) -> nn.Module:
    torch.manual_seed(0)
    return ConfigParser(example).get_parsed_content("network_def").eval()


def test_the_example_plugs_cbam_into_seg_res_net():
    example = examples()[0]
    network, plain = built(example), built({"network_def": example["network_def"]["network"]})
    assert type(network) is type(plain) is SegResNet
    points = example["network_def"]["points"]
    inserted = {name: m for name, m in network.named_modules() if isinstance(m, ResidualAttention)}
    assert len(inserted) == len(points) == 2
    assert all(name.startswith(f"{point}.") for name, point in zip(inserted, points, strict=True))
    assert all(
        isinstance(m.attention, Cbam) and m.attention.spatial.weight.shape[2:] == (3,) * 3 for m in inserted.values()
    )
    x = torch.randn(1, 1, 16, 16, 16)
    network.load_state_dict(plain.state_dict())
    assert torch.equal(network(x), plain(x))
    for module in inserted.values():
        nn.init.ones_(module.gamma)
    assert not torch.allclose(network(x), plain(x))


def test_the_example_names_cbam_in_the_classifier():
    network = built(examples()[1])
    assert isinstance(network, AttentionClassifier)
    (cbam,) = (m for m in network.modules() if isinstance(m, Cbam))
    assert cbam.spatial.weight.shape[2:] == (3, 3, 3)
    assert network(torch.zeros(1, 1, 28, 28, 28)).shape == (1, 2)


class Documented:
    r"""Do one thing.

    .. math:: y = \sigma(x),
              \qquad z = 1

    with :math:`\sigma` of ``x``::

        x -> y
          -> z

    Differs from the paper: nothing much.

    And this.

    Args:
        x: the first,
            with ``code``.
        y_2: the other.

    Cost:
        none.
    """


def test_docstring_to_markdown():
    parts = split(Documented)
    assert parts["summary"] == "Do one thing."
    assert parts["formula"] == "```math\ny = \\sigma(x),\n\\qquad z = 1\n```"
    assert parts["text"].startswith("with $`\\sigma`$ of `x`:\n\n```text\nx -> y\n  -> z\n```")
    assert parts["differences"] == "Nothing much.\n\nAnd this."
    assert arguments(parts["Args"]) == {"x": "the first, with `code`.", "y_2": "the other."}
    assert parts["Cost"] == "none."
    assert paragraph("see https://a.b/c_d, arXiv:1807.06521; doi:10.1/x.y.") == (
        "see <https://a.b/c_d>, [arXiv:1807.06521](https://arxiv.org/abs/1807.06521); [doi:10.1/x.y](https://doi.org/10.1/x.y)."
    )
    assert prose("one\ntwo\n\nthree") == "one two\n\nthree"
    assert prose("so:\n\n.. math:: a\n    b\n\nc") == "so:\n\n```math\na\nb\n```\n\nc"
    rows = ".. math::\n    a &= b \\\\\n    c &= d"
    assert prose(f"{rows}\n\n::\n\n    x") == "```math\na = b\n```\n\n```math\nc = d\n```\n\n```text\nx\n```"
    with pytest.raises(ValueError, match="has no docstring; write one"):
        split(type("Bare", (), {}))
