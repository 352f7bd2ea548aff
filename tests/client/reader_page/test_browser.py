"""The page in Chromium: marked by mouse, by numbers and by keys, read, thought of; on two screens and in the dark."""

import dataclasses
import os
import re
import socket
import sqlite3
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from client.data.preprocessing import Box
from client.reader_page.application import reader_page
from client.reader_page.desk import Desk
from client.reader_page.kept import Known, Verdict
from client.reader_page.serving import Listening, access_to, address_of
from client.reading.request import LesionRequest, Picture
from simulations.day.browser import chromium
from tests.reader_room import room_in

CHROMIUM = chromium()
SECONDS = 60
"""A page that is not there by then never comes: the machine may be busy."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]


@contextmanager
def served(site, desk):
    heard = socket.create_server(("127.0.0.1", 0))
    listening = Listening(host="127.0.0.1", port=heard.getsockname()[1])
    access = access_to(site, listening)
    config = uvicorn.Config(reader_page(desk, access), log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [heard]})
    thread.start()
    try:
        yield address_of(listening, access)
    finally:
        server.should_exit = True
        thread.join()
        heard.close()


@pytest.fixture(scope="module")
def address(room):
    with served(room.site, Desk(room.site, room.reader)) as found:
        yield found


@pytest.fixture(scope="module")
def followed_up(tmp_path_factory):
    """A hospital whose outcomes of sixty other patients are known, and that recalibrates."""
    section = {"outcomes": 40, "outcomes_for_slope": 200}
    room = room_in(tmp_path_factory.mktemp("followed"), has_public=True, recalibration=section)
    desk = Desk(room.site, room.reader)
    x, y, width, height = room.boxes["CC"]
    picture = Picture(path=room.films / "leftCC.dcm", box=Box(x=x, y=y, width=width, height=height))
    first = room.reader.read(LesionRequest(pictures=(picture,)))
    for number in range(60):
        reading = dataclasses.replace(first, reading_id=f"{number:032x}")
        desk.kept.add(reading, study="elsewhere", patient=f"other {number}", user="ada")
        desk.kept.add_pathology(reading.reading_id, Known.MALIGNANT if number % 4 else Known.BENIGN, user="ada")
        desk.kept.add_opinion(reading.reading_id, Verdict.AGREE if number % 3 else Verdict.DISAGREE, "", user="ada")
    with sqlite3.connect(room.site.opinions) as connection:
        connection.execute("INSERT INTO readings VALUES ('later', 's', 'p', 't', 'u', '{\"schema_version\": 99}')")
    connection.close()
    with served(room.site, desk) as found:
        yield dataclasses.replace(room, reader=first), found


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

    def open_page(*, width=1280, scheme="light", at=None):
        context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(1000 * SECONDS)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.goto(at or address)
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


_REDNESS = """c => {
  const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
  let red = 0;
  for (let i = 0; i < data.length; i += 4) red += data[i] > data[i + 2] + 8;
  return red;
}"""


def redness(page, view="CC"):
    return page.locator(f"[data-view={view}] canvas").evaluate(_REDNESS)


def wait_for_redness(page, condition):
    page.wait_for_function(
        f"() => {{ const red = ({_REDNESS})(document.querySelector('[data-view=CC] canvas')); return {condition}; }}"
    )


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_map_is_laid_over_the_film_that_was_read(opened, room, width, scheme):
    page = opened(width=width, scheme=scheme)
    open_study(page)
    assert not page.locator("#maptools").is_visible()
    mark_by_numbers(page, room.boxes)
    read_lesion(page)
    assert redness(page) == 0, "not before somebody asks for it"
    page.get_by_label("Map: a hint, no evidence").check()
    wait_for_redness(page, "red > 50")
    strong = redness(page)
    assert "a hint, no evidence" in page.locator("[data-view=CC] .over").inner_text()
    require_accessible(page)
    require_no_sideways_scrolling(page)
    page.get_by_label("Opacity").fill("10")
    wait_for_redness(page, f"red < {strong}")
    page.get_by_label("Opacity").fill("70")
    canvas = page.locator("[data-view=CC] canvas")
    canvas.press("m")
    wait_for_redness(page, "red === 0")
    assert not page.get_by_label("Map: a hint, no evidence").is_checked()
    canvas.press("m")
    wait_for_redness(page, "red > 50")
    page.locator("#status").get_by_text("Map shown: a hint, no evidence.").wait_for()


def test_the_map_is_where_the_lesion_is(opened, room):
    """It covers the square that the network saw round the box, on a film whose breast is drawn to the right too."""
    page = opened()
    open_study(page)
    page.get_by_role("link", name="Right").click()
    page.locator("[data-view=CC] .stage[data-ready]").wait_for()
    x, y, width, height = room.boxes["CC"]
    columns = int(re.findall(r"\d+", page.locator("[data-view=CC] .over").inner_text())[0])
    box = (columns - x - width, y, width, height)
    mark_by_numbers(page, {"CC": box})
    read_lesion(page)
    assert page.locator("#reading-title").inner_text() == "Reading"
    page.get_by_label("Map: a hint, no evidence").check()
    wait_for_redness(page, "red > 50")
    place = page.locator("[data-view=CC] canvas").evaluate("""c => {
      const data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
      const found = [];
      for (let i = 0; i < data.length / 4; i += 1) {
        if (data[4 * i] > data[4 * i + 2] + 8) found.push([i % c.width, Math.floor(i / c.width)]);
      }
      return [Math.min(...found.map(p => p[0])), Math.max(...found.map(p => p[0])),
              Math.min(...found.map(p => p[1])), Math.max(...found.map(p => p[1])), c.width, c.height];
    }""")
    left, right, top, bottom, canvas_width, canvas_height = place
    rows = int(re.findall(r"\d+", page.locator("[data-view=CC] .over").inner_text())[1])
    zoom = min(canvas_width / columns, canvas_height / rows)
    middle_x = canvas_width / 2 + (box[0] + width / 2 - columns / 2) * zoom
    middle_y = canvas_height / 2 + (y + height / 2 - rows / 2) * zoom
    half = max(width, height) * zoom
    assert middle_x - half <= left <= right <= middle_x + half
    assert middle_y - half <= top <= bottom <= middle_y + half


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_second_number_stands_beside_the_release_s_own(opened, followed_up, width, scheme):
    room, address = followed_up
    page = opened(width=width, scheme=scheme, at=address)
    open_study(page)
    mark_by_numbers(page, {"CC": room.boxes["CC"]})
    read_lesion(page)
    text = page.locator("#reading").inner_text()
    assert "At this site, by 60 outcomes kept here (45 malignant)" in text
    assert "local probability" in text
    assert "does not rest on this" in text
    own, local = (float(found) for found in re.findall(r"([0-9.]+) %\s+(?:probability of|local)", text))
    assert local == pytest.approx(74, abs=2), "the share of malignant among the outcomes of this very score"
    assert own == pytest.approx(100 * room.reader.answer.probability, abs=0.06)
    require_accessible(page)
    require_no_sideways_scrolling(page)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_drift_is_told_with_its_interval(opened, followed_up, width, scheme):
    _, address = followed_up
    page = opened(width=width, scheme=scheme, at=address)
    page.get_by_role("link", name="This site since the release").click()
    page.get_by_role("heading", name="Have the grey levels moved?").wait_for()
    text = page.locator("main").inner_text()
    for words in ("too few readings: at least 30", "has moved", "Turned out malignant", "not shown", "not fitted"):
        assert words in text
    require_accessible(page)
    require_no_sideways_scrolling(page)
