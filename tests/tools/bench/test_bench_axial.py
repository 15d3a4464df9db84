"""The benchmark of the gated axial layer measures what it says beside its reference, and refuses bad input first."""

from __future__ import annotations

import json

import pytest

from custom_networks.blocks import GatedAxialAttention
from custom_networks.command_line import usage
from tests.references.axial_layer import DirectAxialAttention
from tools.__main__ import COMMANDS, main
from tools.bench import bench as bench_module
from tools.bench import bench_axial as module
from tools.bench.bench import MEASURES
from tools.bench.bench_axial import CHOSEN, FORMS, LAYER, LIGHT, REFERENCE, bench_axial, definition, rows
from tools.bench.measure import in_own_process
from tools.pictures.axial_report import tables

pytestmark = pytest.mark.slow

SMALL = {"lengths": (6, 12), "channels": (16, 32), "cubes": (4, 8), "depth": 2, "form_length": 12}
PAGE = "# Page\n\n<!-- axial:start -->\nold\n<!-- axial:end -->\n\nEnd\n"


def test_the_reference_and_the_layer_take_the_same_arguments():
    for target, kind in ((LAYER, GatedAxialAttention), (REFERENCE, DirectAxialAttention)):
        options = definition(target, 16, 8)
        assert options.pop("_target_").rpartition(".")[2] == kind.__name__
        built = kind(**options)
        assert built.num_heads == 8
        assert built.table.shape == (15, 4)
        assert built.axis == 2


def test_every_row_stands_beside_the_reference_on_the_same_input():
    found = rows((6, 12), (16, 32), (4, 8), 2, 12, "a.Reference")
    names = [(row["part"], row["name"], row["shape"]) for row in found]
    assert len(names) == len({json.dumps(name) for name in names})
    for part, own in (
        ("lengths", ["layer"]),
        ("forms", list(FORMS)),
        ("cubes", [CHOSEN, LIGHT]),
    ):
        shapes = [row["shape"] for row in found if (row["part"], row["name"]) == (part, "reference")]
        for name in own:
            assert [row["shape"] for row in found if (row["part"], row["name"]) == (part, name)] == shapes
    lengths = [row["shape"] for row in found if (row["part"], row["name"]) == ("lengths", "layer")]
    assert lengths == [[1, c, 2, n, n] for c in (16, 32) for n in (6, 12)]
    assert [row["shape"] for row in found if (row["part"], row["name"]) == ("forms", CHOSEN)] == [
        [1, c, 2, 12, 12] for c in (16, 32)
    ]
    assert [row["shape"] for row in found if (row["part"], row["name"]) == ("cubes", LIGHT)] == [
        [1, 16, n, n, n] for n in (4, 8)
    ]
    for row in found:
        network = row["network_def"]
        assert network["in_channels"] == row["shape"][1]
        assert network["position_length"] == row["shape"][4]
        assert network["_target_"] == ("a.Reference" if row["name"] == "reference" else LAYER)
        if row["name"] in FORMS:
            assert FORMS[row["name"]].items() <= network.items()


def test_forms_are_arguments_of_the_layer():
    assert FORMS[CHOSEN] == {}
    assert FORMS[LIGHT] == {"checkpointing": True}
    for options in FORMS.values():
        GatedAxialAttention(3, 16, axis=2, **options)


def test_both_can_be_measured_and_the_reference_holds_every_map():
    jobs = [
        {
            "config": {"network_def": definition(target, 16, 24)},
            "shape": (1, 16, 2, 24, 24),
            "device": "cpu",
            "amp": False,
            "threads": 1,
            "inner": True,
        }
        for target in (LAYER, REFERENCE)
    ]
    layer, reference = in_own_process(jobs, "both")
    one_map = 2 * 24**3 * 8 * 4 / 2**20
    assert reference["step_peak_mib"] > 6 * one_map > layer["step_peak_mib"] > one_map
    assert reference["parameters"] == layer["parameters"] + 24


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Run the bench with measuring replaced by known figures; return the report, the processes and the folder."""
    processes = []

    def fake(jobs, name):
        (job,) = jobs
        processes.append((name, job))
        known = {"dtype": "float32", "threads": 1, "torch": "2", "monai": "1", "processor": "P"}
        network = job["config"]["network_def"]
        value = {REFERENCE: 4.0}.get(network["_target_"], 1.0) * job["shape"][-1]
        return [{**known, "network_def": network, "parameters": 1, "gmacs": 1.0, **dict.fromkeys(MEASURES, value)}]

    monkeypatch.setattr(bench_module, "in_own_process", fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.md").write_text(PAGE)
    files = {"output": "new/axial.json", "plot": "images/axial.png", "markdown": "page.md"}
    report = bench_axial(**SMALL, **files, repeats=2, threads=1)
    return report, processes, tmp_path


def test_every_row_has_a_process_of_its_own_and_they_take_turns(measured):
    report, processes, _ = measured
    count = 2 * 2 * 2 + 2 * (1 + len(FORMS)) + 2 * 3
    assert len(processes) == 2 * count
    assert [name for name, _ in processes[count:]] == [name for name, _ in reversed(processes[:count])]
    assert {(job["device"], job["amp"], job["threads"], job["inner"]) for _, job in processes} == {
        ("cpu", False, 1, True)
    }
    assert sum(len(report[part]) for part in ("lengths", "forms", "cubes")) == count
    assert all(len(entry["rounds"]) == 2 for entry in report["cubes"])


def test_figures_tables_and_plot_are_written(measured):
    report, _, folder = measured
    assert json.loads((folder / "new" / "axial.json").read_text()) == report
    text = tables(report)
    assert (folder / "page.md").read_text() == PAGE.replace("\nold\n", f"\n\n{text}\n\n")
    assert (folder / "images" / "axial.png").read_bytes().startswith(b"\x89PNG")
    assert "| 12 | 32 | layer | 12.000 (0.25x) | 12.0 (0.25x) |" in text
    assert "| 12 | 32 | reference | 48.000 (1.00x) | 48.0 (1.00x) |" in text
    assert f"| 16 | {CHOSEN} | 12.000 (0.25x) | 12.0 (0.25x) |" in text
    assert f"| 8^3 | {LIGHT} | 8.000 (0.25x) | 8.0 (0.25x) |" in text
    assert "8 heads, P (cpu, 1 threads), torch 2; medians of 2 processes each" in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--repeats", "0"], "repeats must be"),
        (["--device", "tpu"], "device tpu"),
        (["--lengths", "24,none"], "lengths must be positive integers, got (24, 'none')"),
        (["--cubes", "0"], "cubes must be positive integers, got 0; use for example"),
        (["--channels", "[]"], "channels must be positive integers, got []"),
        (["--depth", "True"], "--depth needs a value"),
        (["--reference", "Direct"], "reference must be the path of a class, got Direct"),
        (["--reference", "nowhere.at.Direct"], "reference must be the path of a class, got nowhere.at.Direct"),
        (["--markdown", "none.md"], "none.md does not exist"),
        (["layer"], "bench axial does not know"),
    ],
)
def test_bad_input_is_one_sentence(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_module, "in_own_process", None)
    assert main(["bench", "axial", *argv]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_asked_for_before_the_measuring(monkeypatch, capsys):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(bench_module, "in_own_process", None)
    assert main(["bench", "axial"]) == 1
    assert "needs matplotlib" in capsys.readouterr().err


def test_bench_axial_is_a_command():
    assert "\n  bench axial " in usage("python -m tools", COMMANDS)
