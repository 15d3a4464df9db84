"""The command that writes the page of a folder of results."""

from __future__ import annotations

from pathlib import Path


def report(folder: str, *, show_names: bool = False, reference: str | None = None) -> Path:
    """Write report.html into a folder of results: pictures, tables and charts in one file that needs no network.

    The folder is that of a prediction, of an evaluation (of a segmentation or a classification) or of a training; what
    it holds of each is shown. The file opens in any browser and can be sent as it is: pictures, style and the viewer
    (NiiVue) are inside. It holds image data: treat it as you treat the images.

    Args:
        folder: the folder of results, in which report.html is written.
        show_names: show what DICOM files and folders are called, and where images are; else such cases have numbers.
        reference: the training_data.json whose volumes are drawn beside those found; that beside the weights if None.

    Returns:
        The page.

    Raises:
        ValueError: if the folder holds no results, or they cannot be read.
        ModuleNotFoundError: if jinja2 is not installed.
    """
    from custom_networks.workflow.report.page.write import write_report

    page = write_report(Path(folder), show_names=show_names, reference=None if reference is None else Path(reference))
    print(f"written: {page} ({page.stat().st_size / 1e6:.1f} MB)")
    return page
