"""The page in Chromium: marked by mouse, by numbers and by keys, read, thought of; on two screens and in the dark."""

import os
import re
import socket
import threading

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from client.reader_page.application import reader_page
from client.reader_page.desk import Desk
from client.reader_page.serving import Listening, access_to, address_of
from simulations.day.browser import chromium

CHROMIUM = chromium()
SECONDS = 60
"""A page that is not there by then never comes: the machine may be busy."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@pytest.fixture(scope="module")
def address(room):
    heard = socket.create_server(("127.0.0.1", 0))
    listening = Listening(host="127.0.0.1", port=heard.getsockname()[1])
    access = access_to(room.site, listening)
    config = uvicorn.Config(reader_page(Desk(room.site, room.reader), access), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [heard]})
    thread.start()
    yield address_of(listening, access)
    server.should_exit = True
    thread.join()
    heard.close()


@pytest.fixture(scope="module")
def browser():
    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture
def opened(browser, address):
    """Open the page of a size and colour scheme; no script may fail, and nothing break the content security policy."""
    contexts, troubles = [], []

    def open_page(*, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(1000 * SECONDS)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def open_study(page, patient="PH-0001"):
    page.get_by_role("link", name=patient).click()
    for panel in page.locator(".film").all():
        if panel.locator("canvas").count():
            panel.locator(".stage[data-ready]").wait_for()


def box_of(page, view):
    parts = ("x", "y", "width", "height")
    return tuple(int(page.locator(f"[data-view={view}] [data-part={part}]").input_value()) for part in parts)


def mark_by_numbers(page, boxes):
    for view, box in boxes.items():
        for part, value in zip(("x", "y", "width", "height"), box, strict=True):
            page.locator(f"[data-view={view}] [data-part={part}]").fill(str(value))
        page.locator(f"[data-view={view}] [data-part=height]").press("Tab")


def read_lesion(page):
    page.get_by_role("button", name="Read this lesion").click()
    page.locator("#reading-title").wait_for()


def require_accessible(page):
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []


def require_no_sideways_scrolling(page):
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wider) <= 0


def test_mark_by_mouse_lies_where_it_was_drawn(opened, room):
    page = opened()
    open_study(page)
    canvas = page.locator("[data-view=CC] canvas")
    place = canvas.bounding_box()
    columns, rows = (
        int(number) for number in re.findall(r"\d+", page.locator("[data-view=CC] .over").inner_text())[:2]
    )
    zoom = min(place["width"] / columns, place["height"] / rows)
    left = place["x"] + (place["width"] - columns * zoom) / 2
    top = place["y"] + (place["height"] - rows * zoom) / 2
    x, y, width, height = room.boxes["CC"]
    page.mouse.move(left + x * zoom, top + y * zoom)
    page.mouse.down()
    page.mouse.move(left + (x + width) * zoom, top + (y + height) * zoom, steps=4)
    page.mouse.up()
    assert box_of(page, "CC") == pytest.approx((x, y, width, height), abs=2 / zoom)
    read_lesion(page)
    assert "probability of malignancy" in page.locator("#reading").inner_text()
    assert "One view of two" in page.locator("#reading").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_read_by_numbers_and_think_of_it(opened, room, width, scheme):
    page = opened(width=width, scheme=scheme)
    page.locator("#status").get_by_text("studies").wait_for()
    require_accessible(page)
    require_no_sideways_scrolling(page)
    open_study(page)
    require_accessible(page)
    mark_by_numbers(page, room.boxes)
    page.locator("#lesion summary").first.click()
    page.get_by_label("irregular").check()
    assert page.locator("[data-of=mass_shape]").inner_text() == "irregular"
    read_lesion(page)
    text = page.locator("#reading").inner_text()
    for words in ("probability of malignancy", "95 % interval", "Band:", "threshold", "When not to trust this", "hint"):
        assert words in text
    assert "mass shape: irregular" in text
    assert page.locator(".research").is_visible()
    for image in page.locator(".stack img").all():
        assert image.evaluate("image => image.complete && image.naturalWidth > 0")
    require_accessible(page)
    require_no_sideways_scrolling(page)
    page.get_by_label("Disagree").check()
    page.get_by_label("Why").fill(f"It was there before, {width} {scheme}.")
    page.get_by_role("button", name="Keep this opinion").click()
    page.locator("#kept").get_by_text("Kept at this site.").wait_for()
    page.locator("#earlier").get_by_text(f"It was there before, {width} {scheme}.").wait_for()


def tab_to(page, what):
    """Press Tab until ``what``, an expression of the focused element ``e``, holds."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate(f"(e => {what})(document.activeElement)"):
            return
    pytest.fail(f"no Tab leads to {what}")


def test_the_keyboard_is_enough(opened):
    page = opened()
    page.locator("#status").get_by_text("studies").wait_for()
    tab_to(page, "e.textContent === 'Skip to the content'")
    page.keyboard.press("Enter")
    tab_to(page, "e.textContent === 'PH-0001'")
    page.keyboard.press("Enter")
    page.locator("[data-view=CC] .stage[data-ready]").wait_for()
    tab_to(page, "e.tagName === 'CANVAS'")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    x, y, width, height = box_of(page, "CC")
    page.keyboard.press("Control+ArrowLeft")
    page.keyboard.press("Control+ArrowUp")
    assert box_of(page, "CC") == (x - 1, y - 1, width, height)
    page.keyboard.press("Control+Shift+ArrowRight")
    page.keyboard.press("Control+Shift+ArrowUp")
    assert box_of(page, "CC") == (x - 1, y - 1, width + 1, height - 1)
    before = page.locator("[data-view=CC] .over").inner_text()
    page.keyboard.press("+")
    page.wait_for_function("text => document.querySelector('[data-view=CC] .over').textContent !== text", arg=before)
    tab_to(page, "e.id === 'read'")
    page.keyboard.press("Enter")
    page.locator("#reading-title").wait_for()
    page.wait_for_function("document.activeElement.id === 'reading-title'")
    tab_to(page, "e.name === 'verdict'")
    page.keyboard.press("Space")
    tab_to(page, "e.textContent === 'Keep this opinion'")
    page.keyboard.press("Enter")
    page.locator("#kept").get_by_text("Kept at this site.").wait_for()


def test_nothing_marked_is_said_and_not_asked(opened):
    page = opened()
    open_study(page, "PH-0002")
    page.get_by_role("button", name="Read this lesion").click()
    page.get_by_text("Mark the lesion on at least one film.").wait_for()
    assert page.get_by_text("No MLO film of this breast.").is_visible()


def test_a_box_beside_the_breast_is_refused_on_the_page(opened):
    page = opened()
    open_study(page, "PH-0002")
    mark_by_numbers(page, {"CC": (1090, 20, 50, 50)})
    read_lesion(page)
    assert page.locator("#reading-title").inner_text() == "Refused"
    require_accessible(page)


def test_a_reading_says_when_it_is_of_another_mark(opened, room):
    page = opened()
    open_study(page)
    mark_by_numbers(page, room.boxes)
    read_lesion(page)
    assert not page.locator("#stale").is_visible()
    page.locator("[data-view=CC] canvas").press("ArrowLeft")
    assert page.locator("#stale").is_visible()
    read_lesion(page)
    page.locator("#stale").wait_for(state="hidden")
    page.get_by_label("Breast density").select_option("3")
    assert page.locator("#stale").is_visible()


_HOLD_ANSWERS = """() => {
  const ask = window.fetch;
  const released = new Promise((release) => { window.release = release; });
  window.fetch = async (...asked) => { const answer = await ask(...asked); await released; return answer; };
}"""


def test_a_mark_that_is_moved_while_it_is_read_makes_the_reading_stale(opened, room):
    page = opened()
    open_study(page)
    mark_by_numbers(page, room.boxes)
    page.evaluate(_HOLD_ANSWERS)
    page.locator("#read").click()
    page.locator("[data-view=CC] canvas").press("ArrowLeft")
    page.evaluate("window.release()")
    page.locator("#stale").wait_for()
    assert page.locator("#stale").is_visible()


def test_window_and_zoom_change_what_is_seen(opened):
    page = opened()
    open_study(page)
    canvas = page.locator("[data-view=CC] canvas")
    seen = "c => c.getContext('2d').getImageData(c.width / 4, c.height / 2, 20, 20).data.reduce((a, b) => a + b)"
    shown = f"({seen})(document.querySelector('[data-view=CC] canvas'))"
    before = canvas.evaluate(seen)
    page.locator("#level").fill("800")
    page.wait_for_function(f"before => {shown} > before", arg=before)
    with page.expect_response(lambda answer: "step=1" in answer.url and "/films/" in answer.url):
        canvas.hover()
        page.mouse.wheel(0, -900)
    page.get_by_role("button", name="Reset view").click()
    page.wait_for_function(f"before => {shown} === before", arg=before)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_site_since_the_release(opened, width):
    page = opened(width=width)
    page.get_by_role("link", name="This site since the release").click()
    page.get_by_role("heading", name="Scores").wait_for()
    require_accessible(page)
    require_no_sideways_scrolling(page)


def test_the_list_is_searched_by_patient(opened):
    page = opened()
    page.get_by_label("Patient").fill("0002")
    page.get_by_text("1 study found").wait_for()
    assert not page.get_by_role("link", name="PH-0001").is_visible()
