"""The report of a run as one HTML file that needs nothing else, and its model card, both from the same results."""

import base64
import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from jinja2 import Environment
from matplotlib.figure import Figure

from server.evaluation.estimates import FIGURES, SMALL_GROUP, roc_band
from server.evaluation.predictions import HISTOGRAM_FILE, PREDICTIONS_FILE, Predictions, counts_from_csv
from server.report.epsilon_sweep import Sweep, draw_sweep, read_sweep, sweep_in_words
from server.report.evidence_figures import draw_decision, draw_forest, draw_precision_recall, draw_reliability
from server.report.explanations import EXPLANATIONS, Explanations, read_index
from server.report.run_figures import draw_roc, draw_rounds, to_svg
from server.report.run_folder import CONFIG_FILE
from server.results.document import RESULTS_FILE, Results, read_results
from server.results.evidence import Evidence, Level, shown
from shared_model.errors import ConfigError, DataError
from shared_model.metrics.bootstrap import RocBand
from shared_model.metrics.counts import ClassCounts, Interval, roc_of
from shared_model.system.files import write_atomically
from shared_model.system.html_templates import page_environment

REPORT_FILE, MODEL_CARD_FILE = "report.html", "model_card.md"
BENCHMARK_SENSITIVITY, BENCHMARK_SPECIFICITY = 0.869, 0.889
"""US radiologists on screening mammograms (Lehman et al. 2017, Radiology 283:49; Breast Cancer Surveillance
Consortium): another task on other women, given as a mark and not as a rival."""
NUM_WORST = 10
_TITLES = {
    "site": "hospital",
    "breast_density": "breast density",
    "abnormality_type": "lesion type",
    "pathology": "pathology",
}
_MISSING = "-"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished run, and what the results alone do not hold."""

    results: Results
    configuration: Mapping[str, object]
    """As in ``config.yaml``."""
    counts: ClassCounts | None
    """Test lesions by score; None where they are of one class or their counts noisy."""
    band: RocBand | None
    predictions: Predictions | None
    """The server's own test lesions; None where figures come from the sites' histograms."""
    rejects: Mapping[str, Mapping[str, int]]
    """Rows that could not be used, by simulated site and reason; empty where sites keep that to themselves."""
    patients: Mapping[str, Mapping[str, tuple[int, int]]]
    """Patients and lesions in use, by simulated site and role; empty likewise."""
    explanations: Explanations | None
    """None until ``simulations.explanations.command`` has been run."""
    pictures: Mapping[str, str]
    """Picture of an explained lesion to its ``data:`` address."""
    sweep: Sweep | None
    """None unless the run is one of an epsilon study."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture of the report."""

    title: str
    alternative: str
    """What it shows, for who cannot see it."""
    source: str
    """A ``data:`` address."""
    is_wide: bool


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A test lesion on the wrong side of the threshold, far from it."""

    kind: str
    score: float
    patient: int
    described: str


def write_report(folder: Path) -> None:
    """Write report and model card into the folder of a finished run, from what lies there.

    Raises:
        ConfigError: the folder holds no finished run, or a file of it cannot be read.
    """
    report = read_report(folder)
    write_atomically(folder / REPORT_FILE, to_html(report).encode())
    write_atomically(folder / MODEL_CARD_FILE, to_model_card(report).encode())


def read_report(folder: Path) -> Report:
    """Gather what the report shows.

    Raises:
        ConfigError: the folder holds no finished run, or a file of it cannot be read.
    """
    try:
        results = read_results(folder / RESULTS_FILE)
        configuration = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        num_resamples = int(configuration["evaluation"]["bootstrap_resamples"])
        predictions, counts = _read_scores(folder)
        rejects, patients = _read_rejects(folder), _read_patients(folder)
        explanations = read_index(folder / EXPLANATIONS)
        pictures = _read_pictures(folder / EXPLANATIONS, explanations)
        sweep = read_sweep(folder)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError, DataError) as error:
        raise ConfigError(f"Expected a finished run in {folder}: {error}") from error
    return Report(
        results=results,
        configuration=configuration,
        counts=counts,
        band=None if predictions is None else roc_band(predictions, num_resamples, results.seed),
        predictions=predictions,
        rejects=rejects,
        patients=patients,
        explanations=explanations,
        pictures=pictures,
        sweep=sweep,
    )


def _read_pictures(folder: Path, explanations: Explanations | None) -> dict[str, str]:
    if explanations is None:
        return {}
    contents = {lesion.file: (folder / lesion.file).read_bytes() for lesion in explanations.lesions}
    return {name: f"data:image/png;base64,{base64.b64encode(content).decode()}" for name, content in contents.items()}


def _read_scores(folder: Path) -> tuple[Predictions | None, ClassCounts | None]:
    if (folder / PREDICTIONS_FILE).exists():
        predictions = Predictions.from_csv(folder / PREDICTIONS_FILE)
        return predictions, predictions.counts
    return None, counts_from_csv(folder / HISTOGRAM_FILE) if (folder / HISTOGRAM_FILE).exists() else None


def to_html(report: Report) -> str:
    """Return the whole page."""
    return _environment().get_template("report.html").render(**_content(report), plots=_plots(report))


def to_model_card(report: Report) -> str:
    """Return the model card as Markdown, in the sections of Mitchell et al. 2019, Model Cards for Model Reporting."""
    return _environment().get_template("model_card.md").render(**_content(report)).strip() + "\n"


def _read_rejects(folder: Path) -> dict[str, dict[str, int]]:
    """Count the rows of ``sites/*/rejects.csv`` by site and reason."""
    tables = _site_tables(folder, "rejects.csv")
    return {site: dict(Counter(row["reason"] for row in rows)) for site, rows in tables.items()}


def _read_patients(folder: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Read patients and lesions by site and role from ``sites/*/patients.csv``, which a simulation writes."""
    tables = _site_tables(folder, "patients.csv")
    return {
        site: {row["role"]: (int(row["patients"]), int(row["lesions"])) for row in rows}
        for site, rows in tables.items()
    }


def _site_tables(folder: Path, name: str) -> dict[str, list[dict[str, str]]]:
    tables: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.glob(f"sites/*/{name}")):
        with path.open(newline="", encoding="utf-8") as stream:
            tables[path.parent.name] = list(csv.DictReader(stream))
    return tables


def _environment() -> Environment:
    environment = page_environment("server.report")
    environment.globals |= {
        "number": _number,
        "between": _between,
        "titles": _TITLES,
        "missing": _MISSING,
        "shown": shown,
    }
    return environment


def _content(report: Report) -> dict[str, object]:
    results = report.results
    return {
        "results": results,
        "evidence": results.evidence,
        "rows": _figure_rows(results.evidence),
        "by_lesion": None if results.evidence is None else results.evidence.level(Level.LESION),
        "small_group": SMALL_GROUP,
        "benchmark": {"sensitivity": BENCHMARK_SENSITIVITY, "specificity": BENCHMARK_SPECIFICITY},
        "mistakes": _mistakes(report.predictions, results.final.threshold),
        "explanations": report.explanations,
        "pictures": report.pictures,
        "rejects": report.rejects,
        "patients": report.patients,
        "configuration": yaml.safe_dump(dict(report.configuration), sort_keys=False),
        "inputs": _inputs(report.configuration),
    }


def _inputs(configuration: Mapping[str, object]) -> dict[str, object]:
    """Return what the network reads, for a sentence."""
    model, data = configuration["model"], configuration["data"]
    if not isinstance(model, Mapping) or not isinstance(data, Mapping):
        raise TypeError("Expected the configuration's model and data to be mappings.")
    names = ("modality", "fusion", "backbone")
    of_data = {"features": data["features"], "types": data["lesion_types"], "views": data.get("views")}
    return {**{name: model[name] for name in names}, **of_data}


def _figure_rows(evidence: Evidence | None) -> list[tuple[str, str, list[str]]]:
    """Return name and label of every figure, and a cell for every level."""
    if evidence is None:
        return []
    names = [name for name in FIGURES if any(level.figure(name) is not None for level in evidence.levels)]
    # Predictive values of screening are near 0 and 1.
    digits = {name: 4 if name.endswith("_at_prevalence") else 3 for name in names}
    return [(n, FIGURES[n], [shown(level.figure(n), digits[n]) for level in evidence.levels]) for n in names]


def _mistakes(predictions: Predictions | None, threshold: float | None) -> list[Mistake]:
    """Return the malignant lesions with the lowest scores and the benign ones with the highest."""
    if predictions is None or threshold is None:
        return []
    missed, alarms = predictions.errors(threshold)
    return [
        Mistake(
            kind=kind,
            score=float(predictions.scores[row]),
            patient=int(predictions.patients[row]),
            described=", ".join(
                f"{_TITLES.get(name, name)} {values[row]}"
                for name, values in predictions.attributes.items()
                if name != "pathology" or kind == "false alarm"
            ),
        )
        for kind, rows in (("missed cancer", missed), ("false alarm", alarms))
        for row in rows[:NUM_WORST]
    ]


def _plots(report: Report) -> list[Plot]:
    results, evidence, counts = report.results, report.results.evidence, report.counts
    plots: list[Plot] = []

    def add(title: str, figure: Figure | None, alternative: str, *, is_wide: bool = False) -> None:
        if figure is not None:
            source = "data:image/svg+xml;base64," + base64.b64encode(to_svg(figure)).decode()
            plots.append(Plot(title=title, alternative=alternative, source=source, is_wide=is_wide))

    if counts is not None and evidence is not None:
        lesions = evidence.levels[0]
        final = results.final
        add(
            "ROC curve",
            draw_roc(roc_of(counts), final=final, band=report.band, title=results.preset),
            f"ROC curve with an area of {_number(final.auroc)}.",
        )
        precision = lesions.figure("average_precision")
        add(
            "Precision and recall",
            draw_precision_recall(counts, precision),
            f"Precision over recall; average precision {_number(precision.value if precision else None)}.",
        )
        error = lesions.figure("calibration_error")
        if error is not None:
            add(
                "Calibration",
                draw_reliability(counts, error),
                f"Observed over predicted share of malignant lesions; calibration error {_number(error.value)}.",
            )
        add(
            "Decision curve",
            draw_decision(counts),
            "Net benefit of acting on the network, on all lesions and on none, over the risk from which one acts.",
        )
    add(
        "Rounds",
        draw_rounds(results.rounds, results.sites, title=results.preset),
        f"Figures of merit over {len(results.rounds)} rounds, and the epsilon spent where training was private.",
        is_wide=True,
    )
    if report.sweep is not None:
        add("AUC over epsilon", draw_sweep(report.sweep), sweep_in_words(report.sweep), is_wide=True)
    if evidence is not None:
        add(
            "Groups",
            draw_forest(evidence),
            "AUC, sensitivity and specificity of every group with intervals; the table below has the numbers.",
            is_wide=True,
        )
    return plots


def _number(value: float | None, digits: int = 3) -> str:
    return _MISSING if value is None else f"{value:.{digits}f}"


def _between(interval: Interval | None, digits: int = 3) -> str:
    return _MISSING if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"
