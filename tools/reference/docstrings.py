"""The docstrings of the package as Markdown."""

from __future__ import annotations

import inspect
import re
import textwrap

FORMULA = ".. math::"
SECTIONS = ("Args", "Shape", "Raises", "Example", "Cost", "References", "Returns")
DIFFERENCES = "Differs from the paper:"
ITEM = re.compile(r"^(?=(?:-|\d+\.) )", re.MULTILINE)


def split(thing: object) -> dict[str, str]:
    """Return the parts of a docstring in Markdown, by name.

    The parts are ``summary`` (its first sentence), ``formula``, ``text``, ``differences`` (from the paper) and
    those of the sections that it has.

    Args:
        thing: a class or function.

    Raises:
        ValueError: if it has no docstring.
    """
    docstring = inspect.getdoc(thing)
    if not docstring:
        raise ValueError(f"{getattr(thing, '__qualname__', thing)} has no docstring; write one")
    pieces = re.split(rf"^({'|'.join(SECTIONS)}):\n", docstring, flags=re.MULTILINE)
    parts = {name: textwrap.dedent(body).strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    summary, _, rest = pieces[0].strip().partition("\n\n")
    if rest.startswith(FORMULA):
        block, _, rest = rest.partition("\n\n")
        parts["formula"] = displayed(block)
    text, _, differences = rest.partition(DIFFERENCES)
    parts |= {"summary": paragraph(summary), "text": prose(text), "differences": capitalised(prose(differences))}
    return parts


def displayed(block: str) -> str:
    """Return a formula that stands by itself in Markdown, each of its rows as one of its own.

    Args:
        block: the directive, whose rows end with two backslashes and may be aligned at ampersands.
    """
    rows = re.split(r"\\\\(?=\s)", block.removeprefix(FORMULA))
    lines = ("\n".join(line.strip() for line in row.replace("&", "").strip().splitlines()) for row in rows)
    return "\n\n".join(f"```math\n{row}\n```" for row in lines)


def capitalised(text: str) -> str:
    """Return a text with its first letter in upper case.

    Args:
        text: any text.
    """
    return text[:1].upper() + text[1:]


def paragraph(text: str) -> str:
    """Return one paragraph in Markdown: its inline code, formulas, and addresses as links.

    Args:
        text: reStructuredText without blank lines.
    """
    text = " ".join(text.split())
    text = re.sub(r":math:`([^`]*)`", r"$`\1`$", text)
    text = re.sub(r"``([^`]*)``", r"`\1`", text)
    text = re.sub(r":\w+:`~(?:[^`]*\.)?([^`.]*)`", r"`\1`", text)
    text = re.sub(r":\w+:`([^`]*)`", r"`\1`", text)
    text = re.sub(r"(https?://[^\s<>]*[^\s<>.,;)])", r"<\1>", text)
    text = re.sub(r"\barXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return re.sub(r"\bdoi:(\S*[^\s.,;)])", r"[doi:\1](https://doi.org/\1)", text)


def prose(text: str) -> str:
    """Return paragraphs, formulas and literal blocks in Markdown.

    Args:
        text: reStructuredText.
    """
    lines: list[str] = []
    blocks = re.split(r"\n\n", text.strip("\n"))
    for block in (own for own in blocks if own.strip() not in ("", "::")):
        if block.startswith(FORMULA):
            lines.append(displayed(block))
        elif block.startswith("    "):
            lines += ["```text", textwrap.dedent(block), "```"]
        elif ITEM.match(block):
            lines += [paragraph(item) for item in ITEM.split(block) if item.strip()]
        else:
            lines.append(re.sub(r"::$", ":", paragraph(block)))
        lines.append("")
    return "\n".join(lines).strip()


def arguments(text: str) -> dict[str, str]:
    """Return the descriptions in an ``Args`` section by name, in Markdown for the cells of a table.

    Args:
        text: the section, not indented.
    """
    entries = re.split(r"^(\*{0,2}\w+): ", text, flags=re.MULTILINE)
    return {name: paragraph(body).replace("|", "\\|") for name, body in zip(entries[1::2], entries[2::2], strict=True)}
