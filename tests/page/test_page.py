"""The page in a real browser: what a reader sees, clicks and types, and that nothing is asked of any network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from custom_networks.workflow.report.page.colours import OKABE_ITO, rgb
from custom_networks.workflow.report.page.write import write_report
from tests.page.folders import record, write_curve, write_evaluation, write_prediction
from tests.synthetic import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# WebGL 2 without a graphics card, and no browser business of its own
ARGUMENTS = [
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDTHS = (360, 800, 1600)

pytestmark = pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no chromium")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    result = folder / "result"
    warning = {"kind": "pieces", "structure": "front", "text": "front has 3 pieces."}
    records = [record(result, f"case {number}") for number in (1, 10, 9)]
    records[1]["warnings"] = [warning]
    records[2]["structures"][0]["volume_ml"] = 12.5
    write_prediction(result, *records)
    return {
        "prediction": write_report(result),
        "evaluation": write_report(write_curve(write_evaluation(folder / "eval"))),
    }


@pytest.fixture
def opened(browser):
    """Return a function that opens a page; at the end, it must have said nothing and asked for nothing."""
    contexts, said, asked = [], [], []

    def open_page(path, width=1000, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file://", "blob:", "data:"))] == []
    assert sum(url.startswith("file://") for url in asked) == len(contexts)


def picture(locator) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def near(pixels: np.ndarray, colour: str, tolerance: int = 30) -> np.ndarray:
    return np.abs(pixels - np.array(rgb(colour))).max(axis=-1) <= tolerance


def open_viewer(page, number: int = 0):
    box = page.locator(".viewer").nth(number)
    box.locator("button.open").click()
    box.locator("canvas").wait_for()
    page.wait_for_function("number => document.querySelectorAll('.viewer')[number].dataset.ready", arg=number)
    return box


def set_slider(box, name: str, value: float) -> None:
    box.get_by_label(name).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def test_the_viewer_shows_the_mask_in_the_colours_of_the_classes(pages, opened):
    page = opened(pages["prediction"])
    box = open_viewer(page)
    canvas = box.locator("canvas")
    set_slider(box, "Prediction, opacity", 1)
    shown = picture(canvas)
    set_slider(box, "Prediction, opacity", 0)
    hidden = picture(canvas)
    for colour in OKABE_ITO[:2]:
        where = near(shown, colour)
        assert where.sum() > 500
        assert near(hidden, colour).sum() < where.sum() / 100
        assert (np.abs(shown - hidden).max(axis=-1)[where] > 20).all()
    elsewhere = ~(near(shown, OKABE_ITO[0], 90) | near(shown, OKABE_ITO[1], 90))
    assert (np.abs(shown - hidden).max(axis=-1)[elsewhere] > 40).mean() < 0.02


def test_the_slices_move_and_the_volume_turns_solid(pages, opened):
    page = opened(pages["prediction"])
    box = open_viewer(page)
    canvas = box.locator("canvas")
    before = picture(canvas)
    set_slider(box, "Slice, back to front", 0.05)
    assert np.abs(picture(canvas) - before).max() > 60
    solid = box.get_by_role("button", name="3D", exact=True)
    solid.click()
    assert solid.get_attribute("aria-pressed") == "true"
    assert near(picture(canvas), OKABE_ITO[0], 60).sum() > 500


def test_one_viewer_is_open_at_a_time_and_it_closes(pages, opened):
    page = opened(pages["prediction"])
    open_viewer(page, 0)
    second = open_viewer(page, 1)
    assert page.locator("canvas").count() == 1
    second.get_by_role("button", name="Close").click()
    assert page.locator("canvas").count() == 0
    assert page.evaluate("document.activeElement.className") == "open"


def test_the_viewer_compares_prediction_and_reference(pages, opened):
    page = opened(pages["evaluation"])
    box = open_viewer(page)  # of the worst case, whose mask is moved
    canvas = box.locator("canvas")
    pictures = []
    for reference in (0, 1):
        set_slider(box, "Reference, opacity", reference)
        set_slider(box, "Prediction, opacity", 1 - reference)
        pictures.append(near(picture(canvas), OKABE_ITO[0]))
    assert min(shown.sum() for shown in pictures) > 500
    assert (pictures[0] != pictures[1]).sum() > 200


def test_without_webgl_a_sentence_says_so(pages, opened):
    page = opened(pages["prediction"])
    page.evaluate("HTMLCanvasElement.prototype.getContext = () => null")
    page.locator("button.open").first.click()
    note = page.locator(".viewer .note")
    note.wait_for()
    assert "The viewer cannot be shown here (the browser has no WebGL 2)" in note.inner_text()


def test_tables_sort_by_number_and_by_name(pages, opened):
    page = opened(pages["prediction"])
    table = page.locator("table").first
    head = table.get_by_role("columnheader", name="front")

    def column(number: int) -> list[str]:
        return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()

    table.get_by_role("button", name="Case").click()
    assert column(1) == ["case 1", "case 9", "case 10"]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(3) == sorted(column(3), key=float)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(3)[0] == "12.50"
    assert table.locator("th[aria-sort]").count() == 1


def test_the_keyboard_is_enough(pages, opened):
    page = opened(pages["prediction"])
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("link => link === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    for _ in range(3):  # past the region that scrolls and the first heading
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Warnings"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    assert page.locator("tbody tr th").first.inner_text() == "case 10"
    page.locator("button.open").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.viewer').dataset.ready")
    before = picture(page.locator("canvas"))
    page.get_by_label("Slice, bottom to top").focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert np.abs(picture(page.locator("canvas")) - before).max() > 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["prediction", "evaluation"])
def test_nothing_sticks_out_and_all_can_be_read(pages, opened, name, scheme):
    for width in WIDTHS:
        page = opened(pages[name], width=width, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    colours = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    text, ground = (np.array([int(part) for part in colour[4:-1].split(",")]) for colour in colours)
    assert bool(text.mean() > ground.mean()) is (scheme == "dark")
    assert abs(text.mean() - ground.mean()) > 150


def test_the_viewer_fits_a_narrow_window(pages, opened):
    page = opened(pages["evaluation"], width=360)
    open_viewer(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_prints_without_the_viewer(pages, opened):
    page = opened(pages["prediction"])
    open_viewer(page)
    page.emulate_media(media="print")
    assert page.locator(".viewer:visible").count() == 0
    assert page.locator(".planes svg:visible").count() == 9
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_maintainer_takes_a_picture_of_it(pages, tmp_path):
    """In a process of its own: this one drives a browser already."""
    file = tmp_path / "page.png"
    command = [sys.executable, "-m", "tools", "screenshot", str(pages["prediction"]), str(file), "--width", "400"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with Image.open(file) as image:
        assert image.size == (400, 1000)
    done = subprocess.run(
        [*command[:4], str(tmp_path / "none.html"), "x.png"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "there is no page" in done.stderr
