"""A report as JSON, CSV and a printed table: nothing rounded down, nothing left out that matters."""

import csv
import io
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from client.privacy.report.formats import print_report, shown, to_csv, to_json


def printed(report):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    print_report(report, console)
    return console.file.getvalue()


@given(st.floats(0, 1e6))
def test_a_shown_epsilon_is_never_below_the_true_one_and_near_it(epsilon):
    assert 0 <= Decimal(shown(epsilon)) - Decimal(epsilon) <= Decimal("0.001")


@pytest.mark.parametrize(("epsilon", "text"), [(None, "unbounded"), (1.0, "1.000"), (1.0001, "1.001"), (0.0, "0.000")])
def test_shown_by_hand(epsilon, text):
    assert shown(epsilon) == text


class TestJson:
    def test_figures_are_not_rounded(self, make_report):
        document = json.loads(to_json(make_report()))
        assert document["epsilon"] == 1.23401
        assert document["cohorts"][0]["runs"][0]["noise_multiplier"] == 2.0
        assert document["cohorts"][0]["course"] == [[1, 0.6], [3, 1.23401]]
        assert document["unit"] == "patient"

    def test_what_has_no_bound_is_null(self, make_report):
        assert json.loads(to_json(make_report(epsilon=None)))["epsilon"] is None

    def test_infinity_is_refused(self, make_report):
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_json(make_report(epsilon=float("inf")))


class TestCsv:
    def test_a_row_has_its_cohort_and_its_run(self, make_report):
        (row,) = csv.DictReader(to_csv(make_report()).splitlines())
        assert (row["cohort"], row["num_patients"], row["cohort_epsilon"]) == ("c" * 12, "24", "1.23401")
        assert (row["run"], row["epsilon"], row["num_unanswered"]) == ("a" * 12, "1.23401", "1")

    def test_both_prices_of_secure_sums_have_a_column(self, make_secure_report):
        (row,) = csv.DictReader(to_csv(make_secure_report()).splitlines())
        assert (row["epsilon"], row["epsilon_alone"], row["cohort_epsilon_alone"]) == ("1.23401", "2.34501", "2.34501")
        assert (row["num_secure_sums"], row["noise_multiplier_alone"]) == ("3", "1.1547")

    def test_what_has_no_bound_says_so(self, make_report):
        nothing = {"epsilon": None, "epsilon_alone": None}
        (row,) = csv.DictReader(to_csv(make_report(run=nothing | {"noise": "none"}, cohort=nothing)).splitlines())
        assert row["cohort_epsilon"] == row["epsilon"] == "unbounded"
        assert row["cohort_epsilon_alone"] == row["epsilon_alone"] == "unbounded"

    def test_a_ledger_that_was_not_verified_gives_no_figures(self, make_report):
        assert to_csv(make_report(problem="an entry was changed")) == "NOT VERIFIED\nan entry was changed\n"


class TestPrinted:
    def test_the_table_has_the_figures_and_the_head(self, make_report):
        text = printed(make_report())
        for cell in (
            "aaaaaa",
            "cccccc",
            "training",
            "1.235",
            "24",
            "7",
            "at delta 0.0001",
            "9 chained entries",
            "d" * 64,
        ):
            assert cell in text

    @pytest.mark.parametrize(
        ("changes", "warning"),
        [
            ({"is_noise_secret": False}, "SEEDED noise: whoever knows the seed can remove it"),
            ({"is_over_cap": True}, "More was spent than this site's policy grants"),
            ({"cohort": {"num_unprotected": 1}}, "Something was released without noise"),
            ({"clock_went_back": True}, "clock went backwards"),
        ],
    )
    def test_warnings_stand_where_they_apply_and_only_there(self, make_report, changes, warning):
        assert warning in printed(make_report(**changes))
        assert warning not in printed(make_report())

    def test_seeded_runs_and_unknown_rounds(self, make_report):
        text = printed(make_report(run={"noise": "seeded"}, cohort={"rounds_left": None}))
        row = next(line for line in text.splitlines() if "cccccc" in line)
        assert "SEEDED" in row
        assert [cell.strip() for cell in row.strip("│ ").split("│")][-1] == "-"

    def test_of_secure_sums_both_prices_stand_in_the_table(self, make_report, make_secure_report):
        text = printed(make_secure_report())
        assert "run alone, all alone: the same to whoever breaks the secure sums" in " ".join(text.split())
        row = next(line for line in text.splitlines() if "cccccc" in line)
        assert [cell.strip() for cell in row.strip("│ ").split("│")][-2:] == ["2.346", "2.346"]
        assert "alone" not in printed(make_report()).replace("of the run alone", "")

    def test_markup_in_a_name_is_text(self, make_report):
        assert "[bold" in printed(make_report(run={"purpose": "[bold]x"}))
