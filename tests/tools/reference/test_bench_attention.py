"""The benchmark of the attention modules measures each of them as it says, and refuses bad input before it measures."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from custom_networks.command_line import usage
from custom_networks.files import read_json
from custom_networks.registry import ATTENTION
from tools.__main__ import COMMANDS, main
from tools.bench import bench as bench_module
from tools.bench.bench import MEASURES
from tools.bench.measure import in_own_process, measure, tensor_peak_mib
from tools.reference import attention_reference
from tools.reference.attention_reference import YARDSTICK, page
from tools.reference.bench_attention import SIZES, bench_attention, definitions
from tools.reference.reach import CONTROL

pytestmark = pytest.mark.slow

MIB = 2**20


def job(definition: dict, shape: tuple[int, ...]) -> dict:
    config = {"network_def": definition}
    return {"config": config, "shape": shape, "device": "cpu", "amp": False, "threads": 1, "inner": True}


def counts(channels: int, name: str) -> dict:
    """Return what a module of the bench must count: its parameters, and MACs that only the channels name."""
    definition = definitions(channels)[name]
    kind = nn.Conv3d if name == YARDSTICK else ATTENTION[name]
    arguments = {key: value for key, value in definition.items() if key != "_target_"}
    parameters = sum(p.numel() for p in kind(**arguments).parameters())
    return {"parameters": parameters, "gmacs": channels / 1e3, "network_def": definition}


def test_tensor_peak_is_exact():
    def run() -> None:
        a = torch.ones(MIB // 4)
        b = a + a
        del a
        torch.ones(MIB // 4)
        del b

    kept = []
    assert tensor_peak_mib(run, "cpu") == 2
    assert tensor_peak_mib(lambda: kept.append(torch.ones(3 * MIB // 4)), "cpu") == 3
    assert tensor_peak_mib(kept.clear, "cpu") == 0


class Squares(nn.Module):
    """One map of its own and no parameter."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


def test_a_layer_is_trained_by_its_mean_square_and_gives_its_input_a_gradient(monkeypatch):
    seen = []
    loss = nn.functional.mse_loss
    monkeypatch.setattr(nn.functional, "mse_loss", lambda *args, **kw: seen.append(args) or loss(*args, **kw))
    result = measure(job({"_target_": f"{__name__}.Squares"}, (1, 4, 32, 32, 32)))
    size = 4 * 32**3 * 4 / MIB
    assert (result["parameters"], result["gmacs"]) == (0, 0)
    assert result["forward_peak_mib"] == size
    assert 3 * size <= result["step_peak_mib"] < 6 * size, "the output, its gradient and that of the input"
    assert result["step_seconds"] > 0
    output, target = seen[0]
    assert output.shape == (1, 4, 32, 32, 32)
    assert not target.any()


def test_several_sizes_in_one_process_have_their_own_figures():
    convolution = {"_target_": "torch.nn.Conv3d", "out_channels": 2, "kernel_size": 1}
    jobs = [job({**convolution, "in_channels": c}, (1, c, n, n, n)) for c, n in ((1, 24), (3, 12))]
    first, second = in_own_process(jobs, "convolution")
    assert [r["parameters"] for r in (first, second)] == [4, 8]
    assert [r["gmacs"] for r in (first, second)] == pytest.approx([2 * 24**3 / 1e9, 6 * 12**3 / 1e9])
    assert first["forward_peak_mib"] >= 2 * 24**3 * 4 / MIB > second["forward_peak_mib"] >= 2 * 12**3 * 4 / MIB


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Run the bench with measuring replaced by known figures; return the report, the processes and the folder."""
    processes = []

    def fake(jobs, name):
        processes.append((name, jobs))
        known = {"dtype": "float32", "threads": 1, "torch": "2", "monai": "1", "processor": "P"}
        return [
            {**known, **counts(job["shape"][1], name), **dict.fromkeys(MEASURES, float(len(processes)))} for job in jobs
        ]

    monkeypatch.setattr(bench_module, "in_own_process", fake)
    report = bench_attention(repeats=2, output=str(tmp_path / "new" / "attention.json"), threads=1)
    return report, processes, tmp_path / "new"


def test_every_module_is_measured_at_every_size_in_turns(measured):
    report, processes, _ = measured
    names = [YARDSTICK, *ATTENTION]
    assert [name for name, _ in processes] == [*names, *reversed(names)]
    assert list(report["modules"]) == names
    for name, jobs in processes:
        assert [job["shape"] for job in jobs] == [(1, channels, n, n, n) for channels, n in SIZES]
        for (channels, _), own in zip(SIZES, jobs, strict=True):
            assert own["config"] == {"network_def": definitions(channels)[name]}
            assert (own["device"], own["amp"], own["threads"], own["inner"]) == ("cpu", False, 1, True)
    first = report["modules"][YARDSTICK][0]
    assert [r["step_seconds"] for r in first["rounds"]] == [1, 2 * len(names)]
    assert first["step_seconds"] == (1 + 2 * len(names)) / 2
    assert report["command"] == "python -m tools bench attention --repeats 2 --device cpu --threads 1"


def test_figures_and_page_are_written(measured):
    report, _, folder = measured
    assert json.loads((folder / "attention.json").read_text()) == report
    assert (folder / "attention.md").read_text() == page(report, read_json(CONTROL))
    assert sorted(f.name for f in folder.iterdir()) == ["attention.json", "attention.md"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--repeats", "0"], "repeats must be"),
        (["--device", "tpu"], "device tpu"),
        (["cbam"], "bench attention does not know"),
        (["--shape", "1,1,8,8,8"], "does not know --shape"),
    ],
)
def test_bad_input_is_one_sentence(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_module, "in_own_process", None)
    assert main(["bench", "attention", *argv, "--output", "attention.json"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert not list(tmp_path.iterdir())


def test_a_module_without_a_note_is_refused_before_it_is_measured(monkeypatch):
    monkeypatch.setattr(bench_module, "in_own_process", None)
    monkeypatch.setattr(attention_reference, "NOTES", {})
    with pytest.raises(ValueError, match="there is no note for axial_attention"):
        bench_attention()


def test_bench_has_a_command_of_its_own_and_one_for_attention(capsys):
    said = usage("python -m tools", COMMANDS)
    assert all(f"\n  {name}  " in said for name in ("bench", "bench attention", "reference"))
    assert main(["bench"]) == 1
    assert "no network given" in capsys.readouterr().err
    assert main(["bench", "none.json"]) == 1
    assert "none.json does not exist" in capsys.readouterr().err
    assert main(["bundles"]) == main(["bundles", "none"]) == main(["bundles", ""]) == 2
    assert "unknown command 'bundles'" in capsys.readouterr().err
