"""OpenVINO computes what PyTorch computes, from a graph that is made once and made anew when the network changes."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import partial

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from torch import nn

from custom_networks.workflow import MirrorInferer, MirrorSlidingWindowInferer, build_network, load_weights
from custom_networks.workflow.infer.engines import choice, kept_files, onnx_export, openvino_runner
from custom_networks.workflow.infer.thin_grids import is_thin
from custom_networks.workflow.memory.memory_report import report_memory
from tests.exports import _one_table

WINDOW = (8, 8, 4)


class Tiny(nn.Module):
    """A network with what the wrapper asks of one."""

    in_channels = 1
    size_divisor = (2, 2, 2)

    def __init__(self, slope: float = 0.1) -> None:
        super().__init__()
        self.slope = slope
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.last = nn.Conv3d(4, 3, 1)

    def coarsest_grid(self, size):
        return tuple(size)

    def forward(self, x):
        return self.last(nn.functional.leaky_relu(self.first(x), self.slope))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep the user's cache out of it, and make the exporter's table once."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with _one_table():
        yield tmp_path / "cache" / "custom_networks" / "engines"


@pytest.fixture
def exports(monkeypatch):
    """Return a list that grows with every export."""
    made = []

    def write(network, x, path):
        made.append(path)
        onnx_export.write_onnx(network, x, path)

    monkeypatch.setattr(openvino_runner, "write_onnx", write)
    return made


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "models" / "model.pt"
    path.parent.mkdir()
    torch.save(Tiny().state_dict(), path)
    return path


def wrapped(weights, engine="openvino", amp=False, network=None):
    network = network or Tiny()
    built = build_network(network, engine=engine, device="cpu", amp=amp, ckpt_path=str(weights))
    load_weights(built, weights)  # after it was wrapped, as initialize does
    return built.eval()


def image(*size, batch=1):
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(3))


def test_torch_is_the_network_itself(weights):
    network = Tiny()
    assert build_network(network, engine="torch", device="cpu", amp=True, ckpt_path=weights) is network


def test_openvino_computes_what_torch_does_at_every_size_and_batch(weights, exports):
    built = wrapped(weights)
    with torch.no_grad():
        for size, batch in ((WINDOW, 1), ((10, 6, 12), 3), (WINDOW, 2), ((8, 8, 8), 1), ((6, 8, 8), 1), (WINDOW, 1)):
            x = image(*size, batch=batch)
            got, want = built(x), built.module(x)
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
            assert torch.equal(got.argmax(1), want.argmax(1))
    assert len(exports) == 1
    assert (built.engine, built.precision) == ("openvino", "float32")
    assert len(built._runner._requests) <= openvino_runner.MOST_SIZES


def test_signals_are_survived(tmp_path):
    graph = tmp_path / "tiny.onnx"
    onnx_export.write_onnx(Tiny().eval(), image(*WINDOW), graph)
    script = f"""
import os, signal, threading
from pathlib import Path
import torch
from custom_networks.workflow.infer.engines.openvino_runner import OpenVinoRunner, versions
got = []
signal.signal(signal.SIGUSR1, lambda *_: got.append(1))
runners = []
for _ in range(2):
    runners.append(OpenVinoRunner(Path({str(graph)!r}), "float32", None))
    runners[-1](torch.ones(1, 1, 8, 8, 4))
    versions()
del runners[0]
thread = threading.Thread(target=runners.clear)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
assert got == [1]
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize(
    ("size", "mirror", "batch"), [((13, 9, 7), (0, 2), 3), ((5, 3, 2), (), 1), ((21, 8, 4), (1,), 2)]
)
def test_sliding_windows_of_odd_sizes(weights, size, mirror, batch, low_memory):
    built = wrapped(weights)
    inferer = MirrorSlidingWindowInferer(
        WINDOW, mirror_axes=mirror, amp=False, low_memory=low_memory, sw_batch_size=batch, overlap=0.5, mode="gaussian"
    )
    x = MetaTensor(image(*size))
    with torch.no_grad():
        got, want = inferer(x, built), inferer(x, built.module)
    assert type(got) is type(want) and got.shape == want.shape
    if low_memory:
        assert torch.equal(got, want)
    else:
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        assert torch.equal(got.argmax(1), want.argmax(1))


def test_the_meta_data_stay(weights):
    x = MetaTensor(image(*WINDOW), affine=2 * torch.eye(4))
    got = MirrorInferer(amp=False)(x, wrapped(weights))
    assert isinstance(got, MetaTensor) and torch.equal(got.affine, x.affine)


def test_an_evaluator_and_autocast(weights, monkeypatch):
    """The recipe's amp autocasts around the network; neither the conversion nor OpenVINO must see it."""
    monkeypatch.setattr("custom_networks.workflow.infer.inferers.has_bfloat16", lambda device: True)
    built = wrapped(weights)
    inferer = MirrorSlidingWindowInferer(WINDOW, amp=True, overlap=0.5)
    loader = [{"image": image(*WINDOW), "label": image(*WINDOW)}]
    evaluator = SupervisedEvaluator(device=torch.device("cpu"), val_data_loader=loader, network=built, inferer=inferer)
    evaluator.run()
    with torch.no_grad():
        want = built.module(loader[0]["image"])
    torch.testing.assert_close(
        evaluator.state.output[0]["pred"].as_subclass(torch.Tensor), want[0], rtol=1e-5, atol=1e-5
    )


def test_the_graph_does_not_stop_training_and_dropout(weights):
    built = wrapped(weights).train()
    x = image(*WINDOW)
    assert torch.equal(built(x), built.module(x)) and built(x).requires_grad
    assert built.precision is None
    assert not built.eval().module.training


def test_attributes_and_the_memory_bill_are_the_networks(weights, caplog):
    built = wrapped(weights)
    assert built.size_divisor == (2, 2, 2) and built.slope == 0.1
    with pytest.raises(AttributeError, match="absent"):
        built.absent  # noqa: B018
    caplog.set_level(logging.INFO)
    memory = {"device": "cpu", "in_channels": 1, "out_channels": 3, "spacing": (1, 1, 1), "patch_size": WINDOW}
    report_memory(built, **memory, amp=False, low_memory=False, batch_size=1)
    assert "training is expected to take" in caplog.text and "there is no memory bill" not in caplog.text


def test_thin_grids_break_torch_only(weights):
    thin = (2, 8, 8)
    assert is_thin(wrapped(weights).module, thin)
    assert not is_thin(wrapped(weights), thin)
    assert is_thin(wrapped(weights, "auto"), thin)  # as long as torch may run it


def test_what_does_not_fit_is_refused_as_the_networks_do(weights):
    with pytest.raises(ValueError, match=r"spatial shape \(7, 8, 4\) must be divisible by \(2, 2, 2\); pad to"):
        wrapped(weights)(image(7, 8, 4))


def test_bfloat16_where_wanted_and_there(weights, monkeypatch):
    monkeypatch.setattr(openvino_runner, "precision_of", lambda amp: "bfloat16" if amp else "float32")
    built = wrapped(weights, amp=True)
    with torch.no_grad():
        got, want = built(image(*WINDOW)), built.module(image(*WINDOW))
    assert built.precision == "bfloat16" and got.dtype == torch.float32
    assert (got - want).abs().max() < 0.05 * want.abs().max()


def test_a_second_start_takes_what_is_kept(weights, exports, cache):
    first = wrapped(weights)(image(*WINDOW))
    (kept,) = (weights.parent / "engines").glob("*.onnx")
    assert torch.equal(wrapped(weights)(image(*WINDOW)), first)
    assert len(exports) == 1 and not cache.exists()
    assert {path.name for path in (weights.parent / "engines").iterdir()} == {kept.name, "compiled"}


@pytest.mark.parametrize("change", ["weights", "definition", "engine", "torch", "code"])
def test_what_has_changed_is_converted_again(weights, exports, monkeypatch, change):
    openvino = pytest.importorskip("openvino")
    wrapped(weights)(image(*WINDOW))
    network = Tiny()
    if change == "weights":
        state = torch.load(weights)
        state["last.bias"] += 1
        torch.save(state, weights)
    if change == "definition":
        network = Tiny(slope=0.5)
    if change == "engine":
        monkeypatch.setattr(openvino, "get_version", lambda: "2030.1")
    if change == "torch":
        monkeypatch.setattr(torch, "__version__", "3.0.0")
    if change == "code":
        monkeypatch.setattr(kept_files, "_code", lambda network: ["other"])
    built = wrapped(weights, network=network)
    with torch.no_grad():
        torch.testing.assert_close(built(image(*WINDOW)), built.module(image(*WINDOW)), rtol=1e-5, atol=1e-5)
    assert len(exports) == 2 and len(list((weights.parent / "engines").glob("*.onnx"))) == 2


def test_the_fingerprint_is_of_the_network_and_not_of_its_state():
    torch.manual_seed(0)
    first = Tiny()
    torch.manual_seed(0)
    second = Tiny().eval()
    assert kept_files.fingerprint(first) == kept_files.fingerprint(second)


def test_an_interrupted_conversion_leaves_nothing(weights, monkeypatch):
    def interrupted(network, x, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(openvino_runner, "write_onnx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        wrapped(weights)(image(*WINDOW))
    assert not list((weights.parent / "engines").iterdir())


def test_a_folder_that_cannot_be_written(weights, exports, cache, caplog):
    caplog.set_level(logging.INFO)
    (weights.parent / "engines").touch()  # as root may write everywhere, a file stands in the way
    for _ in range(2):
        wrapped(weights)(image(*WINDOW))
    assert len(exports) == 1 and len(list(cache.glob("*.onnx"))) == 1
    assert f"{weights.parent / 'engines'} cannot be written; what is converted is kept in {cache}" in caplog.text


def test_nowhere_to_write(weights, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (weights.parent / "engines").touch()
    (tmp_path / "cache").touch()
    with pytest.raises(OSError, match="cache"):
        wrapped(weights)(image(*WINDOW))
    built = wrapped(weights, "auto")
    built(image(*WINDOW))
    assert built.engine == "torch" and "engine auto takes torch: " in caplog.text


@pytest.mark.parametrize("package", ["openvino", "onnx", "onnxscript"])
def test_an_absent_package(weights, monkeypatch, caplog, package, cache):
    caplog.set_level(logging.INFO)
    find = openvino_runner.find_spec
    monkeypatch.setattr(openvino_runner, "find_spec", lambda name: None if name == package else find(name))
    sentence = f"engine openvino needs {package}; pip install openvino onnx onnxscript, or set engine to torch"
    with pytest.raises(ValueError, match=sentence):
        wrapped(weights)(image(*WINDOW))
    built = wrapped(weights, "auto")
    built(image(*WINDOW))
    assert getattr(built, "engine", "torch") == "torch"
    assert f"engine auto takes torch: {sentence}" in caplog.text
    assert not list(cache.glob("*.json"))  # it may be there the next time


def test_openvino_does_not_run_on_a_gpu(weights, caplog):
    caplog.set_level(logging.INFO)
    build = partial(build_network, Tiny(), device="cuda:0", amp=True, ckpt_path=weights)
    with pytest.raises(ValueError, match="engine openvino runs on the CPU, got device cuda:0; set device to cpu, or"):
        build(engine="openvino")
    assert isinstance(build(engine="auto"), Tiny)
    assert "engine auto takes torch: OpenVINO does not run on cuda:0" in caplog.text
    with pytest.raises(ValueError, match="engine must be torch, openvino or auto, got 'onnx'"):
        build(engine="onnx")


def test_an_export_that_fails_or_differs(weights, monkeypatch, caplog, cache):
    caplog.set_level(logging.INFO)

    def fails(network, x, path):
        raise RuntimeError("read the manual of the exporter") from TypeError("no graph\nof this")

    def differs(network, x, path):
        other = Tiny()
        nn.init.ones_(other.last.bias)
        onnx_export.write_onnx(other, x, path)

    for wrong, sentence in (
        (fails, r"the network cannot be converted for OpenVINO \(no graph of this\); set engine to torch"),
        (differs, r"OpenVINO's logits differ from PyTorch's by .* where the largest is .*; set engine to torch"),
    ):
        monkeypatch.setattr(openvino_runner, "write_onnx", wrong)
        with pytest.raises(ValueError, match=sentence):
            wrapped(weights)(image(*WINDOW))
        assert not list((weights.parent / "engines").glob("*.onnx"))
    for _ in range(2):  # the second time nothing is tried: it is known
        built = wrapped(weights, "auto")
        built(image(*WINDOW))
        assert built.engine == "torch"
        monkeypatch.setattr(openvino_runner, "write_onnx", None)
    assert caplog.text.count("engine auto takes torch (OpenVINO's logits differ") == 2


@pytest.fixture
def clock(monkeypatch):
    """Return the seconds that each engine is said to take, to be set."""
    seconds = {"torch": 0.0, "openvino": 0.0}
    now = [0.0]
    tiny, runner = Tiny.forward, openvino_runner.OpenVinoRunner.__call__

    def slow(name, function):
        def run(self, x):
            now[0] += seconds[name]
            return function(self, x)

        return run

    monkeypatch.setattr(choice, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Tiny, "forward", slow("torch", tiny))
    monkeypatch.setattr(openvino_runner.OpenVinoRunner, "__call__", slow("openvino", runner))
    return seconds


def test_auto_takes_what_is_faster_and_remembers(weights, clock, caplog, cache, exports):
    caplog.set_level(logging.INFO)
    x = image(*WINDOW)
    clock.update(torch=3.0, openvino=1.0)
    built = wrapped(weights, "auto")
    built(x)
    assert (built.engine, built.precision) == ("openvino", "float32")
    said = "engine auto takes openvino (input 1 x 1 x 8 x 8 x 4: torch 3 s in float32, openvino 1 s in float32)"
    assert said in caplog.text
    (file,) = cache.glob("*.json")
    record = json.loads(file.read_text())
    assert record["seconds"] == {"torch": 3.0, "openvino": 1.0} and record["threads"] == 1

    clock.update(torch=1.0, openvino=3.0)
    again = wrapped(weights, "auto")
    again(x)
    assert again.engine == "openvino" and caplog.text.count(said) == 2  # as measured, not measured again
    other = wrapped(weights, "auto")
    other(image(8, 8, 8))  # another window
    assert other.engine == "torch" and other.precision == "float32" and len(list(cache.glob("*.json"))) == 2
    file.write_text("{")
    measured = wrapped(weights, "auto")
    measured(x)
    assert measured.engine == "torch" and len(exports) == 1
    with torch.no_grad():
        assert torch.equal(measured(x), measured.module(x))


def test_auto_does_not_export_where_torch_is_known_to_be_faster(weights, clock, monkeypatch):
    clock.update(torch=1.0, openvino=3.0)
    wrapped(weights, "auto")(image(*WINDOW))
    monkeypatch.setattr(choice, "_least_seconds", None)
    built = wrapped(weights, "auto")
    monkeypatch.setitem(sys.modules, "onnx", None)
    for path in (weights.parent / "engines").glob("*.onnx"):
        path.unlink()
    built(image(*WINDOW))
    assert built.engine == "torch"
