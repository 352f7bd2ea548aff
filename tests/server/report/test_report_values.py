"""What report and model card print: sorted, labelled and rounded as the reader needs it."""

import dataclasses

import numpy as np
import pytest

from server.evaluation.estimates import ESTIMATE_LABELS
from server.evaluation.predictions import UNKNOWN, Predictions
from server.report.report_values import (
    NUM_WORST,
    estimate_rows,
    network_inputs,
    template_environment,
    template_values,
    worst_errors,
)
from server.report.stored_run import StoredRun
from server.results.evidence import Level

CONFIGURATION = {
    "model": {"modality": "fusion", "fusion": "mid", "backbone": "small_cnn", "hidden_width": 4},
    "data": {"features": "safe", "lesion_types": ["mass"], "views": "all"},
    "strategy": {"name": "one_shot", "momentum": 0.0},
}


@pytest.fixture(scope="module")
def run(finished_run):
    return StoredRun.load(finished_run)


def cohort(labels, scores, **attributes):
    return Predictions(
        labels=np.array(labels), scores=np.array(scores), patients=np.arange(len(labels)), attributes=attributes
    )


class TestEstimateRows:
    def test_every_estimate_has_a_row_with_a_cell_for_every_level(self, run):
        rows = estimate_rows(run.results.evidence)
        assert [name for name, _, _ in rows] == [name for name in ESTIMATE_LABELS if name in {row[0] for row in rows}]
        assert {len(cells) for _, _, cells in rows} == {3}
        assert all(label == ESTIMATE_LABELS[name] for name, label, _ in rows)
        by_name = {name: cells for name, _, cells in rows}
        for column, level in enumerate((Level.LESION, Level.BREAST, Level.PATIENT)):
            value = run.results.evidence.level(level).estimate("auroc").value
            assert by_name["auroc"][column].startswith(f"{value:.3f} (")

    def test_predictive_values_of_screening_have_a_digit_more(self, run):
        by_name = {name: cells for name, _, cells in estimate_rows(run.results.evidence)}
        assert len(by_name["ppv_at_prevalence"][0].split(" ")[0]) == len("0.1234")
        assert len(by_name["ppv"][0].split(" ")[0]) == len("0.123")

    def test_what_a_level_lacks_is_a_dash(self, run):
        evidence = run.results.evidence
        patient = evidence.level(Level.PATIENT)
        short = dataclasses.replace(patient, figures=patient.figures[1:])
        rows = estimate_rows(dataclasses.replace(evidence, levels=(evidence.levels[0], short)))
        assert rows[0][0] == patient.figures[0].name
        assert rows[0][2][1] == "-"

    def test_without_evidence_there_are_no_rows(self):
        assert estimate_rows(None) == []


class TestWorstErrors:
    def test_the_furthest_from_the_threshold_come_first(self):
        found = worst_errors(cohort([1, 1, 0, 0, 0], [0.3, 0.1, 0.6, 0.9, 0.2]), 0.5)
        assert [(error.kind, error.score, error.patient) for error in found] == [
            ("missed cancer", 0.1, 1),
            ("missed cancer", 0.3, 0),
            ("false alarm", 0.9, 3),
            ("false alarm", 0.6, 2),
        ]

    def test_no_more_than_so_many_of_each_kind(self):
        many = cohort([1] * 30 + [0] * 30, [0.1] * 30 + [0.9] * 30)
        kinds = [error.kind for error in worst_errors(many, 0.5)]
        assert kinds == ["missed cancer"] * NUM_WORST + ["false alarm"] * NUM_WORST

    def test_attributes_describe_them_and_the_pathology_only_where_it_says_more(self):
        predictions = cohort(
            [1, 0],
            [0.1, 0.9],
            breast_density=("2", UNKNOWN),
            view=("CC", "MLO"),
            pathology=("MALIGNANT", "BENIGN_WITHOUT_CALLBACK"),
        )
        missed, alarm = worst_errors(predictions, 0.5)
        assert missed.description == "breast density 2, view CC"
        assert alarm.description == f"breast density {UNKNOWN}, view MLO, pathology BENIGN_WITHOUT_CALLBACK"

    def test_none_without_predictions_or_threshold(self):
        assert worst_errors(None, 0.5) == []
        assert worst_errors(cohort([1], [0.1]), None) == []
        assert worst_errors(cohort([1, 0], [0.9, 0.1]), 0.5) == []


class TestNetworkInputs:
    def test_what_the_network_reads(self):
        assert network_inputs(CONFIGURATION) == {
            "modality": "fusion",
            "fusion": "mid",
            "backbone": "small_cnn",
            "features": "safe",
            "types": ["mass"],
            "views": "all",
            "strategy": "one_shot",
        }

    def test_older_runs_say_nothing_of_views(self):
        data = {name: value for name, value in CONFIGURATION["data"].items() if name != "views"}
        assert network_inputs(CONFIGURATION | {"data": data})["views"] is None

    def test_a_configuration_without_its_parts_is_an_error(self):
        with pytest.raises(KeyError, match="data"):
            network_inputs({"model": {}})
        with pytest.raises(TypeError, match="model, data and strategy to be mappings"):
            network_inputs({"model": [], "data": {}, "strategy": {}})


class TestTemplates:
    def test_a_missing_value_is_an_error_and_never_a_gap(self, run):
        environment = template_environment()
        template = environment.from_string("{{ inputs.modality }} {{ number(results.final.auroc) }} {{ no_such_name }}")
        with pytest.raises(Exception, match="no_such_name"):
            template.render(**template_values(run))

    def test_they_are_compiled_once(self):
        assert template_environment().get_template("report.html") is template_environment().get_template("report.html")

    def test_the_whole_configuration_is_printed_in_its_order(self, run):
        text = template_values(run)["configuration"]
        assert text.startswith("preset: cbis_mass\nseed: 0\n")
        assert "  target_sensitivity: 0.9\n" in text
