"""The privacy report as one HTML file that needs nothing else: no network, no script, no font."""

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from functools import cache

from jinja2 import Environment
from markupsafe import Markup

from client.privacy.report.contents import MAX_ROUNDS_LEFT, MAX_SECOND_EPSILON, PrivacyReport
from client.privacy.report.formats import patients, shown, shown_least, shown_mu
from shared_model.config.fingerprints import source_fingerprint
from shared_model.system.html_templates import package_templates

_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 26, 40
_FONT_SIZE = 13
"""The picture is as wide as a phone, so that its letters keep their size there."""


def to_html(report: PrivacyReport, *, title: str = "") -> str:
    """Return the whole page."""
    return (
        _environment()
        .get_template("privacy_report.html")
        .render(
            report=report,
            title=title,
            is_this_version=report.one_run is not None and report.one_run.source == source_fingerprint(),
            max_rounds_left=MAX_ROUNDS_LEFT,
            max_second_epsilon=MAX_SECOND_EPSILON,
            plots=[
                _plot(cohort.course, report.max_epsilon if report.delta == report.max_delta else None)
                for cohort in report.cohorts
            ],
        )
    )


def federation_to_html(document: Mapping[str, object]) -> str:
    """Return the page that adds the sites up; ``document`` is what stands in ``federation.json``."""
    return _environment().get_template("federation_privacy.html").render(document=document)


@cache
def _environment() -> Environment:
    environment = package_templates("client.privacy.report")
    environment.globals |= {
        "shown": shown,
        "shown_least": shown_least,
        "shown_mu": shown_mu,
        "patients": patients,
        "odds": _odds,
        "percent": _percent,
    }
    return environment


def _odds(epsilon: float) -> str:
    """Return e^epsilon, rounded up."""
    if epsilon > 14:
        return "more than a million"
    return f"{math.ceil(math.exp(epsilon) * 10) / 10:,.1f}" if epsilon < 3 else f"{math.ceil(math.exp(epsilon)):,}"


def _percent(share: float) -> str:
    """Return ``share`` in per cent, rounded up to one decimal."""
    return str((100 * Decimal(share)).quantize(Decimal("0.1"), ROUND_CEILING))


def _plot(course: Sequence[tuple[int, float]], max_epsilon: float | None) -> Markup:
    """Return epsilon over releases as inline SVG; nothing for an empty course."""
    if not course:
        return Markup("")
    num_releases, last = course[-1]
    # Noise so strong that epsilon is 0 still gives an axis.
    top = 1.15 * max(last, max_epsilon or 0.0, 1e-3)

    def x(count: int) -> float:
        """Return where ``count`` releases lie in the picture."""
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * count / num_releases

    def y(epsilon: float) -> float:
        """Return where ``epsilon`` lies in the picture."""
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * epsilon / top

    points = " ".join(f"{x(count):.1f},{y(value):.1f}" for count, value in [(0, 0.0), *course])
    releases = f"{num_releases} release{'s' * (num_releases > 1)}"
    parts = [
        _line((_LEFT, y(0)), (_WIDTH - _RIGHT, y(0)), "#57606a"),
        f'<polyline points="{points}" fill="none" stroke="#0550ae" stroke-width="2.5"/>',
        _label(4, 16, "epsilon", "start"),
        _label(_LEFT - 6, y(0) + 4, "0", "end"),
        _label(_LEFT, _HEIGHT - 18, "0", "middle"),
        _label(_WIDTH - _RIGHT, _HEIGHT - 18, releases, "end"),
        _label(_WIDTH - _RIGHT, max(y(last) - 8, 16), shown(last), "end"),
    ]
    if max_epsilon is not None:
        parts.append(_line((_LEFT, y(max_epsilon)), (_WIDTH - _RIGHT, y(max_epsilon)), "#a40e26", dash="6 4"))
        parts.append(_label(_LEFT + 6, y(max_epsilon) - 6, f"granted {max_epsilon:g}", "start"))
    # All that is joined here are numbers and our own words.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="epsilon over {releases}, {shown(last)} at the '
        f'end">{"".join(parts)}</svg>'
    )


def _line(start: tuple[float, float], end: tuple[float, float], colour: str, *, dash: str = "none") -> str:
    return (
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{colour}" '
        f'stroke-dasharray="{dash}"/>'
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{_FONT_SIZE}" text-anchor="{anchor}" fill="#1b1f24">{text}</text>'
