"""The page at the end of a training or an evaluation."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path

logger = logging.getLogger(__name__)


def check_page() -> None:
    """Refuse, before anything is computed, a page that could not be written.

    Raises:
        ValueError: if jinja2, which fills the page, is not installed.
    """
    if find_spec("jinja2") is None:
        raise ValueError("the page needs jinja2; pip install jinja2, or set report to false")


def write_page(output_dir: str | Path) -> None:
    """Write ``report.html`` of what a run has written.

    Args:
        output_dir: the knob of that name.
    """
    from custom_networks.workflow.report.page.write import write_report

    logger.info("wrote %s", write_report(Path(output_dir)))
