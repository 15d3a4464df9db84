from __future__ import annotations

from PIL import Image

from custom_networks.workflow.train.log import curve as module
from custom_networks.workflow.train.log.curve import draw_curve, read_curve, write_row


def a_row(epoch: int, metric: str = "", **dice: str) -> dict[str, str]:
    named = {f"dice_{name}": value for name, value in dice.items()}
    numbers = {"loss": "0.5", "learning_rate": "0.1", "seconds": "1"}
    return {"epoch": str(epoch), **numbers, "validation_metric": metric, **named}


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "curve.csv"
    assert read_curve(path) == []
    written = [a_row(1, "0.5", heart="0.5"), a_row(2, heart=""), a_row(3, "0.6", heart="0.6")]
    for row in written:
        write_row(path, row)
    assert read_curve(path) == written


def test_the_picture_is_written_beside_the_curve(tmp_path):
    path = tmp_path / "curve.csv"
    assert draw_curve(path, "mean Dice") is None
    write_row(path, a_row(1))
    write_row(path, a_row(2, "0.5", heart="0.5", lung=""))
    picture = draw_curve(path, "mean Dice")
    assert picture == tmp_path / "training.png"
    with Image.open(picture) as image:
        assert image.size == (1000, 400)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve.csv", "training.png"]


def test_a_training_without_any_validation_has_a_picture(tmp_path):
    write_row(tmp_path / "curve.csv", a_row(1))
    assert draw_curve(tmp_path / "curve.csv", "AUC") is not None


def test_there_is_none_without_matplotlib(tmp_path, monkeypatch):
    write_row(tmp_path / "curve.csv", a_row(1, "0.5"))
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert draw_curve(tmp_path / "curve.csv", "AUC") is None
