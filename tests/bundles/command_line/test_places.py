"""The bundles' commands from the bundle folder, the repository root, and a foreign folder, in isolated processes."""

from __future__ import annotations

import json
import re
import shlex

import numpy as np
import onnxruntime
import pytest
import torch

from tests.bundles.command_line.conftest import from_places
from tests.processes import flags, isolated
from tests.synthetic import (
    IMAGES,
    ROOT,
    SEGMENTATION,
    config,
    kind,
    of_one_per_recipe,
    paths,
    tiny_knobs,
    tiny_training,
    workflow,
)
from tools.ship.metadata_schema import SCHEMA as METADATA_SCHEMA

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def readme(bundle):
    return (bundle / "docs" / "README.md").read_text()


WHERE = '$(print("code from", sys.modules["custom_networks"].__file__), 0)[1]'


@pytest.mark.parametrize("variables", [{}, {"PYTHONSAFEPATH": "1"}], ids=["plain", "safe path"])
def test_isolation_hides_the_package(tmp_path, variables):
    result = isolated("-c", "import monai; import custom_networks", cwd=tmp_path, **variables)
    assert result.returncode != 0
    assert "No module named 'custom_networks'" in result.stderr


@from_places
def test_train_evaluate_and_infer(bundle, place, dataset, tmp_path, command_line):
    overrides = tiny_training(bundle, dataset, tmp_path)
    command_line("run", *flags(overrides), configs=("train",))
    assert (tmp_path / "model.pt").is_file()
    command_line("run", *flags(overrides), configs=("train", "evaluate"))
    assert json.loads((tmp_path / "metrics.json").read_text())["cases"] == len(kind(bundle).evaluated)

    knobs = {"dataset_dir": dataset / IMAGES, "output_dir": tmp_path / "results", "ckpt_dir": tmp_path}
    run = config(bundle, "inference")["run"]
    position = {f"run#{len(run) - 1}": f"$({WHERE[1:]}, @evaluator.run())"}
    output = command_line("run", *flags({**tiny_knobs(bundle), **knobs, **position}), configs=("inference",))
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == kind(bundle).results
    (line,) = [line for line in output.splitlines() if line.startswith("code from ")]
    folder = place[0]
    assert (folder / line.removeprefix("code from ")).resolve() == ROOT / "custom_networks" / "__init__.py"


@pytest.fixture(scope="module")
def shipped_size(bundle, tmp_path_factory):
    """Return a checkpoint of the network as shipped, with an input and what PyTorch makes of it."""
    torch.manual_seed(0)
    network = workflow(bundle, "inference", "infer", {"load_pretrain": False}).network_def.eval()
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network.state_dict(), path)
    x = torch.randn(1, config(bundle)["in_channels"], *config(bundle)["patch_size"])
    with torch.no_grad():
        return path, x, network(x)


@from_places
def test_verify(bundle, place, tmp_path, command_line):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(METADATA_SCHEMA))
    meta = ["--meta_file", f"{place[1]}/configs/metadata.json"]
    assert "verified with no error" in command_line("verify_metadata", *meta, "--filepath", str(schema))
    command_line("verify_net_in_out", "--net_id", "network_def", *meta, configs=("inference",))


def test_export(bundle, tmp_path, command_line, shipped_size, monkeypatch):
    """From the place where no package is found by chance; a graph of the shipped size takes up to a minute."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    checkpoint, x, expected = shipped_size
    meta = ["--meta_file", str(bundle / "configs" / "metadata.json")]
    weights = ["--net_id", "network_def", "--ckpt_file", str(checkpoint), *meta]
    command_line("ckpt_export", *weights, "--filepath", str(tmp_path / "model.ts"), configs=("inference",))
    extra = {"inference.json": "", "metadata.json": ""}
    with torch.no_grad():
        exported = torch.jit.load(tmp_path / "model.ts", _extra_files=extra)
        torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-4)
    assert json.loads(extra["metadata.json"])["version"] == config(bundle, "metadata")["version"]

    (options,) = re.findall(r"With `(--use_trace True\s--converter_kwargs .*?)` it", readme(bundle), re.DOTALL)
    onnx = [*shlex.split(options), "--filepath", str(tmp_path / "model.onnx")]
    command_line("onnx_export", *weights, *onnx, configs=("inference",))
    assert list((tmp_path / "temporary").glob("*.data")) == []
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(result, expected.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bundle", SEGMENTATION[:1], indirect=True, ids=lambda path: path.name, scope="session")
def test_load_as_the_page_says(bundle, tmp_path):
    (snippet,) = re.findall(r"^```python\n(.*?)^```", readme(bundle), re.MULTILINE | re.DOTALL)
    script = tmp_path / "load.py"
    script.write_text(snippet.replace("<this folder>", str(bundle)) + "print(type(network).__name__)\n")
    done = isolated(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == config(bundle)["network_def"]["_target_"].rpartition(".")[2]
    script.write_text(snippet.replace("<this folder>", str(bundle)).replace(', args_file={"bundle_root": root}', ""))
    (sentence,) = re.findall(r"ends in `(.*?)`", readme(bundle))
    assert sentence in isolated(str(script), cwd=tmp_path).stderr


@of_one_per_recipe
def test_bad_input_ends_with_a_sentence(bundle, tmp_path, command_line):
    absent = tmp_path / "absent"
    output = command_line("run", *flags(tiny_training(bundle, absent, tmp_path / "o")), configs=("train",), fails=True)
    last = output.splitlines()[-1]
    assert last.startswith("error: there is no ")
    assert str(absent) in last
    assert "set dataset_dir" in last
    assert "Traceback" not in output
    assert not (tmp_path / "o").exists()


def test_paths_are_those_of_the_bundle(bundle):
    assert all(str(bundle) in path for path in paths(bundle, ["train", "evaluate"]))
