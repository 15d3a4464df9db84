"""Pictures of the report page for the documentation."""

from __future__ import annotations

import shutil
from pathlib import Path

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def screenshot(page: str, out: str, *, width: int = 1100, height: int = 1000) -> Path:
    """Save what a browser shows of a page first.

    Args:
        page: HTML file.
        out: PNG file to write.
        width: of the window, in pixels.
        height: of the window, in pixels.

    Raises:
        FileNotFoundError: if there is no such page, or no chromium.
    """
    file, browser = Path(page), shutil.which("chromium")
    if not file.is_file():
        raise FileNotFoundError(f"there is no page {page}; write it with custom_networks report")
    if browser is None:
        raise FileNotFoundError("there is no chromium on the path; install it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=list(FLAGS))
        tab = opened.new_page(viewport={"width": int(width), "height": int(height)}, color_scheme="light")
        tab.goto(file.resolve().as_uri())
        tab.screenshot(path=out)
        opened.close()
    print(f"wrote {out}")
    return Path(out)
