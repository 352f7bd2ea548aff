"""The report of a run as a page that needs nothing else, from the files in its folder."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, counts_to_csv
from server.report.html_report import REPORT_FILE, to_html, write_report
from server.report.model_card import MODEL_CARD_FILE, to_model_card
from server.report.stored_run import StoredRun
from server.results.document import RESULTS_FILE, read_results, write_results
from shared_model.errors import ConfigError
from shared_model.metrics.score_histogram import ScoreHistogram
from simulations.commands.app import main

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest, and keeps images, addresses and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.images, self.addresses, self.text = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.images.append(values)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def folder(smoke, tmp_path):
    return shutil.copytree(smoke.first, tmp_path / "run")


def test_the_page_is_whole_and_asks_nobody(folder):
    html = (folder / REPORT_FILE).read_text()
    page = Page(html)
    assert len(page.images) == 6
    assert all(image["alt"] for image in page.images)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert "http://" not in html
    assert "https://" not in html
    assert "<script" not in html


def test_it_shows_the_figures_of_the_results(folder):
    results, text = read_results(folder / RESULTS_FILE), " ".join(Page((folder / REPORT_FILE).read_text()).text)
    card = (folder / MODEL_CARD_FILE).read_text()
    shown = [f"{results.final.auroc:.3f}", results.provenance.source_fingerprint]
    shown += [f"{figure.value:.3f}" for figure in results.evidence.levels[2].figures[:3]]
    for value in [*shown, *(site.site for site in results.sites)]:
        assert value in text
        assert value in card
    assert f"{results.evidence.levels[0].fn}" in text
    assert "excluded" not in text.lower() or "test split" in text
    assert re.search(r"train \d+ \(\d+\)", text)


def test_it_can_be_written_again(folder):
    before = (folder / MODEL_CARD_FILE).read_bytes()
    (folder / REPORT_FILE).unlink()
    (folder / MODEL_CARD_FILE).unlink()
    assert main(["server", "report", str(folder)]) == 0
    assert (folder / MODEL_CARD_FILE).read_bytes() == before
    assert (folder / REPORT_FILE).exists()


def test_a_folder_without_results_is_an_error_in_one_line(folder, capsys):
    (folder / RESULTS_FILE).unlink()
    (folder / REPORT_FILE).unlink()
    assert main(["server", "report", str(folder)]) == 1
    assert "Expected a finished run" in capsys.readouterr().err
    assert not (folder / REPORT_FILE).exists()


@pytest.mark.parametrize("name", [PREDICTIONS_FILE, "config.yaml"])
def test_a_damaged_file_is_named(folder, name):
    (folder / name).write_text("{")
    with pytest.raises(ConfigError, match="Expected a finished run"):
        StoredRun.load(folder)


def test_what_comes_from_files_is_escaped(folder):
    text = (folder / PREDICTIONS_FILE).read_text().replace(",mass,", ",<b>mass</b>,")
    (folder / PREDICTIONS_FILE).write_text(text)
    html = to_html(StoredRun.load(folder))
    Page(html)
    assert "<b>" not in html


def test_a_server_without_lesions_shows_what_histograms_say(folder):
    run = StoredRun.load(folder)
    histogram = ScoreHistogram.from_scores(run.predictions.labels, run.predictions.scores, 100)
    (folder / PREDICTIONS_FILE).unlink()
    (folder / HISTOGRAM_FILE).write_bytes(counts_to_csv(histogram.class_counts))
    shutil.rmtree(folder / "sites")
    write_report(folder)
    page = Page((folder / REPORT_FILE).read_text())
    assert "stays at the site" in " ".join(page.text)
    assert "Worst errors" not in " ".join(page.text)


def test_without_any_evidence_the_page_says_so(folder):
    results = read_results(folder / RESULTS_FILE)
    final = dataclasses.replace(
        results.final, auroc=None, auroc_interval=None, sensitivity=None, sensitivity_interval=None,
        specificity=None, specificity_interval=None, threshold=None,
    )  # fmt: skip
    write_results(dataclasses.replace(results, final=final, evidence=None), folder / RESULTS_FILE)
    (folder / PREDICTIONS_FILE).unlink()
    write_report(folder)
    page = Page((folder / REPORT_FILE).read_text())
    assert len(page.images) == 1
    assert "give no AUC" in " ".join(page.text)
    assert "AUC -" in (folder / MODEL_CARD_FILE).read_text()


def test_the_worst_errors_are_the_furthest_from_the_threshold(folder):
    run = StoredRun.load(folder)
    threshold = float(np.median(run.predictions.scores))
    final = dataclasses.replace(run.results.final, threshold=threshold)
    changed = dataclasses.replace(run, results=dataclasses.replace(run.results, final=final))
    text = " ".join(Page(to_html(changed)).text)
    predictions = run.predictions
    missed = predictions.scores[(predictions.labels == 1) & (predictions.scores < threshold)]
    alarms = predictions.scores[(predictions.labels == 0) & (predictions.scores >= threshold)]
    assert f"{missed.min():.3f}" in text
    assert f"{alarms.max():.3f}" in text
    assert text.count("false alarm") == min(10, len(alarms))


def test_the_model_card_is_a_table_that_renders(folder):
    card = to_model_card(StoredRun.load(folder))
    for block in re.findall(r"(?:^\|.*\n)+", card, flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def luminance(colour):
    """Relative luminance (WCAG 2.2) of ``#rgb`` or ``#rrggbb``."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722)


def test_text_stands_out_and_wide_tables_can_be_scrolled_with_the_keyboard(folder):
    html = (folder / REPORT_FILE).read_text()
    colours = re.findall(r"(?<![-\w])color: (#[0-9a-f]+)", html)
    (background,) = re.findall(r"background: (#[0-9a-f]+)", html)
    assert len(colours) >= 4
    # WCAG 2.2, 1.4.3, level AA.
    assert all((luminance(background) + 0.05) / (luminance(colour) + 0.05) >= 4.5 for colour in colours)
    assert html.count('<div class="scroll" tabindex="0"><table') == html.count("<table") > 0
    assert ":focus-visible" in html
