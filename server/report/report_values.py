"""The values that report and model card print, as the templates want them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import yaml
from jinja2 import Environment

from server.evaluation.estimates import ESTIMATE_LABELS, SMALL_GROUP_PATIENTS
from server.evaluation.patient_shares import Share
from server.evaluation.predictions import Predictions
from server.report.decisions import NO_SCREENING_STUDY, WHAT_IF_WORDS
from server.report.printed_numbers import MISSING, format_interval, format_number, format_price, in_words
from server.report.stored_run import StoredRun
from server.results.estimate import shown
from server.results.evidence import Evidence, Level
from shared_model.system.html_templates import package_templates

RADIOLOGIST_SENSITIVITY, RADIOLOGIST_SPECIFICITY = 0.869, 0.889
"""US radiologists on screening mammograms (Lehman et al. 2017, Radiology 283:49; Breast Cancer Surveillance
Consortium): another task on other women, so no fair comparison, but a known scale to read the figures by."""
NUM_WORST = 10
"""Errors of each kind that the report lists."""
_ATTRIBUTE_LABELS = {
    "site": "hospital",
    "breast_density": "breast density",
    "assessment": "reader's assessment",
    "abnormality_type": "lesion type",
    "pathology": "pathology",
}


@dataclass(frozen=True, kw_only=True)
class Misclassified:
    """A test lesion on the wrong side of the threshold."""

    kind: str
    """``missed cancer`` or ``false alarm``."""
    score: float
    patient: int
    description: str
    """Its attributes."""


@cache
def template_environment(*packages: str) -> Environment:
    """Return the environment of the templates of this folder, with the functions that print numbers.

    The templates of ``packages`` may include them. It is one for all callers, and compiles a template once.
    """
    environment = package_templates(*packages, "server.report")
    environment.globals |= {
        "number": format_number,
        "price": format_price,
        "between": format_interval,
        "attribute_labels": _ATTRIBUTE_LABELS,
        "missing": MISSING,
        "in_words": in_words,
        "shown": shown,
        "share": format_share,
        "per_thousand": format_per_thousand,
    }
    return environment


def template_values(run: StoredRun) -> dict[str, object]:
    """Return what both templates print, by the name that they use."""
    results = run.results
    return {
        "results": results,
        "evidence": results.evidence,
        "estimate_rows": estimate_rows(results.evidence),
        "by_lesion": None if results.evidence is None else results.evidence.level(Level.LESION),
        "small_group_patients": SMALL_GROUP_PATIENTS,
        "radiologists": {"sensitivity": RADIOLOGIST_SENSITIVITY, "specificity": RADIOLOGIST_SPECIFICITY},
        "worst_errors": worst_errors(run.predictions, results.final.threshold),
        "decisions": run.decisions,
        "no_screening_study": NO_SCREENING_STUDY,
        "what_if_words": WHAT_IF_WORDS,
        "explanations": run.explanations,
        "pictures": run.pictures,
        "rejects": run.rejects,
        "patients": run.patients,
        "configuration": yaml.safe_dump(dict(run.configuration), sort_keys=False),
        "inputs": network_inputs(run.configuration),
    }


def network_inputs(configuration: Mapping[str, object]) -> dict[str, object]:
    """Return what the network reads and how it was trained, from the whole configuration of a run.

    Raises:
        TypeError: ``model``, ``data`` or ``strategy`` is no mapping.
        KeyError: a key is missing.
    """
    model, data, strategy = (configuration[name] for name in ("model", "data", "strategy"))
    if not isinstance(model, Mapping) or not isinstance(data, Mapping) or not isinstance(strategy, Mapping):
        raise TypeError("Expected the configuration's model, data and strategy to be mappings.")
    of_model = {name: model[name] for name in ("modality", "fusion", "backbone")}
    of_data = {"features": data["features"], "types": data["lesion_types"], "views": data.get("views")}
    return {**of_model, **of_data, "strategy": strategy["name"]}


def estimate_rows(evidence: Evidence | None) -> list[tuple[str, str, list[str]]]:
    """Return name, label and one cell per level (lesion, breast, patient) of every estimate that any level has."""
    if evidence is None:
        return []
    names = [name for name in ESTIMATE_LABELS if any(level.estimate(name) is not None for level in evidence.levels)]
    # Predictive values at a prevalence of use are close to 0 and 1, so they need a digit more.
    digits = {name: 4 if name.endswith("_at_prevalence") else 3 for name in names}
    return [
        (name, ESTIMATE_LABELS[name], [shown(level.estimate(name), digits[name]) for level in evidence.levels])
        for name in names
    ]


def format_share(share: Share, digits: int = 3) -> str:
    """Return ``0.851 (0.796 to 0.899)``."""
    between = "" if share.interval is None else f" ({format_interval(share.interval, digits)})"
    return f"{format_number(share.value, digits)}{between}"


def format_per_thousand(share: Share) -> str:
    """Return ``12.5 (8.0 to 19.1)``: of 1,000."""
    interval = share.interval
    between = "" if interval is None else f" ({1000 * interval.low:.1f} to {1000 * interval.high:.1f})"
    return f"{1000 * share.value:.1f}{between}"


def worst_errors(predictions: Predictions | None, threshold: float | None) -> list[Misclassified]:
    """Return the malignant lesions with the lowest scores and the benign ones with the highest.

    Of each kind at most ``NUM_WORST``, the worst first; none without predictions or threshold.
    """
    if predictions is None or threshold is None:
        return []
    missed_cancers, false_alarms = predictions.misclassified(threshold)
    return [
        Misclassified(
            kind=kind,
            score=float(predictions.scores[row]),
            patient=int(predictions.patients[row]),
            description=", ".join(
                f"{_ATTRIBUTE_LABELS.get(name, name)} {values[row]}"
                for name, values in predictions.attributes.items()
                # A missed cancer is malignant: only of a benign lesion does the pathology say more than the label.
                if name != "pathology" or kind == "false alarm"
            ),
        )
        for kind, rows in (("missed cancer", missed_cancers), ("false alarm", false_alarms))
        for row in rows[:NUM_WORST]
    ]
