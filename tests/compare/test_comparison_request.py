"""The numbers of a comparison."""

from __future__ import annotations

import pytest

from custom_networks.__main__ import COMMANDS
from custom_networks.command_line import run
from custom_networks.compare.request import read_request

GIVEN = {"minutes": None, "steps": "200", "seeds": "3", "folds": "0,2", "learning_rates": "0.001, 0.003", "jobs": "2"}


def test_texts_of_a_command_line_are_read():
    request = read_request(**GIVEN)
    assert request.minutes is None
    assert (request.steps, request.seeds, request.jobs) == (200, 3, 2)
    assert request.folds == [0, 2]
    assert request.rates == [0.001, 0.003]


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": "0"},
        {"steps": "1.5"},
        {"steps": None, "minutes": "soon"},
        {"steps": None, "minutes": "inf"},
        {"seeds": "0"},
        {"folds": "0,0"},
        {"folds": "-1"},
        {"folds": "all"},
        {"learning_rates": "0.001,"},
        {"learning_rates": "0"},
        {"jobs": "two"},
    ],
    ids=str,
)
def test_other_numbers_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=f"--{next(key for key, value in wrong.items() if value)} "):
        read_request(**GIVEN | wrong)


def test_minutes_or_steps(tmp_path, capsys):
    profile = tmp_path / "mine.json"
    profile.write_text("{}")
    arguments = ["compare", "--profile", str(profile), "--networks", "a,b", "--out", str(tmp_path / "out")]
    for more in ([], ["--minutes", "3", "--steps", "5"]):
        assert run("custom_networks", COMMANDS, arguments + more, texts=True) == 1
        assert "give --minutes for equal time or --steps for equal steps" in capsys.readouterr().err


def test_a_profile_that_is_not_there(tmp_path, capsys):
    arguments = ["compare", "--profile", str(tmp_path / "none.json"), "--networks", "a,b", "--out", "out"]
    assert run("custom_networks", COMMANDS, [*arguments, "--steps", "5"], texts=True) == 1
    assert "there is no profile" in capsys.readouterr().err
