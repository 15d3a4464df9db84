"""The one reader of the CSV files that users write: columns by their names, every line with its number."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

Lines = list[tuple[int, dict[str, str]]]


def read_table(path: Path, needed: Sequence[str], optional: Sequence[str] = ()) -> Lines:
    """Return the number and the entries of each line, by the names of their columns and without spaces around them.

    Args:
        path: the file.
        needed: its columns, in any order.
        optional: further columns, of which all or none are there.

    Raises:
        ValueError: if it cannot be read or has other columns.
    """
    lines: Lines = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restval="")
            names = [(name or "").strip() for name in reader.fieldnames or ()]
            if sorted(names) not in (sorted(needed), sorted([*needed, *optional])):
                more = f", and may have {' and '.join(optional)}" if optional else ""
                raise ValueError(
                    f"{path} has the columns {', '.join(names) or 'none'}; it needs {' and '.join(needed)}{more}"
                )
            reader.fieldnames = names
            for row in reader:
                if None in row:
                    raise ValueError(
                        f"line {reader.line_num} of {path} has more than {len(names)} entries; quote an entry that "
                        f"holds a comma"
                    )
                if "\0" in "".join(row.values()):
                    raise ValueError(f"line {reader.line_num} of {path} holds a NUL byte; save it as UTF-8")
                lines.append((reader.line_num, {key: value.strip() for key, value in row.items()}))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error}); save it as a CSV file in UTF-8") from error
    return lines
