"""Where the figures of a measurement go: a JSON file, and a section of a Markdown page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from custom_networks.files import write_text


def check_section(markdown: str | None, section: str) -> None:
    """Refuse a page without the section, before anything is measured.

    Args:
        markdown: Markdown file; nothing is looked at if None.
        section: the name in the comments around the section.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the name is none, or its two comments are not there once each, in order.
    """
    start, end = markers(section)
    if markdown is not None:
        read_page(Path(markdown), start, end)


def publish(report: dict[str, Any], text: str, output: str, markdown: str | None, section: str) -> None:
    """Print a table and write its report, and the table into the section of a page.

    Args:
        report: the figures.
        text: the table, in Markdown.
        output: JSON file for the report.
        markdown: Markdown file; none is written if None.
        section: the name in the comments around the section.

    Raises:
        FileNotFoundError: if the Markdown file does not exist any more.
        ValueError: if its section does not.
    """
    print(f"\n{text}")
    write_text(Path(output), json.dumps(report, indent=2) + "\n")
    if markdown is not None:
        start, end = markers(section)
        before, after = read_page(Path(markdown), start, end)  # anew: the page may have been edited meanwhile
        write_text(Path(markdown), f"{before}{start}\n\n{text}\n\n{end}{after}")
    print("\nwritten: " + ", ".join(filter(None, [output, markdown])))


def markers(section: str) -> tuple[str, str]:
    """Return the two comments between which the table of a section stands.

    Args:
        section: letters, digits, ``_`` and ``-``.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> markers("bench")
        ('<!-- bench:start -->', '<!-- bench:end -->')
    """
    if not re.fullmatch(r"[\w-]+", str(section), re.ASCII):
        raise ValueError(f"section must be letters, digits, _ and -, got {section!r}; use for example attention_unet")
    return f"<!-- {section}:start -->", f"<!-- {section}:end -->"


def read_page(file: Path, start: str, end: str) -> tuple[str, str]:
    """Return what stands before and after the marked part of a Markdown file.

    Args:
        file: the Markdown file.
        start: the comment before the part.
        end: the comment after it.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the two comments are not there once each, in order.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; create it with the lines {start} and {end}")
    text = file.read_text()
    if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
        raise ValueError(f"{file} must hold {start} and then {end} once each; add the two lines where the table goes")
    return text[: text.index(start)], text[text.index(end) + len(end) :]
