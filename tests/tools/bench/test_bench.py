"""The benchmark reports what it says it reports, and refuses bad input before it measures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tools.__main__ import main
from tools.bench import bench as bench_module
from tools.bench.bench import MEASURES, bench, format_table, names_of, read_network, read_shape
from tools.bench.measure import in_own_process, measure, peak_mib

pytestmark = pytest.mark.slow

BUNDLE = Path(__file__).parents[3] / "bundles" / "hippocampus_mr_attention_unet_segmentation"
CONVOLUTION = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}


def job(config: dict, shape: tuple[int, ...] = (1, 1, 16, 16, 16), amp: bool = False) -> dict:
    return {"config": config, "shape": shape, "device": "cpu", "amp": amp, "threads": 1, "inner": False}


def test_counts_equal_those_by_hand():
    result = measure(job({"network_def": CONVOLUTION}))
    assert result["parameters"] == sum(p.numel() for p in nn.Conv3d(1, 2, 3).parameters()) == 56
    assert result["gmacs"] == pytest.approx(27 * 2 * 16**3 / 1e9)
    assert (result["dtype"], result["threads"]) == ("float32", 1)
    assert measure(job({"network_def": CONVOLUTION}, amp=True))["dtype"] == "bfloat16"


class Attention(nn.Module):
    """Scaled dot product over all voxels, whose fused CPU kernel torch's counter does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (self.scale * x).flatten(2).transpose(1, 2)[:, None].contiguous()  # one head
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).transpose(2, 3).reshape(x.shape)


def test_attention_is_counted():
    result = measure(job({"network_def": {"_target_": f"{__name__}.Attention"}}, (1, 4, 4, 4, 4)))
    assert result["gmacs"] == pytest.approx(2 * 64 * 64 * 4 / 1e9)


class Two(nn.Module):
    """Deep supervision as one stacked tensor, or as a list, in training only."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.stacked = stacked
        self.head = nn.Conv3d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        logits = self.head(x)
        if not self.training:
            return logits
        return torch.stack([logits, logits], dim=1) if self.stacked else [logits, logits[..., ::2, ::2, ::2]]


@pytest.mark.parametrize("stacked", [True, False])
def test_deep_supervision_can_be_measured(stacked):
    result = measure(job({"network_def": {"_target_": f"{__name__}.Two", "stacked": stacked}}))
    assert result["step_seconds"] > 0


def test_memory_of_a_process_of_its_own_sees_the_activations():
    """A child of a large process starts with its parent's ru_maxrss; its own peak must be seen all the same."""
    ballast = torch.ones(256 * 2**20)  # 1 GiB, more than the child will ever need
    (result,) = in_own_process([job({"network_def": CONVOLUTION}, (1, 1, 48, 48, 48))], "one convolution")
    del ballast
    assert 2 * 48**3 * 4 / 2**20 < result["forward_peak_mib"] < 200
    assert result["step_peak_mib"] >= result["forward_peak_mib"]
    assert peak_mib("cpu") > 1024


def test_report_table_and_files(tmp_path, monkeypatch, capsys):
    """Rounds alternate, medians and ratios are right, other tables and what was written meanwhile stay.

    The measuring itself is replaced by known figures.
    """
    order = []
    page = tmp_path / "page.md"
    other = "<!-- a-1:start -->\nkept\n<!-- a-1:end -->\n"
    page.write_text(f"{other}before\n<!-- a_1:start -->\nold\n<!-- a_1:end -->\nafter\n")

    def fake(_jobs, name):
        order.append(name)
        page.write_text(page.read_text() + f"meanwhile {len(order)}\n")
        value = float(len(order))
        known = {"parameters": 10, "gmacs": 0.5, "dtype": "float32", "threads": 1, "torch": "2", "monai": "1"}
        return [{**known, "processor": "P", "network_def": {"_target_": name}, **dict.fromkeys(MEASURES, value)}]

    monkeypatch.setattr(bench_module, "in_own_process", fake)
    file = tmp_path / "new" / "bench.json"
    options = {"shape": "1,1,8,8,8", "output": str(file), "markdown": str(page), "section": "a_1"}
    report = bench(CONVOLUTION, CONVOLUTION, repeats=3, **options)
    a, b = "torch.nn.Conv3d (1)", "torch.nn.Conv3d (2)"
    assert order == [a, b, b, a, a, b]
    first, second = report["networks"]
    assert [first["step_seconds"], second["step_seconds"]] == [4, 3]
    assert second["ratio"]["step_seconds"] == 0.75
    assert [r["step_seconds"] for r in second["rounds"]] == [2, 3, 6]
    assert json.loads(file.read_text()) == report
    assert set(report) == {
        "machine", "device", "python", "torch", "monai", "threads", "dtype", "shape", "repeats", "networks",
    }  # fmt: skip
    meanwhile = "".join(f"meanwhile {i}\n" for i in range(1, 7))
    filled = f"{other}before\n<!-- a_1:start -->\n\n{format_table(report)}\n\n<!-- a_1:end -->\nafter\n{meanwhile}"
    assert page.read_text() == filled
    assert "| 3.000 (0.75x) |" in filled
    again = bench(CONVOLUTION, repeats=1, **options)
    assert page.read_text() == filled.replace(format_table(report), format_table(again)) + "meanwhile 7\n"
    assert "round 3/3" in capsys.readouterr().out


def test_command_line_measures_files_and_json(tmp_path):
    """References in a file resolve, true and null in a JSON object stay what they are."""
    file = tmp_path / "net.json"
    file.write_text(json.dumps({"width": 3, "network_def": {**CONVOLUTION, "out_channels": "@width"}}))
    inline = json.dumps({**CONVOLUTION, "bias": True}).replace('"bias": true', '"bias": false, "device": null')
    output = tmp_path / "bench.json"
    options = ["--shape", "1,1,16,16,16", "--repeats", "1", "--threads", "1", "--output", str(output)]
    assert main(["bench", str(file), inline, *options]) == 0
    report = json.loads(output.read_text())
    assert [n["parameters"] for n in report["networks"]] == [3 * 28, 2 * 27]
    assert report["networks"][0]["network_def"]["out_channels"] == 3
    assert report["networks"][1]["network_def"]["bias"] is False
    assert (report["shape"], report["threads"], report["device"]) == ([1, 1, 16, 16, 16], 1, "cpu")
    for network in report["networks"]:
        assert all(network[key] > 0 for key in ("forward_seconds", "step_seconds"))


@pytest.mark.skipif(not BUNDLE.is_dir(), reason="the bundle has not been rendered")
@pytest.mark.parametrize("path", [BUNDLE, BUNDLE / "configs" / "train.json"])
def test_a_bundle_can_be_measured_from_anywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_network(str(path))
    assert config["bundle_root"] == str(BUNDLE)
    assert names_of([config]) == ["custom_networks.nets.AttentionUnet"]
    result = measure(job(config))
    assert result["network_def"]["in_channels"] == 1
    assert "_requires_" not in result["network_def"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no network given"),
        (["none.json"], "none.json does not exist"),
        (["{broken"], "not valid JSON"),
        (['{"a": 1}'], "no network_def"),
        (["NET", "--shape", "1,1,16"], "shape must be"),
        (["NET", "--shape", "1,1,a,b,c"], "shape must be"),
        (["NET", "--repeats", "0"], "repeats must be"),
        (["NET", "--device", "tpu"], "device tpu"),
        (["NET", "--markdown", "none.md"], "none.md does not exist"),
        (["NET", "--markdown", "none.md", "--section", "a"], "create it with the lines <!-- a:start --> and"),
        (["NET", "--markdown", "empty.md"], "empty.md must hold <!-- bench:start --> and then <!-- bench:end -->"),
        (["NET", "--markdown", "empty.md", "--section", "b-2"], "must hold <!-- b-2:start --> and then <!-- b-2:end"),
        (["NET", "--section", "two words"], "section must be letters, digits, _ and -, got 'two words'"),
        (["NET", "--section", "größe"], "section must be"),
        (["NET", "--section", ""], "section must be"),
        (["NET", "--shpe", "1,1,8,8,8"], "does not know --shpe"),
        (['{"_target_": "torch.nn.NoSuchLayer"}', "--shape", "1,1,8,8,8"], "torch.nn.NoSuchLayer cannot be measured"),
    ],
)
def test_bad_input_is_one_sentence(argv, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.md").write_text("nothing marked\n")
    assert main(["bench", *(json.dumps(CONVOLUTION) if a == "NET" else a for a in argv)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1
    assert [f.name for f in tmp_path.iterdir()] == ["empty.md"]


def test_shapes():
    assert read_shape([1, 1, 8, 8]) == read_shape("1, 1, 8, 8") == (1, 1, 8, 8)
