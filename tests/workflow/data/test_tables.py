"""Tables that users write: columns in any order, optional ones, lines by their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom_networks.workflow.data.tables import read_table


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_by_their_numbers_and_columns(tmp_path, start, end):
    path = write(tmp_path, start + end.join(["b , a", ' x,"1, 2" ', "", "y"]))
    assert read_table(path, ("a", "b"), ("c",)) == [(2, {"b": "x", "a": "1, 2"}), (4, {"b": "y", "a": ""})]


def test_an_optional_column_may_be_there(tmp_path):
    assert read_table(write(tmp_path, "c,b,a\n1,2,3\n"), ("a", "b"), ("c",)) == [(2, {"a": "3", "b": "2", "c": "1"})]
    with pytest.raises(ValueError, match=r"has the columns c, b, a; it needs a and b$"):
        read_table(tmp_path / "table.csv", ("a", "b"))
    with pytest.raises(ValueError, match=r"has the columns c, b, a; it needs a and d, and may have c$"):
        read_table(tmp_path / "table.csv", ("a", "d"), ("c",))
