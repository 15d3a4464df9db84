"""The part of a bundle's README about its exports, from a stored run file."""

from __future__ import annotations

import json
from pathlib import Path

from tools.recipes.bundle import Bundle
from tools.recipes.markdown import format_table, keep_in_a_clone

RECORD = "docs/runs/exports.json"
FORMATS = {".ts": "TorchScript", ".pt2": "`torch.export`", ".onnx": "ONNX"}


def describe_exports(bundle: Bundle, folder: Path) -> str:
    """Return the command, and the table of differences from PyTorch where there is a record.

    Args:
        bundle: the specification.
        folder: the bundle's folder.
    """
    command = f"python -m tools export {bundle.name}"
    text = keep_in_a_clone("In a clone of the repository:", "", "```bash", command, "```")
    path = folder / RECORD
    if not path.is_file():
        return "\n".join([*text, "", "Not measured yet."])
    record = json.loads(path.read_text())
    sizes = [" x ".join(map(str, size)) for size in record["sizes"]]
    rows = [
        [FORMATS[suffix], f"`models/model{suffix}`", *(f"{value:.1e}" if value else "0" for value in differences)]
        for suffix, differences in record["differences"].items()
    ]
    sentence = (
        f"The largest absolute difference of an output from PyTorch's (the largest output is "
        f"{record['largest_output']:.1f}), one sample of the first size and two of the second, float32 on a CPU:"
    )
    return "\n".join([*text, "", sentence, "", *format_table(["format", "file", *sizes], rows)])
