"""The report as a page: rounded up, escaped, and drawn inside its frame."""

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.privacy.report import web_page
from client.privacy.report.web_page import to_html


class Balanced(HTMLParser):
    """Checks that every tag that is opened is closed."""

    VOID = frozenset({"meta", "br", "link", "img", "hr", "line", "polyline"})

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_page(html):
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    return html


@given(st.floats(0, 30))
def test_odds_are_never_below_e_to_the_epsilon(epsilon):
    text = web_page._odds(epsilon)
    assert text == "more than a million" or float(text.replace(",", "")) >= math.exp(epsilon) * (1 - 1e-12)


@given(st.floats(0.5, 1))
def test_percent_is_never_below_the_share(share):
    assert 0 <= float(web_page._percent(share)) - 100 * share < 0.1 + 1e-9


def test_a_page_has_the_figures_rounded_up(make_report):
    html = check_page(to_html(make_report(), title="MGH"))
    assert "Privacy report of MGH" in html
    assert "epsilon 1.235" in html
    assert "77.2 %" in html
    assert "Rounds left at the noise of its last release: 7." in html
    assert "NOT VERIFIED" not in html


def test_the_curve_ends_at_the_last_release_inside_the_frame(make_report):
    html = to_html(make_report())
    width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', html).groups())
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'points="([^"]+)"', html)[1].split()]
    assert len(points) == 3
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    # Up is less in SVG.
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)
    assert "3 releases" in html
    assert "granted 8" in html


def test_no_curve_without_a_bound_and_no_limit_line_without_a_limit(make_report):
    unbounded = to_html(make_report(epsilon=None, cohort={"epsilon": None, "course": (), "num_unprotected": 1}))
    assert "<svg" not in unbounded
    assert "without noise" in check_page(unbounded)
    assert "granted" not in to_html(make_report(max_epsilon=None))


@pytest.mark.parametrize("epsilon", [1e-9, 0.0, 90.0])
def test_any_epsilon_can_be_drawn(make_report, epsilon):
    check_page(to_html(make_report(epsilon=epsilon, cohort={"epsilon": epsilon, "course": ((1, epsilon),)})))


def test_a_ledger_that_was_not_verified_gives_no_figures(make_report):
    html = check_page(to_html(make_report(problem="entry <3> was changed", cohorts=())))
    assert "NOT VERIFIED. entry &lt;3&gt; was changed" in html
    assert "1.235" not in html


def test_names_are_escaped(make_report):
    html = to_html(make_report(run={"run": "<script>x"}), title="<b>MGH")
    assert "<script>" not in html
    assert "<b>" not in html


def test_of_secure_sums_both_guarantees_stand_there_rounded_up(make_report, make_secure_report):
    html = check_page(to_html(make_secure_report()))
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html))
    assert "3 releases were part of secure sums" in text
    assert "Who sees only sums epsilon 1.235" in text
    assert "Whoever breaks the sum epsilon 2.346 or works with all other hospitals" in text
    assert "grants epsilon 12.5 at delta 0.0001" in text
    assert "1.235 2.346 8 0.0001" in text
    assert "2 in the sum, 1.155 alone" in text
    plain = to_html(make_report())
    for phrase in ("secure sum", "2.346", "breaks the sum", "in the sum"):
        assert phrase not in plain
