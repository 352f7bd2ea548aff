"""The tables of the privacy-utility study, cell by cell, and its files."""

import json

import pytest
from matplotlib.image import imread

from shared_model.metrics.intervals import ConfidenceInterval
from simulations.studies.privacy_utility import INPUTS, TARGET_EPSILONS
from simulations.studies.utility_plot import draw_utility
from simulations.studies.utility_report import (
    comparison_table,
    operating_table,
    to_markdown,
    utility_table,
    write_utility,
)
from simulations.studies.utility_results import Spread, UtilityResult


def result_of(name, epsilon, auroc):
    return UtilityResult(
        name=name,
        epsilon=epsilon,
        num_seeds=5,
        auroc=auroc,
        deviation=0.004,
        interval=ConfidenceInterval(low=auroc - 0.05, high=auroc + 0.05),
        worst_site="MGH",
        worst_auroc=auroc - 0.1,
        operating={"sensitivity": Spread(mean=0.9, lowest=0.85, highest=0.95)},
    )


@pytest.fixture
def results():
    main = [result_of(name, epsilon, 0.8) for name in INPUTS for epsilon in TARGET_EPSILONS]
    return [*main, result_of("centralised", None, 0.86), result_of("centralised", 8.0, 0.85)]


def test_tables_hold_every_input_epsilon_and_published_row(results):
    table = utility_table(results)
    assert table.header == ["inputs", "no privacy", "epsilon 8", "epsilon 4", "epsilon 2", "epsilon 1"]
    assert table.lines[0] == ["image", *["0.800 ± 0.004 (0.750 to 0.850)"] * 5]
    assert table.lines[-1] == ["published: Swin-T, pre-trained on synthetic images", "-", "-", "-", "-", "0.661"]
    table = comparison_table(results)
    assert table.header == ["training", "no privacy", "epsilon 8", "worst hospital, epsilon 8"]
    assert table.lines[1] == [
        "centralised",
        "0.860 ± 0.004 (0.810 to 0.910)",
        "0.850 ± 0.004 (0.800 to 0.900)",
        "0.750 (MGH)",
    ]


def test_tables_without_intervals_and_of_runs_that_are_missing():
    results = [
        UtilityResult(
            name="image",
            epsilon=8.0,
            num_seeds=1,
            auroc=0.7,
            deviation=None,
            interval=None,
            worst_site=None,
            worst_auroc=0.65,
            operating={},
        )
    ]
    assert utility_table(results, with_intervals=False).lines[0] == ["image", "-", "0.700", "-", "-", "-"]
    # Nothing is compared.
    assert comparison_table(results).lines == []
    assert utility_table([result_of("alone", 8.0, 0.8)]).lines == []
    assert comparison_table([result_of("alone", 8.0, 0.8)], with_intervals=False).lines[1] == [
        "alone",
        "-",
        "0.800 ± 0.004",
        "0.700 (MGH)",
    ]


def test_operating_points_stand_beside_the_auc(results):
    lines = operating_table(results).lines
    assert [line[:2] for line in lines[:5]] == [["image", epsilon] for epsilon in ("none", "8", "4", "2", "1")]
    assert lines[0][2:] == ["0.900 (0.850 to 0.950)", "-", "-", "-"]
    assert "0.900 (0.850 to 0.950)" in to_markdown(results)


def test_text_names_what_stands_in_the_tables(results):
    text = to_markdown(results)
    assert "over 5 seeds" in text
    # Published epsilons that the table has no column for.
    assert "0.622 at epsilon 60 (Swin-T, DP-SGD), 0.572 at epsilon 6 (Swin-T, DP-SGD)" in text


def test_files_are_written_whole(results, tmp_path):
    write_utility(tmp_path, results, "Provenance: x\n")
    assert (tmp_path / "utility.md").read_text() == f"{to_markdown(results)}\nProvenance: x\n"
    lines = (tmp_path / "utility.csv").read_text().splitlines()
    assert lines[0] == "inputs,epsilon,seeds,auroc,deviation,low,high,worst_site,worst_site_auroc"
    assert lines[1] == "image,,5,0.8000,0.0040,0.7500,0.8500,MGH,0.7000"
    assert lines[2] == "image,8,5,0.8000,0.0040,0.7500,0.8500,MGH,0.7000"
    assert len(lines) == 1 + len(results)
    (first, *_) = json.loads((tmp_path / "utility.json").read_text())
    assert (first["name"], first["auroc"], first["interval"]["low"]) == ("image", 0.8, pytest.approx(0.75))
    assert imread(tmp_path / "utility.png").shape[:2] > (400, 600)


def test_what_is_missing_is_empty_in_the_numbers(tmp_path):
    missing = UtilityResult(
        name="image",
        epsilon=8.0,
        num_seeds=1,
        auroc=0.7,
        deviation=None,
        interval=None,
        worst_site=None,
        worst_auroc=None,
        operating={},
    )
    write_utility(tmp_path, [missing], "Provenance: x\n")
    assert (tmp_path / "utility.csv").read_text().splitlines()[1] == "image,8,1,0.7000,,,,,"


def test_the_plot_has_a_line_for_every_input_and_the_published_points(results):
    (axes,) = draw_utility(results).axes
    labels = [line.get_label() for line in axes.lines if not line.get_label().startswith("_")]
    assert len(labels) == 4 + 2
    image = next(line for line in axes.lines if line.get_label() == "image")
    assert list(image.get_ydata()) == [0.8] * 4
    # One line for each input's level without privacy.
    assert sum(line.get_linestyle() == "--" for line in axes.lines) == 4
    published = next(line for line in axes.lines if line.get_label() == "published: Swin-T, DP-SGD")
    assert list(zip(published.get_xdata(), published.get_ydata(), strict=True)) == [(60, 0.622), (6, 0.572), (1, 0.525)]
