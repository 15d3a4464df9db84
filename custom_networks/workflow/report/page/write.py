"""Put a page together and write it."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from custom_networks.files import read_json, write_text
from custom_networks.workflow.report.page.classification import PREDICTIONS, read_classification
from custom_networks.workflow.report.page.evaluation import FIRST, read_evaluation
from custom_networks.workflow.report.page.pictures import Album
from custom_networks.workflow.report.page.prediction import VOLUMES, read_prediction
from custom_networks.workflow.report.page.training import CURVE, training_curve

ASSETS = Path(__file__).parent / "assets"
NIIVUE = "niivue.umd.js"
LICENSES = "NIIVUE_LICENSES.txt"
MAPS = ("attention_map*.png", "attention_maps/*.png")
METRICS_FILE = "metrics.json"
PAGE = "report.html"


def write_report(
    folder: Path,
    *,
    show_names: bool = False,
    reference: Path | None = None,
    unpacked: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Write ``report.html`` into a folder of results and return it.

    It shows what the folder holds of these: ``volumes.json`` and masks of a prediction, ``metrics.json`` of an
    evaluation with ``metrics.csv`` or ``predictions.csv``, the ``training_curve.csv`` of a training, and pictures of
    attention maps, ``attention_map*.png`` or any in ``attention_maps``. Its content security policy forbids the
    browser to load anything from elsewhere.

    Args:
        folder: the folder.
        show_names: whether to show what DICOM files and folders are called, and where the images are.
        reference: the ``training_data.json`` to compare volumes with; that beside the weights if None.
        unpacked: the files of images of a prediction that come from archives, by their case.

    Raises:
        FileNotFoundError: if one of two files that belong together is missing, or ``reference``.
        ValueError: if the folder holds none of them, or they cannot be read.
    """
    results = _results(folder, show_names, reference, unpacked or {})
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    has_viewer = any(pictures.viewer for pictures in _pictures(results))
    text = environment.get_template("page.html.j2").render(
        **results,
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        niivue=_packed(ASSETS / NIIVUE) if has_viewer else "",
        licenses=(ASSETS / LICENSES).read_text(encoding="utf-8") if has_viewer else "",
        open_metrics=FIRST,
    )
    write_text(folder / PAGE, text)
    return folder / PAGE


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for a table, the word none where there is none.

    Args:
        value: the number.
        digits: after the point.

    Example:
        >>> number(0.12345), number(float("nan"))
        ('0.123', 'none')
    """
    return "none" if value is None or value != value else f"{value:.{digits}f}"


def _results(
    folder: Path, show_names: bool, reference: Path | None, unpacked: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give that of a prediction, an evaluation or a training")
    album = Album()
    summary = read_json(folder / METRICS_FILE) if (folder / METRICS_FILE).is_file() else {}
    evaluation = read_evaluation(folder, summary, album, show_names) if "classes" in summary else None
    classification = None
    if "confusion" in summary or (folder / PREDICTIONS).is_file():
        classification = read_classification(folder, summary)
    prediction = None
    if (folder / VOLUMES).is_file():
        prediction = read_prediction(folder, album, show_names, reference, unpacked)
    curve = training_curve(folder / CURVE)
    if summary and evaluation is None and classification is None:
        raise ValueError(f"{folder / METRICS_FILE} is not what an evaluation writes; evaluate again")
    if evaluation is None and classification is None and prediction is None and curve is None:
        raise ValueError(
            f"{folder} holds no results ({VOLUMES}, {METRICS_FILE}, {PREDICTIONS} or {CURVE}); give the folder that "
            "predict, an evaluation or a training has written to"
        )
    hides_names = any(part is not None and part.hides_names for part in (evaluation, prediction))
    maps, maps_note = _maps(folder, hides_names)
    return {
        "evaluation": evaluation,
        "classification": classification,
        "prediction": prediction,
        "curve": curve,
        "maps": maps,
        "maps_note": maps_note,
        "hides_names": hides_names,
    }


def _pictures(results: dict[str, Any]) -> list[Any]:
    evaluation, prediction = results["evaluation"], results["prediction"]
    found = [case.pictures for case in evaluation.chosen] if evaluation else []
    return found + ([case.pictures for case in prediction.cases] if prediction else [])


def _maps(folder: Path, hides_names: bool) -> tuple[list[tuple[str, str]], str]:
    """Return the pictures of attention maps, name and content, and why there are none."""
    files = sorted(path for pattern in MAPS for path in folder.glob(pattern))
    if files and hides_names:
        return [], "The pictures of attention maps are left out: they say what a DICOM image is called."
    return [(path.stem, base64.b64encode(path.read_bytes()).decode()) for path in files], ""


def _packed(file: Path) -> str:
    return base64.b64encode(gzip.compress(file.read_bytes(), 9, mtime=0)).decode()
