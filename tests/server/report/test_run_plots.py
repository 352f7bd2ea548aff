"""Plots of a run: images of the promised size that show what they are given."""

import dataclasses

import numpy as np
import pytest
from matplotlib.image import imread

from server.report.plot_style import BLUE, DOTS_PER_INCH, VERMILLION, save_png
from server.report.run_plots import EPSILON_HEIGHT, ROC_SIZE, ROUNDS_SIZE, SITE_MARKERS, draw_roc, draw_rounds
from server.results.document import AurocSource, FinalResult, RoundResult, SiteResult, ThresholdSource
from shared_model.metrics.bootstrap import bootstrap_roc_band
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.roc import roc_curve
from shared_model.metrics.score_histogram import ScoreHistogram

GENERATOR = np.random.default_rng(0)
LABELS = GENERATOR.integers(0, 2, 120)
SCORES = 1 / (1 + np.exp(-GENERATOR.normal(size=120) - LABELS))
CURVE = roc_curve(ClassCounts.from_scores(LABELS, SCORES))
BAND = bootstrap_roc_band(LABELS, SCORES, np.arange(120) // 2, num_resamples=20, generator=GENERATOR)
FINAL = FinalResult(
    auroc=0.76,
    auroc_interval=ConfidenceInterval(low=0.7, high=0.81),
    auroc_source=AurocSource.SERVER_HOLDOUT,
    auroc_site_histograms=0.75,
    auroc_site_histograms_error_bound=0.00041,
    auroc_site_histograms_noise_standard_error=0.0,
    sensitivity=0.9,
    sensitivity_interval=ConfidenceInterval(low=0.85, high=0.95),
    specificity=0.4,
    specificity_interval=ConfidenceInterval(low=0.3, high=0.5),
    threshold=0.31,
    threshold_source=ThresholdSource.PUBLIC_PATIENTS,
    target_sensitivity=0.9,
    num_lesions=120,
    num_patients=60,
    round=3,
)
FROM_HISTOGRAMS = dataclasses.replace(
    FINAL,
    auroc_source=AurocSource.SITE_HISTOGRAMS,
    auroc_interval=None,
    sensitivity_interval=None,
    specificity_interval=None,
    num_patients=None,
)
ROUNDS = [
    RoundResult(
        round=number,
        auroc=None if number == 2 else 0.5 + number / 20,
        sensitivity=None if number == 2 else 0.9,
        specificity=None if number == 2 else 0.3,
        threshold=0.3,
        epsilon=number / 2,
        num_sites=2,
        failures=0,
        warnings=(),
        outliers=(),
        seconds=1.0,
    )
    for number in range(1, 5)
]
SITES = [
    SiteResult(
        site=f"hospital {number}",
        num_patients_declared=100,
        epsilon=2.0 - number / 10,
        delta=1e-4,
        noise_multiplier=1.0,
        epsilon_by_colluding=(2.0 - number / 10,),
        auroc=0.7,
        num_test_lesions=60,
    )
    for number in range(9)
]


def without_epsilon(rounds):
    return [dataclasses.replace(entry, epsilon=None) for entry in rounds]


def pixels_of(plot, folder, size):
    """Save the plot and return the image ``(H, W, 3)`` after checking its signature and its size in inches."""
    path = folder / "plot.png"
    save_png(plot, path)
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image = imread(path)[:, :, :3]
    width, height = size
    assert image.shape[:2] == (round(height * DOTS_PER_INCH), round(width * DOTS_PER_INCH))
    return image


def share_of(image, colour):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.mean(np.abs(image - rgb).max(axis=2) < 0.02)


def texts_of(figure):
    """Return the words of a plot: titles, names of axes, legends."""
    texts = []
    for axes in figure.axes:
        texts += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        texts += [text.get_text() for text in axes.get_legend().get_texts()]
    return texts


class TestRoc:
    def test_with_band_and_intervals(self, tmp_path):
        plot = draw_roc(CURVE, final=FINAL, band=BAND, title="phantom")
        texts = texts_of(plot)
        image = pixels_of(plot, tmp_path, ROC_SIZE)
        assert share_of(image, BLUE) > 0.001
        assert share_of(image, VERMILLION) > 0.0005
        assert "phantom\n120 lesions of 60 patients, server holdout" in texts
        assert "AUROC 0.760 [0.700, 0.810]" in texts
        assert "95% interval" in texts
        assert "score ≥ 0.310:\nsensitivity 0.900 [0.850, 0.950]\nspecificity 0.400 [0.300, 0.500]" in texts

    def test_of_histograms_alone_states_the_binning_error_rounded_up(self, tmp_path):
        curve = roc_curve(ScoreHistogram.from_scores(LABELS, SCORES, 50).class_counts)
        plot = draw_roc(curve, final=FROM_HISTOGRAMS, band=None, title="phantom")
        texts = texts_of(plot)
        pixels_of(plot, tmp_path, ROC_SIZE)
        assert "phantom\n120 lesions, histograms of all sites" in texts
        assert "AUROC 0.760 (binning error ≤ 0.0005)" in texts
        assert "95% interval" not in texts
        assert "score ≥ 0.310:\nsensitivity 0.900\nspecificity 0.400" in texts

    def test_without_threshold_has_no_operating_point(self, tmp_path):
        final = dataclasses.replace(FROM_HISTOGRAMS, threshold=None, sensitivity=None, specificity=None)
        plot = draw_roc(CURVE, final=final, band=None, title="phantom")
        texts = texts_of(plot)
        assert share_of(pixels_of(plot, tmp_path, ROC_SIZE), VERMILLION) == 0
        assert not any(text.startswith("score") for text in texts)


class TestRounds:
    def test_private_run_has_a_second_panel(self, tmp_path):
        plot = draw_rounds(ROUNDS, SITES[:2], title="phantom")
        texts = texts_of(plot)
        width, height = ROUNDS_SIZE
        image = pixels_of(plot, tmp_path, (width, height + EPSILON_HEIGHT))
        assert share_of(image, BLUE) > 0.0005
        assert {"AUROC", "sensitivity", "largest of all sites", "ε spent per patient", "round"} <= set(texts)
        assert {"hospital 0: ε = 2.00", "hospital 1: ε = 1.90"} <= set(texts)

    def test_run_without_privacy_has_one_panel(self, tmp_path):
        plot = draw_rounds(without_epsilon(ROUNDS), SITES, title="phantom")
        texts = texts_of(plot)
        pixels_of(plot, tmp_path, ROUNDS_SIZE)
        assert not any("ε" in text for text in texts)

    def test_many_sites_are_named_up_to_the_markers(self):
        texts = texts_of(draw_rounds(ROUNDS, SITES, title="phantom"))
        assert sum(text.startswith("hospital") for text in texts) == len(SITE_MARKERS)
        assert "3 further sites" in texts

    def test_a_single_round_and_one_without_figures_are_drawn(self, tmp_path):
        one = draw_rounds(without_epsilon(ROUNDS[:1]), [], title="one")
        assert share_of(pixels_of(one, tmp_path, ROUNDS_SIZE), BLUE) > 0
        none = draw_rounds(without_epsilon(ROUNDS[1:2]), [], title="none")
        pixels_of(none, tmp_path, ROUNDS_SIZE)

    def test_needs_a_round(self):
        with pytest.raises(ValueError, match="at least one round"):
            draw_rounds([], [], title="phantom")
