"""The tables of a study: numbers to text, cell by cell."""

import csv
import json

import pytest

from shared_model.metrics.delong import PairedComparison
from shared_model.metrics.intervals import ConfidenceInterval
from simulations.studies.results import summarise
from simulations.studies.tables import brief_table, provenance, rows_table, summary_table, write_tables

FIGURES = {"auroc": 0.8, "average_precision": 0.7, "sensitivity": 0.9, "specificity": 0.45, "brier": 0.19}
TITLES = ["AUC", "average precision", "sensitivity", "specificity", "Brier score"]


def comparison(difference, p_value):
    return PairedComparison(
        difference=difference,
        interval=ConfidenceInterval(low=difference - 0.05, high=difference + 0.05),
        p_value=p_value,
    )


@pytest.fixture
def rows(make_row):
    return [
        make_row("federated", half_width=0.05, by_site=(("MGH", 0.75), ("WFU", 0.85)), **FIGURES),
        make_row("MGH alone", by_site=(("MGH", 0.7),), against_first=comparison(-0.1, 0.0004), **FIGURES),
        make_row("majority", epsilon=None, against_first=comparison(0.0, None)),
    ]


def test_every_row_with_the_hospitals_that_are_tested(rows):
    table = rows_table(rows, ["ISMD", "MGH", "WFU"])
    assert table.header == ["training", "seed", *TITLES, "AUC at MGH", "AUC at WFU", "AUC less first"]
    assert table.lines[0] == [
        "federated",
        "0",
        "0.800 (0.750 to 0.850)",
        "0.700 (0.650 to 0.750)",
        "0.900 (0.850 to 0.950)",
        "0.450 (0.400 to 0.500)",
        "0.190 (0.140 to 0.240)",
        "0.750",
        "0.850",
        "-",
    ]
    assert table.lines[1][7:] == ["0.700", "-", "-0.100 (-0.150 to -0.050), p < 0.001"]
    assert table.lines[2] == ["majority", "0", *"-------", "+0.000 (-0.050 to +0.050), p -"]


@pytest.mark.parametrize(
    ("p_value", "text"), [(0.0009, "p < 0.001"), (0.001, "p 0.001"), (0.0516, "p 0.052"), (None, "p -")]
)
def test_p_values(make_row, p_value, text):
    table = brief_table([make_row("a", against_first=comparison(0.02, p_value))])
    assert table.lines == [["a", "-", f"+0.020 (-0.030 to +0.070), {text}"]]


def test_the_brief_table_fits_a_terminal(rows):
    table = brief_table(rows)
    assert table.header == ["training", "AUC", "AUC less first"]
    # Two characters of frame and padding round every cell.
    assert max(sum(len(cell) + 3 for cell in line) for line in table.lines) < 80


def test_provenance_names_every_source_and_seed(make_row):
    rows = [make_row("a", seed=seed, source=source * 64) for seed, source in ((2, "b"), (0, "a"), (1, "a"))]
    assert provenance(rows) == "Provenance: source aaaaaaaaaaaa and bbbbbbbbbbbb, seeds 0, 1, 2\n"


def test_means_and_deviations(make_row):
    rows = [make_row("a", seed=seed, **(FIGURES | {"auroc": value})) for seed, value in ((0, 0.7), (1, 0.8))]
    table = summary_table(summarise([*rows, make_row("b", auroc=0.6)]))
    assert table.header == ["training", "runs", *TITLES]
    assert table.lines == [
        ["a", "2", "0.750 ± 0.071", "0.700 ± 0.000", "0.900 ± 0.000", "0.450 ± 0.000", "0.190 ± 0.000"],
        ["b", "1", "0.600", "-", "-", "-", "-"],
    ]


def test_files_hold_the_same_figures(rows, tmp_path):
    write_tables(tmp_path, "cross-site: seed=0", rows, summarise(rows), ["MGH", "WFU"])
    with (tmp_path / "study.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["training"] for line in lines] == ["federated", "MGH alone", "majority"]
    assert lines[0]["AUC"] == "0.800 (0.750 to 0.850)"
    markdown = (tmp_path / "study.md").read_text()
    assert markdown.startswith("# cross-site: seed=0\n\n| training | runs | AUC |")
    assert "| federated | 0 | 0.800 (0.750 to 0.850) |" in markdown
    assert "95 % intervals over patients; differences after DeLong.\n" in markdown
    assert markdown.endswith("\n\nProvenance: source 000000000000, seeds 0\n")
    document = json.loads((tmp_path / "study.json").read_text())
    assert document["title"] == "cross-site: seed=0"
    assert document["rows"][0]["evidence"]["levels"][0]["figures"][0]["value"] == 0.8
    assert document["rows"][1]["against_first"]["p_value"] == 0.0004
    assert [summary["run"] for summary in document["summaries"]] == ["federated", "MGH alone", "majority"]
