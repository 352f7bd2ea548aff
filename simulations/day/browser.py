"""A radiologist at the page, in Chromium: what she does there, and what she sees."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from client.data.preprocessing import Box
from shared_model.errors import FederatedMammographyError
from shared_model.vocabulary import View

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SECONDS = 60.0
_WIDTH, _HEIGHT = 1280, 1100
_PARTS = ("x", "y", "width", "height")


class PageError(FederatedMammographyError):
    """The page does not show what somebody waits for."""


def missing() -> str:
    """Return what this machine lacks, in one line; empty if nothing."""
    if chromium() is None:
        return "Chromium is not installed: apt-get install chromium"
    return (
        "" if find_spec("playwright") is not None else "playwright is not installed: pip install playwright (extra day)"
    )


def chromium() -> str | None:
    """Return the path of Chromium; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A reading as the page shows it."""

    title: str
    """``Reading``, ``Abstained`` or ``Refused``."""
    reading: str
    """Its number."""
    text: str
    """All that is said of it."""
    summary: str
    """What it comes to, in one line."""


@dataclass(frozen=True, kw_only=True)
class Radiologist:
    """One person at one page."""

    page: "Page"
    address: str
    troubles: list[str]
    """What the browser's console complained of."""

    def patients(self) -> frozenset[str]:
        """Open the work list and return whose studies are on it, once all files have been looked at."""
        self.page.goto(self.address)
        self.page.locator("[data-unread='0']").wait_for(state="attached")
        return frozenset(self.page.locator("tr[data-patient] th a").all_inner_texts())

    def row(self, patient: str) -> str:
        """Return what the work list says of a patient."""
        self.patients()
        return " ".join(self.page.locator(f"tr[data-patient='{patient.lower()}']").inner_text().split())

    def open_study(self, patient: str) -> None:
        """Open the newest study of a patient."""
        self.patients()
        self.page.get_by_role("link", name=patient, exact=True).first.click()
        self.page.locator("#lesion").wait_for()

    def problem(self, patient: str) -> str:
        """Open a study that cannot be read, and return why the page says so."""
        self.open_study(patient)
        return " ".join(self.page.locator(".notice.bad").first.inner_text().split())

    def read(self, patient: str, boxes: Mapping[View, Box], columns: Mapping[str, str]) -> Shown:
        """Mark the lesion by numbers on each film, fill in the columns that the page asks for, and have it read."""
        self.open_study(patient)
        for view, box in boxes.items():
            panel = f"[data-view={view}]"
            self.page.locator(f"{panel} .stage[data-ready]").wait_for()
            for part in _PARTS:
                self.page.locator(f"{panel} [data-part={part}]").fill(str(getattr(box, part)))
            self.page.locator(f"{panel} [data-part=height]").press("Tab")
        for name, value in columns.items():
            field = self.page.locator(f"select[data-column={name}]")
            if field.count():
                field.select_option(value)
        self.page.get_by_role("button", name="Read this lesion").click()
        self.page.locator("#reading-title").wait_for()
        shown, title = self.page.locator("#reading"), self.page.locator("#reading-title").inner_text()
        reasons = shown.locator(".figure, .call, .why li, .cautions li:first-child").all_inner_texts()
        return Shown(
            title=title,
            summary=" ".join(f"{title}: {' '.join(reasons)}".split()),
            reading=str(shown.locator("[data-reading]").first.get_attribute("data-reading")),
            text=" ".join(shown.inner_text().split()),
        )

    def agree(self, why: str) -> str:
        """Say that she agrees with the reading that is shown, and return what the page answers."""
        self.page.get_by_label("Agree", exact=True).check()
        self.page.get_by_label("Why").fill(why)
        self.page.get_by_role("button", name="Keep this opinion").click()
        kept = self.page.locator("#kept:not(:empty)")
        kept.wait_for()
        return kept.inner_text()

    def picture(self, path: Path) -> None:
        """Keep a picture of a reading beside its films."""
        self.page.evaluate("scrollTo(0, 0)")
        self.page.screenshot(path=path)


@contextmanager
def radiologist(address: str) -> Iterator[Radiologist]:
    """Open Chromium at the page's address.

    Raises:
        PageError: the page does not show what somebody waits for.
    """
    from playwright.sync_api import Error, sync_playwright  # noqa: PLC0415, of developers alone

    options = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        try:
            context = browser.new_context(viewport={"width": _WIDTH, "height": _HEIGHT})
            context.set_default_timeout(1000 * _SECONDS)
            page = context.new_page()
            troubles: list[str] = []
            page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: troubles.append(str(error)))
            yield Radiologist(page=page, address=address, troubles=troubles)
        except Error as error:
            said = " ".join(str(error).split())
            raise PageError(f"Expected the page to show what the day asks for: {said}") from error
        finally:
            browser.close()
