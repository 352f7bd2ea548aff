"""The privacy report as one HTML file that needs nothing else: no network, no script, no font."""

import math
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from client.privacy_report import PrivacyReport

_WIDTH, _HEIGHT, _MARGIN = 640, 240, 48


def to_html(report: PrivacyReport, *, title: str = "") -> str:
    """Return the whole page."""
    page = _environment().get_template("privacy_report.html")
    return page.render(
        report=report,
        title=title,
        certainty=_certainty(report.epsilon or 0.0),
        seeded=any(not run.is_noise_secret for cohort in report.cohorts for run in cohort.runs),
        plots=[_plot(cohort.course, report.max_epsilon) for cohort in report.cohorts],
    )


def federation_to_html(document: Mapping[str, object]) -> str:
    """Return the page that adds the sites up; ``document`` is what stands in ``federation.json``."""
    return _environment().get_template("federation_privacy.html").render(document=document)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("client"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["shown"] = _rounded_up
    return environment


def _rounded_up(epsilon: float) -> float:
    """Return ``epsilon`` rounded up to two decimals: no report may name less than was spent."""
    return math.ceil(epsilon * 100) / 100


def _certainty(epsilon: float) -> float:
    """Return the largest posterior of membership from a prior of one half: e^eps / (1 + e^eps)."""
    return 1 / (1 + math.exp(-epsilon))


def _plot(course: Sequence[float], max_epsilon: float | None) -> Markup:
    """Return epsilon over releases as inline SVG; nothing for an empty course."""
    if not course:
        return Markup("")
    top = 1.1 * max(course[-1], max_epsilon or 0.0)
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN

    def point(index: int, value: float) -> str:
        return f"{_MARGIN + width * index / len(course):.1f},{_HEIGHT - _MARGIN - height * value / top:.1f}"

    line = " ".join([point(0, 0.0), *(point(i + 1, value) for i, value in enumerate(course))])
    parts = [
        f'<line x1="{_MARGIN}" y1="{_HEIGHT - _MARGIN}" x2="{_WIDTH - _MARGIN}" y2="{_HEIGHT - _MARGIN}" '
        'stroke="#57606a"/>',
        f'<polyline points="{line}" fill="none" stroke="#0550ae" stroke-width="3"/>',
        _label(_MARGIN, 22, "epsilon", "start"),
        _label(_WIDTH - _MARGIN, _HEIGHT - 14, f"{len(course)} releases", "end"),
        _label(_MARGIN - 6, _HEIGHT - _MARGIN, "0", "end"),
        _label(_WIDTH - _MARGIN, float(point(0, course[-1]).split(",")[1]) - 8, f"{course[-1]:.2f}", "end"),
    ]
    if max_epsilon is not None:
        level = point(0, max_epsilon).split(",")[1]
        parts.append(
            f'<line x1="{_MARGIN}" y1="{level}" x2="{_WIDTH - _MARGIN}" y2="{level}" stroke="#a40e26" '
            'stroke-dasharray="6 4"/>'
        )
        parts.append(_label(_MARGIN + 6, float(level) - 6, f"granted {max_epsilon:g}", "start"))
    title = f"epsilon after each of {len(course)} releases, {course[-1]:.2f} at the end"
    # All that is joined here are numbers and our own words.
    return Markup(  # noqa: S704
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    )


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="16" text-anchor="{anchor}" fill="#1b1f24">{text}</text>'
