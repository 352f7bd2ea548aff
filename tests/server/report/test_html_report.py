"""The report of a run as a page that needs nothing else, from the files in its folder."""

import dataclasses
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, counts_to_csv
from server.evaluation.training_histogram import write_training_histogram
from server.report import html_report
from server.report.explanations import (
    EXPLANATIONS_FOLDER,
    Explanations,
    LesionExplanation,
    SaliencyCheck,
    write_explanations,
)
from server.report.html_report import REPORT_FILE, to_html, write_report
from server.report.model_card import MODEL_CARD_FILE, to_model_card
from server.report.run_folder import CONFIG_FILE
from server.report.stored_run import PATIENTS_FILE, REJECTS_FILE, StoredRun
from server.results.document import RESULTS_FILE, read_results, write_results
from shared_model.errors import ConfigError
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.patient_histogram import PatientHistogram
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


@pytest.fixture(scope="module")
def finished_simulation(finished_run, tmp_path_factory):
    """A run as a simulation leaves it: with tables of what its sites used and set aside."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("simulation") / "run")
    for site in ("MGH", "WFU"):
        (folder / "sites" / site).mkdir(parents=True)
        (folder / "sites" / site / PATIENTS_FILE).write_text("role,patients,lesions\ntrain,17,21\ntest,5,6\n")
        (folder / "sites" / site / REJECTS_FILE).write_text("row,reason\n3,no image\n8,no image\n")
    write_report(folder)
    return folder


@pytest.fixture
def without_plots(monkeypatch):
    """Leave out the plots, which take most of the time, where words are looked at."""
    monkeypatch.setattr(html_report, "report_plots", lambda run: [])


@pytest.fixture
def folder(finished_simulation, tmp_path):
    return shutil.copytree(finished_simulation, tmp_path / "run")


def text_of(folder):
    """The words of the page, as a reader sees them."""
    write_report(folder)
    return " ".join(" ".join(Page((folder / REPORT_FILE).read_text()).text).split())


def change_results(folder, **changes):
    """Replace parts of the results; a mapping replaces fields within a part."""
    results = read_results(folder / RESULTS_FILE)
    parts = {
        name: dataclasses.replace(getattr(results, name), **change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    write_results(dataclasses.replace(results, **parts), folder / RESULTS_FILE)


@pytest.mark.usefixtures("without_plots")
def test_a_doubtful_ledger_is_named_with_its_round(folder):
    assert "does not continue" not in text_of(folder)
    first, *others = read_results(folder / RESULTS_FILE).rounds
    warning = "the ledger of <b>MGH</b> does not continue from what it showed before: it was restored or copied"
    change_results(folder, rounds=(dataclasses.replace(first, warnings=(warning,)), *others))
    text = text_of(folder)
    assert f"In round 1 {warning}. A restored or copied ledger forgets" in text


@pytest.mark.usefixtures("without_plots")
def test_a_site_that_stood_out_is_named_with_its_rounds(folder):
    assert "Ask the site before its figures are used: its update" not in text_of(folder)
    outlier = "<b>MGH</b> points away from the other sites and did not count"
    rounds = read_results(folder / RESULTS_FILE).rounds
    change_results(folder, rounds=tuple(dataclasses.replace(entry, outliers=(outlier,)) for entry in rounds))
    assert f"{outlier}, in rounds 1 to 4. Ask the site before its figures are used" in text_of(folder)


def change_configuration(folder, **changes):
    configuration = yaml.safe_load((folder / CONFIG_FILE).read_text())
    for section, values in changes.items():
        configuration[section] |= values
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(configuration, sort_keys=False))


@pytest.mark.slow
def test_the_report_of_a_whole_simulation(smoke):
    check_page(smoke.first)
    check_figures(smoke.first)


def test_the_page_is_whole_and_asks_nobody(folder):
    check_page(folder)


def check_page(folder):
    html = (folder / REPORT_FILE).read_text()
    page = Page(html)
    assert len(page.images) == 6
    assert all(image["alt"] for image in page.images)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert "http://" not in html
    assert "https://" not in html
    assert "<script" not in html


def test_it_shows_the_figures_of_the_results(folder):
    check_figures(folder)


def check_figures(folder):
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


@pytest.mark.usefixtures("without_plots")
def test_what_comes_from_files_is_escaped(folder):
    text = (folder / PREDICTIONS_FILE).read_text().replace(",mass,", ",<b>mass</b>,")
    assert "<b>" in text
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


@pytest.mark.usefixtures("without_plots")
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


@pytest.mark.usefixtures("without_plots")
class TestWords:
    """What the page says depends on what was done."""

    def test_no_page_names_a_module_to_run(self, folder):
        for name in (REPORT_FILE, MODEL_CARD_FILE):
            assert "python -m" not in (folder / name).read_text()
        assert "fedmammo site privacy-report" in (folder / REPORT_FILE).read_text()

    def test_nothing_is_printed_as_python_prints_it(self, folder):
        printed = re.compile(r"\b(None|nan|inf|True|False)\b|\{\{|<bound|<built-in")
        assert not printed.search(text_of(folder).split("The whole configuration")[0])
        assert not printed.search((folder / MODEL_CARD_FILE).read_text())

    def test_rows_that_were_set_aside_are_counted_by_reason(self, folder):
        text = text_of(folder)
        assert "2: no image" in text
        assert "train 17 (21)" in text

    def test_where_the_threshold_comes_from(self, folder):
        assert "on public training patients, so that it reaches sensitivity 0.9 there" in text_of(folder)
        change_results(folder, final={"threshold_source": "site_validation"})
        text = text_of(folder)
        assert "on the sites' validation patients, so that it reaches" in text
        assert "rescaled" not in text

    def test_seeded_noise_is_a_warning(self, folder):
        assert "SEEDED" not in text_of(folder)
        change_results(folder, privacy={"noise_source": "seeded"})
        assert "The noise was SEEDED: who knows the seed can compute and remove it" in text_of(folder)

    def test_the_radiologist_s_assessment_as_an_input_is_a_limit(self, folder):
        assert "own assessment is an input" not in text_of(folder)
        change_configuration(folder, data={"features": "reader"})
        assert "own assessment is an input" in text_of(folder)
        assert "own assessment is an input" in (folder / MODEL_CARD_FILE).read_text()

    def test_what_the_network_reads(self, folder):
        assert "The network reads clinical columns (policy descriptors )" in text_of(folder)
        change_configuration(folder, model={"modality": "fusion", "fusion": "late"}, data={"views": "all"})
        text = text_of(folder)
        assert "images and clinical columns" in text
        assert "late fusion, the mean over all views of a lesion" in text
        change_configuration(folder, model={"modality": "image"})
        assert "policy" not in text_of(folder).split("Calls at the frozen threshold")[0]

    def test_a_run_without_privacy_promises_nothing(self, folder):
        results = read_results(folder / RESULTS_FILE)
        off = dataclasses.replace(
            results.privacy, unit="none", adjacency=None, mechanism=None, target_epsilon=None, noise_source=None,
            statement="No privacy guarantee: updates were neither clipped nor noised.",
        )  # fmt: skip
        bare = {"epsilon": None, "delta": None, "noise_multiplier": None, "epsilon_by_colluding": ()}
        change_results(
            folder,
            privacy=off,
            rounds=tuple(dataclasses.replace(entry, epsilon=None) for entry in results.rounds),
            sites=tuple(dataclasses.replace(site, **bare) for site in results.sites),
        )
        text = text_of(folder)
        assert "No privacy guarantee" in text
        assert "Mechanism" not in text
        assert "Epsilon covers only" not in text

    def test_secure_sums_have_a_price_for_every_number_of_sites_that_work_with_the_server(self, folder):
        assert "work with the server" not in text_of(folder) + (folder / MODEL_CARD_FILE).read_text()
        results = read_results(folder / RESULTS_FILE)
        change_results(
            folder,
            privacy=dataclasses.replace(results.privacy, secure_sum=True, num_noise_shares=3, max_colluding=1),
            sites=tuple(
                dataclasses.replace(site, epsilon_by_colluding=(site.epsilon, 90.001, None)) for site in results.sites
            ),
        )
        text, card = text_of(folder), (folder / MODEL_CARD_FILE).read_text()
        for shown in ("90.01", "unbounded"):
            assert text.count(shown) == card.count(shown) == len(results.sites)
        assert "Up to 1 of them cannot open a sum of fewer sites" in text
        assert "(who sees only sums)" in text
        assert "| 2 (all others, or whoever breaks the sums) | unbounded |" in card

    def test_small_groups_are_marked(self, folder):
        results = read_results(folder / RESULTS_FILE)
        assert any(group.is_small for group in results.evidence.groups)
        text, card = text_of(folder), (folder / MODEL_CARD_FILE).read_text()
        assert (
            text.count("(small)") == card.count("(small)") == sum(group.is_small for group in results.evidence.groups)
        )
        assert "fewer than 30 patients" in text

    def test_explanations_are_shown_with_their_checks(self, folder):
        assert "Can the maps be trusted?" not in text_of(folder)
        check = SaliencyCheck(
            method="Grad-CAM", num_lesions=3, num_marked=2, area=0.25, energy=0.5, pointing=1.0, deletion=0.125,
            deletion_random=0.375, insertion=0.625, insertion_random=0.875, similarity=None,
        )  # fmt: skip
        lesion = LesionExplanation(file="0.png", row=0, kind="false alarm", score=0.8, image_share=0.5, columns=())
        (folder / EXPLANATIONS_FOLDER).mkdir()
        write_explanations(Explanations(lesions=(lesion,), checks=(check,)), folder / EXPLANATIONS_FOLDER)
        (folder / EXPLANATIONS_FOLDER / "0.png").write_bytes(b"picture")
        text = text_of(folder)
        for value in ("0.250", "0.500", "1.000", "0.125", "0.375", "0.625", "0.875"):
            assert value in text
        assert "Means over 3 test lesions, 2 with a known box." in text
        images = Page((folder / REPORT_FILE).read_text()).images
        assert images[-1]["alt"].startswith("false alarm, score 0.800: image, two saliency maps over it")
        assert images[-1]["src"] == "data:image/png;base64,cGljdHVyZQ=="


@pytest.mark.usefixtures("without_plots")
def test_the_strategy_stands_in_report_and_card(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    configuration = yaml.safe_load((folder / CONFIG_FILE).read_text())
    configuration["strategy"]["name"] = "one_shot"
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(configuration))
    run = StoredRun.load(folder)
    assert "one exchange (strategy one_shot)" in "".join(Page(to_html(run)).text)
    assert "trained by federated learning (strategy `one_shot`)" in to_model_card(run)


@pytest.mark.usefixtures("without_plots")
class TestBesideAReader:
    @pytest.fixture
    def folder(self, finished_run, tmp_path):
        folder = shutil.copytree(finished_run, tmp_path / "run")
        header, *rows = (folder / PREDICTIONS_FILE).read_text().splitlines()
        assessments = ["2", "4", "5", "3", "not stated"]
        lines = [f"{row},{assessments[number % 5]}" for number, row in enumerate(rows)]
        (folder / PREDICTIONS_FILE).write_text("\n".join([f"{header},assessment", *lines]) + "\n")
        return folder

    @pytest.mark.parametrize(
        ("modality", "features", "shown"),
        [
            ("image", "descriptors", True),
            ("fusion", "safe", True),
            ("clinical", "safe", True),
            ("fusion", "descriptors", False),
            ("clinical", "reader", False),
        ],
    )
    def test_shown_only_of_a_network_that_reads_nothing_that_the_reader_wrote(self, folder, modality, features, shown):
        configuration = yaml.safe_load((folder / CONFIG_FILE).read_text())
        configuration["model"]["modality"], configuration["data"]["features"] = modality, features
        (folder / CONFIG_FILE).write_text(yaml.safe_dump(configuration))
        text = "".join(Page(to_html(StoredRun.load(folder))).text)
        assert ("The network calls a lesion malignant from the frozen threshold on" in text) == shown
        assert ("Beside a reader: The network reads what the same radiologist wrote" in text) != shown
        assert ("24 without an assessment from 1 to 5 are left out" in text) == shown
        assert ("disagreements decided by a third reader who is never wrong" in text) == shown

    def test_not_shown_without_a_threshold(self, folder):
        results = read_results(folder / RESULTS_FILE)
        gone = dict.fromkeys(("threshold", "sensitivity", "specificity"))
        gone |= {"sensitivity_interval": None, "specificity_interval": None}
        write_results(
            dataclasses.replace(results, final=dataclasses.replace(results.final, **gone)), folder / RESULTS_FILE
        )
        decisions = StoredRun.load(folder).decisions
        assert decisions.second_reader is None
        assert decisions.missing["second_reader"] == "The run has no operating threshold."


def test_rule_out_stands_in_the_report_of_a_run_whose_training_patients_chose_the_threshold(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    text = "".join(Page(to_html(StoredRun.load(folder))).text)
    assert "If low scores were ruled out" not in text
    assert "Ruling out low scores: No histogram of training patients chose the threshold" in text
    counts = np.array([120.0, 80, 60, 30, 15, 5])
    write_training_histogram(folder, PatientHistogram(negatives=counts, positives=counts[::-1], noise_std=1.0))
    text = "".join(Page(to_html(StoredRun.load(folder))).text)
    assert "If low scores were ruled out" in text
    assert all(f"{row.threshold:.3f}" in text for row in StoredRun.load(folder).decisions.rule_out)
