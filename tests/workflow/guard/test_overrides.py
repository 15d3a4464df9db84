"""An override that changes nothing ends the run; everything that changes something passes."""

from __future__ import annotations

import json
from functools import partial

import pytest

from custom_networks.workflow import check_overrides
from custom_networks.workflow.guard.errors import sentence_of
from tests.processes import isolated
from tests.synthetic import BUNDLES, run, workflow

BUNDLE = next(bundle for bundle in BUNDLES if "attention_unet" in bundle.name)
RUN = ["run", "--config_file", f"['{BUNDLE}/configs/train.json','{BUNDLE}/configs/evaluate.json']"]
RUN += ["--bundle_root", str(BUNDLE)]

FINE = {
    "knobs": ["--epochs", "1", "--learning_rate=0.1", "--mirror_axes", "[0, 1]"],
    "a knob with a dash": ["--val-interval", "1"],
    "one of a sibling config": ["--load_pretrain", "False"],
    "id paths": ["--network_def#dropout", "0.1", "--train::trainer::max_epochs", "3", "--train#handlers#0", "None"],
    "an entry that only another config's path names": ["--validate#sampler", "None"],
    "arguments of MONAI": [
        "--run_id",
        "run",
        "--meta_file",
        "m.json",
        "--logging_file",
        "False",
        "--tracking",
        "mlflow",
    ],
    "an argument that the class does not have yet": ["--optimizer#weight_decay", "0.1"],
    "a new entry that another one refers to": ["--mine", "3", "--epochs", "@mine"],
    "a negative value": ["--seed", "-1"],
    "yes and no as Python writes them": ["--amp", "False", "--low_memory=True"],
    "yes and no as text where no config has them": ["--output_dir", "false"],
    "texts that only look like something else": [
        "--dataset_dir",
        "./2024",
        "--output_dir=2024-01",
        "--ckpt_dir",
        "a b",
    ],
    "texts in quotation marks": ["--dataset_dir", "'2024'", "--image_glob", "'a,b'"],
    "texts that may be null": ["--image_glob", "None", "--resume_ckpt=None"],
    "a # in an expression": ["--dataset_dir", r"$'data\x231'", "--output_dir", "%mine.json#folder"],
}
WRONG = {
    "singular": (["--epoch", "1"], "the command line sets epoch, but .* is called epoch; did you mean epochs?"),
    "with an equals sign": (["--batchsize=1"], "sets batchsize, .* called batchsize; did you mean batch_size?"),
    "one dash": (["-epoch", "1"], "sets epoch, .* did you mean epochs?"),
    "in a section": (["--train#dataset_", "1"], "sets train#dataset_, .* called dataset_; did you mean dataset?"),
    "double colons": (["--trainn::trainer", "1"], "sets trainn::trainer, .* called trainn; did you mean train?"),
    "an entry of the metadata": (["--intended_use", "1"], "called intended_use; see the knobs"),
    "like nothing": (["--zzz", "1"], "called zzz; see the knobs at the top of configs/train.json"),
    "named by itself only": (["--epoch", "1", "--seed", "epoch"], "sets epoch,"),
    "part of another reference": (["--epoch", "1", "--seed", "@epochs"], "sets epoch,"),
    "no as JSON writes it": (
        ["--amp", "false"],
        "sets amp to the text 'false', which would count as true; write False",
    ),
    "a number for a text": (
        ["--dataset_dir", "2024"],
        r"sets dataset_dir to 2024, which is read as 2024, not as a text; write \./2024\Z",
    ),
    "a number that loses its text": (
        ["--output_dir=2024_01"],
        r"to 2024_01, which is read as 202401, .*; write \./2024_01",
    ),
    "a list for a text": (["--dataset_dir", "a,b"], r"a,b, which is read as \('a', 'b'\), not as a text; write \./a,b"),
    "nothing for a text": (["--output_dir", "None"], r"output_dir to None, which is read as None, .*; write \./None"),
    "a number for a word": (["--evaluation_split", "1"], "read as 1, not as a text; write \"'1'\""),
    "a comment": (
        ["--dataset_dir", "data#1"],
        r"""to data#1, where # begins something else than a text; write "\$'data\\x231'\"""",
    ),
    "an id": (["--dataset_dir", "/my data/#1"], r"""write "\$'/my data/\\x231'\""""),
    "yes in capitals": (["--low_memory=TRUE"], "sets low_memory to the text 'TRUE', .*; write True"),
}


@pytest.mark.parametrize("case", FINE)
def test_what_changes_something_passes(case):
    check_overrides(str(BUNDLE), [*RUN, *FINE[case]])


@pytest.mark.parametrize("case", WRONG)
def test_what_changes_nothing_is_refused(case):
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        check_overrides(str(BUNDLE), [*RUN, *arguments])


@pytest.mark.parametrize("option", ["--args_file", "--config_file"])
def test_files_are_read(tmp_path, option):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps({"epochs": 2, "spacing": [1, 1, 1]}))
    bad.write_text(json.dumps({"spacings": [1, 1, 1]}))
    for files in (str(good), f"['{BUNDLE}/configs/train.json', '{good}']"):
        check_overrides(str(BUNDLE), ["run", option, files])
    with pytest.raises(ValueError, match=r"bad\.json sets spacings, .* did you mean spacing\?"):
        check_overrides(str(BUNDLE), ["run", option, f"['{good}', '{bad}']"])


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_every_profile_and_every_config_passes(bundle):
    files = sorted((bundle / "configs").rglob("*.json"))
    for path in files:
        if path.name not in ("metadata.json", "folds.json"):
            check_overrides(str(bundle), ["run", "--args_file", str(path), "--config_file", str(path)])


def test_a_bundle_root_that_is_none(tmp_path):
    with pytest.raises(
        ValueError, match=f"{tmp_path} is not the folder of a bundle, it has no configs; give that above"
    ):
        check_overrides(str(tmp_path), ["run", "--epochs", "1"])


def test_another_program_has_a_command_line_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["pytest", "--epoch", "1"])
    check_overrides(str(BUNDLE))
    check_overrides(str(tmp_path))


CALLS = {
    "a knob": (
        {"epoch": 1},
        "the call sets epoch, but nothing in the configs of {} is called epoch; did you mean epochs?",
    ),
    "in a section": (
        {"train#dataset_": 1},
        "the call sets train#dataset_, but nothing in the configs of {} is called dataset_; did you mean dataset?",
    ),
    "a text for no": (
        {"amp": "false"},
        "the call sets amp to the text 'false', which would count as true; write False",
    ),
    "a number for a text": (
        {"output_dir": 2024},
        "the call sets output_dir to 2024, which is no text; put it in quotation marks",
    ),
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("call", [partial(run, BUNDLE, "train"), partial(workflow, BUNDLE, "train", "train")])
def test_calls_from_python_are_looked_at(case, call, tmp_path):
    overrides, sentence = CALLS[case]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error; its sentence is checked
        call({"dataset_dir": str(tmp_path), **overrides})
    assert sentence_of(caught.value) == sentence.format(BUNDLE.name)


def test_calls_from_python_that_change_something_pass(tmp_path):
    given = {"epochs": "@mine", "mine": 3, "train#trainer#max_epochs": 2, "network_def#dropout": 0.1}
    made = workflow(BUNDLE, ["train", "evaluate"], "train", {"dataset_dir": str(tmp_path), **given})
    assert made.parser.get_parsed_content("epochs") == 3
    tracked = {"tracking": "mlflow", "save_execute_config": False}
    assert workflow(BUNDLE, "train", "train", {"dataset_dir": str(tmp_path), **tracked}).network_def is not None


@pytest.mark.parametrize(("bundle", "name"), [(BUNDLE, "train"), (BUNDLES[-1], "inference")], ids=str)
def test_the_command_line_ends_with_one_sentence(bundle, name, tmp_path):
    files = ["--config_file", str(bundle / "configs" / f"{name}.json"), "--bundle_root", str(bundle)]
    done = isolated("-m", "monai.bundle", "run", *files, "--patchsize", "[8, 8, 8]", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"error: the command line sets patchsize, but nothing in the configs of {bundle.name} is called patchsize; did "
        "you mean patch_size?"
    )
    assert not list(tmp_path.iterdir())


def test_texts_in_a_profile(tmp_path):
    profile = tmp_path / "mine.json"
    for value, message in (
        (2024, r"mine\.json sets dataset_dir to 2024, which is no text; put it in quotation marks"),
        (["a"], r"sets dataset_dir to \['a'\], which is no text"),
        ("/data/#1", r"""sets dataset_dir to /data/#1, where # .* write "\$'/data/\\\\x231'\""""),
    ):
        profile.write_text(json.dumps({"dataset_dir": value}))
        with pytest.raises(ValueError, match=message):
            check_overrides(str(BUNDLE), [*RUN, "--args_file", str(profile)])
    for value in ("2024", "$'/data/\\x231'", "'a'"):
        profile.write_text(json.dumps({"dataset_dir": value, "image_glob": None}))
        check_overrides(str(BUNDLE), [*RUN, "--args_file", str(profile)])


@pytest.mark.parametrize("text", ["False", "false"])
def test_a_text_for_no_in_a_profile(tmp_path, text):
    profile = tmp_path / "mine.json"
    profile.write_text(json.dumps({"amp": text}))
    with pytest.raises(ValueError, match=f"mine.json sets amp to the text '{text}', .* write false without quotation"):
        check_overrides(str(BUNDLE), [*RUN, "--args_file", str(profile)])
    profile.write_text('{"amp": true}')
    with pytest.raises(ValueError, match="the command line sets amp to the text 'false'"):
        check_overrides(str(BUNDLE), [*RUN, "--args_file", str(profile), "--amp", "false"])
    check_overrides(str(BUNDLE), [*RUN, "--args_file", str(profile)])
