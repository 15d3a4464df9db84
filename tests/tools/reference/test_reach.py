"""The reach of the attention modules on their reference page: what the positive control has kept, and nothing else."""

from __future__ import annotations

import copy

import pytest

from custom_networks.files import read_json
from tools.__main__ import main
from tools.reference import attention_reference
from tools.reference.reach import ALONE, CONTROL, TASKS, reach
from tools.study import control, control_run, control_tasks

REPORT = read_json(CONTROL)
PAGE = attention_reference.FIGURES.with_suffix(".md")


def test_tasks_and_networks_are_those_of_the_control():
    assert list(TASKS) == list(control_tasks.TASKS)
    assert set(ALONE) == set(control_run.NETWORKS) - set(attention_reference.ATTENTION)
    assert set(REPORT["reach"]) == set(control_run.NETWORKS)


def test_every_cell_of_the_page_follows_from_the_volumes_that_were_right():
    section = PAGE.read_text().partition("## Reach\n")[2].partition("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:2] == "| "]
    assert rows[0] == ["network", *TASKS]
    networks = {words: name for name, words in ALONE.items()}
    networks |= {f"[`{name}`](#{name})": name for name in attention_reference.ATTENTION}
    assert len(rows[1:]) == len(networks) == len({row[0] for row in rows[1:]})
    for label, *cells in rows[1:]:
        runs = REPORT["runs"][networks[label]]
        correct = {task: [own["correct"] for own in runs[task].values()] for task in TASKS}
        assert cells == [control.reach(correct[task])["solved"] for task in TASKS], label


def test_a_module_without_its_runs_and_one_that_is_gone_are_refused():
    without, gone = copy.deepcopy(REPORT), copy.deepcopy(REPORT)
    del without["reach"]["eca"]["which"], without["reach"]["plain"]
    with pytest.raises(ValueError, match=r"control.json lacks tasks of plain, eca; run: python -m tools study control"):
        reach(without)
    gone["reach"]["mine"] = gone["reach"]["eca"]
    with pytest.raises(ValueError, match=r"control.json has mine, not in the registry"):
        reach(gone)


@pytest.mark.parametrize(("seeds", "words"), [((1, 1), "1 seed each"), ((3, 3), "3 seeds"), ((1, 3), "1 to 3 seeds")])
def test_the_number_of_seeds_is_said(seeds, words):
    report = copy.deepcopy(REPORT)
    for number, own in enumerate(report["runs"].values()):
        for task in own:
            own[task] = {str(seed): 400 for seed in range(seeds[number % 2])}
    assert words in reach(report)


def test_a_control_that_was_not_run_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attention_reference, "CONTROL", tmp_path / "control.json")
    assert main(["reference"]) == 1
    assert "control.json does not exist; run: python -m tools study control" in capsys.readouterr().err
