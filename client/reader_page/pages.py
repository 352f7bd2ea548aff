"""The page's HTML, from templates; whatever a film or doctor has written is escaped."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache

from jinja2 import Environment

from client.reader_page.asked import MAX_WHY
from client.reader_page.desk import Desk, ShownMap
from client.reader_page.kept import NOT_SHOWN, Found, KeptReading, Known, Verdict
from client.reader_page.since_release import P_VALUE_LIMIT, SinceRelease
from client.reader_page.work_list import Film, Listed, Study
from client.reading.result import Answer
from shared_model.metrics.drift import MIN_CASES
from shared_model.metrics.recalibration import MIN_PER_CLASS
from shared_model.release.document import ColumnContract, InputContract
from shared_model.system.html_templates import package_templates
from shared_model.vocabulary import Laterality, View

MAX_ROWS = 500
"""Studies that are listed; the others are found when these are done or the folder is tidied up."""
_FROM_FILM = ("view", "laterality")
_MANY = 12
"""More values than these, all numbers, are typed."""


@cache
def _environment() -> Environment:
    environment = package_templates("client.reader_page")
    environment.globals |= {
        "percent": _percent,
        "call": _call,
        "max_why": MAX_WHY,
        "verdicts": tuple(Verdict),
        "known": tuple(Known),
        "when": _when,
        "not_shown": NOT_SHOWN,
        "min_cases": MIN_CASES,
        "min_per_class": MIN_PER_CLASS,
        "p_value_limit": P_VALUE_LIMIT,
        "p_value": _p_value,
        "share": _share,
    }
    return environment


def work_list(desk: Desk, listed: Listed, counts: Mapping[str, int], *, user: str) -> str:
    """Return the work list."""
    return _render(
        "work_list.html", listed=listed, counts=counts, site=desk.site, release=desk.release_name, user=user,
        max_rows=MAX_ROWS, root="",
    )  # fmt: skip


def rows(listed: Listed, counts: Mapping[str, int]) -> str:
    """Return what of the work list changes as more files are read."""
    return _render("rows.html", listed=listed, counts=counts, max_rows=MAX_ROWS)


def study(desk: Desk, found: Study, side: Laterality | None, kept: Found, *, user: str) -> str:
    """Return the page of one breast of a study."""
    contract = desk.contract
    return _render(
        "study.html", study=found, side=side, panels=_panels(found.of(side)), kept_readings=kept,
        columns=_columns(contract), needs_box=contract.needs_box, site=desk.site, release=desk.release_name, user=user,
        root="../",
    )  # fmt: skip


def reading(kept: KeptReading, maps: Sequence[ShownMap]) -> str:
    """Return what a reading says."""
    return _render("reading.html", kept=kept, reading=kept.reading, answer=kept.reading.answer, maps=maps)


def earlier(kept: Found, found: Study) -> str:
    """Return the readings of a patient."""
    return _render("earlier.html", kept_readings=kept, study=found)


def since_release(desk: Desk, found: SinceRelease, *, user: str) -> str:
    """Return what this site's readings add up to."""
    return _render(
        "since_release.html",
        found=found,
        section=desk.recalibration,
        site=desk.site,
        release=desk.release_name,
        user=user,
        root="",
    )


def problem(text: str) -> str:
    """Return a page that says what is wrong."""
    return _render("problem.html", text=text)


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


def _panels(films: Sequence[Film]) -> list[tuple[View, list[Film]]]:
    """Return the films that may be shown as CC and as MLO: those that say so, and those that do not say."""
    return [(view, sorted((film for film in films if film.header.view in {view, None}), key=_order)) for view in View]


def _order(film: Film) -> tuple[bool, bool, str]:
    header = film.header
    return header.problem is not None, header.view is None, film.name


def _columns(contract: InputContract) -> list[tuple[ColumnContract, str]]:
    """Return the columns that somebody must fill in, and how."""
    has_one_type = len(contract.lesion_types) == 1
    found = []
    for column in contract.columns:
        if column.name in _FROM_FILM or (column.name == "abnormality_type" and has_one_type):
            continue
        is_number = len(column.values) > _MANY and all(value.isdigit() for value in column.values)
        found.append((column, "several" if column.is_multiple else "number" if is_number else "one"))
    return found


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _p_value(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _share(value: float, width: float) -> str:
    """Return where ``value`` in [0, 1] lies on a line of ``width``."""
    return f"{value * width:.1f}"


def _call(answer: Answer) -> str:
    return "malignant" if answer.is_above_threshold else "benign"


def _when(time: str | int) -> str:
    """Return a time, ISO 8601 or nanoseconds since 1970, as UTC to the minute."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(time / 1e9, UTC)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
