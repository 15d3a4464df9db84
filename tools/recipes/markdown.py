"""What the READMEs of all bundles are written with: tables, spreads, templates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

from tools.recipes.bundle import Bundle
from tools.recipes.optimizer import describe_optimizer
from tools.recipes.removal import Record

CLONE_START, CLONE_END = "<!-- clone:start -->", "<!-- clone:end -->"


def format_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a table.

    Args:
        heads: headings of the columns.
        rows: the cells, as many per row as headings.

    Example:
        >>> format_table(["class", "cases"], [["a", 3]])
        ['| class | cases |', '|---|---|', '| a | 3 |']
    """
    return [
        f"| {' | '.join(heads)} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows),
    ]


def format_spread(values: Sequence[float], digits: int = 4) -> str:
    """Return mean and sample standard deviation of a list of numbers.

    Args:
        values: the numbers.
        digits: digits after the point.

    Example:
        >>> format_spread([0.5, 0.7], 2)
        '0.60 ± 0.14'
    """
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"


def join_paragraphs(*texts: str) -> str:
    """Join the texts that are not empty by blank lines.

    Args:
        texts: Markdown.
    """
    return "\n\n".join(text for text in texts if text)


def keep_in_a_clone(*lines: str) -> list[str]:
    """Return lines that :func:`drop_clone` takes out: what needs the repository is of no use beside a packed bundle.

    Args:
        lines: Markdown.
    """
    return [CLONE_START, "", *lines, "", CLONE_END]


def drop_clone(text: str) -> str:
    r"""Return a README without what is of use in a clone of the repository only.

    Args:
        text: Markdown.

    Example:
        >>> drop_clone("\n".join(["one", "", *keep_in_a_clone("two"), "", "three"]))
        'one\n\nthree'
    """
    return re.sub(rf"(?:\n*{CLONE_START}.*?{CLONE_END}\n*)+", "\n\n", text, flags=re.DOTALL)


def fill_template(template: Path, fields: Mapping[str, object]) -> str:
    """Return a template with its ``{{ name }}`` replaced.

    Args:
        template: the Markdown file.
        fields: text by name.
    """
    text = template.read_text()
    for key, value in fields.items():
        text = text.replace("{{ " + key + " }}", str(value))
    return text


def collect_fields(bundle: Bundle, record: Record | None) -> dict[str, object]:
    """Return the fields of a README that every recipe fills in the same way.

    Args:
        bundle: the specification.
        record: the run file of the shipped weights, or ``None``.
    """
    named = ("task", "intended_use", "data_source", "image_classes", "label_classes")
    return {
        **{name: bundle.metadata[name] for name in named},
        **{name: bundle.knobs[name] for name in ("batch_size", "val_interval")},
        "title": bundle.title,
        "summary": bundle.summary,
        "name": bundle.name,
        "network": bundle.network["_target_"],
        "optimizer": describe_optimizer(bundle),
        "expected": bundle.expected,
        "weights_license": bundle.weights_license.upper(),
        "patch": " x ".join(str(n) for n in bundle.knobs["patch_size"]),
        "spacing": " x ".join(f"{n:g}" for n in bundle.knobs["spacing"]),
        "parameters": f"{record['parameters']:,}" if record else "not counted yet",
        "macs": f"{record['macs'] / 1e9:.2f}" if record else "not counted yet",
        "profiles": "\n".join(f"- `{name}.json`: `{json.dumps(values)}`" for name, values in bundle.profiles.items()),
        "references": "\n".join(f"- {reference}" for reference in bundle.metadata["references"]),
    }


def describe_training_time(record: Record) -> str:
    """Return how long a training took, and on what.

    Args:
        record: its run file.
    """
    machine = record["machine"]
    where = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''} of {machine['device']}"
    on_gpu = "" if "NVIDIA" in machine["device"] else " Not measured on a GPU."
    return f"{record['epochs']} epochs took {record['train_seconds'] / 60:.1f} minutes on {where}.{on_gpu}"
