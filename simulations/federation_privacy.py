"""Privacy reports of a whole simulated federation: one per site, and what the sites mean together."""

import json
from collections.abc import Mapping
from pathlib import Path

from client.ledger_entries import Purpose
from client.privacy_report import PrivacyReport, report_on, to_json
from client.privacy_report_html import federation_to_html, to_html
from shared_model.files import write_atomically


def write_privacy_reports(ledgers: Mapping[str, Path], folder: Path, *, max_epsilon: float | None) -> None:
    """Write ``SITE.html`` and ``SITE.json`` for every site, and ``federation.html`` and ``federation.json``.

    A patient known at one site only has spent at most the largest epsilon of a site; one known at several has spent
    their sum. Both are null where nothing bounds a site's spending or its ledger cannot be trusted.
    """
    reports = {site: report_on(path, max_epsilon=max_epsilon) for site, path in ledgers.items()}
    for site, report in reports.items():
        write_atomically(folder / f"{site}.html", to_html(report, title=site).encode())
        write_atomically(folder / f"{site}.json", to_json(report).encode())
    sites = {site: training_epsilon(report) for site, report in reports.items()}
    known = [epsilon for epsilon in sites.values() if epsilon is not None]
    is_bounded = len(known) == len(sites)
    document = {
        "unit": "patient",
        "covers": "training patients; what test and validation patients spent stands in the reports of the sites",
        "epsilon_of_a_patient_at_one_site": max(known) if is_bounded else None,
        "epsilon_of_a_patient_at_every_site": sum(known) if is_bounded else None,
        "sites": sites,
    }
    write_atomically(folder / "federation.json", (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    write_atomically(folder / "federation.html", federation_to_html(document).encode())


def training_epsilon(report: PrivacyReport) -> float | None:
    """Return the most that a training patient of the site has spent; None where nothing bounds it."""
    trained = [
        cohort.epsilon for cohort in report.cohorts if any(run.purpose == Purpose.TRAINING for run in cohort.runs)
    ]
    if report.problem is not None or not trained or None in trained:
        return None
    return max(epsilon for epsilon in trained if epsilon is not None)
