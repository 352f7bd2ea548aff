"""Privacy reports of a whole simulated federation: one per site, and what the sites mean together."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.privacy.ledger_entries import Purpose
from client.privacy.report.contents import PrivacyReport
from client.privacy.report.figures import largest_bound, report_on
from client.privacy.report.formats import to_json
from client.privacy.report.web_page import federation_to_html, to_html
from shared_model.system.files import write_atomically

FEDERATION = "federation"
"""Name of the files of all sites together, so that no site may bear it."""


def write_privacy_reports(ledgers: Mapping[str, Path], folder: Path) -> None:
    """Write ``SITE.html`` and ``SITE.json`` for every site, and ``federation.html`` and ``federation.json``.

    All sites are priced at one delta, the largest that any of their releases names. A patient known at one site only
    has spent at most the largest epsilon of a site; one known at every site at most the sum, at the sum of the deltas.

    Raises:
        ValueError: there is no site, or one is called like the files of the federation or cannot name a file.
    """
    if not ledgers:
        raise ValueError("Expected at least one site.")
    for site in ledgers:
        if not site or site == FEDERATION or Path(site).name != site:
            raise ValueError(f"Expected site={site!r} to be a file's name other than {FEDERATION!r}.")
    deltas = [report_on(path).delta for path in ledgers.values()]
    delta = max((value for value in deltas if value is not None), default=None)
    reports = {site: report_on(path, delta=delta) for site, path in ledgers.items()}
    for site, report in reports.items():
        write_atomically(folder / f"{site}.html", to_html(report, title=site).encode())
        write_atomically(folder / f"{site}.json", to_json(report).encode())
    document = _document(reports, delta)
    content = json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_atomically(folder / f"{FEDERATION}.json", content.encode())
    write_atomically(folder / f"{FEDERATION}.html", federation_to_html(document).encode())


def _document(reports: Mapping[str, PrivacyReport], delta: float | None) -> dict[str, object]:
    """Return what stands in ``federation.json``; an epsilon is null without a bound or trust."""
    not_verified = [site for site, report in reports.items() if report.problem is not None]
    training = {site: _spent(report, training_only=True) for site, report in reports.items()}
    everyone = {site: _spent(report, training_only=False) for site, report in reports.items()}
    return {
        "unit": "patient",
        "delta": delta,
        "delta_at_every_site": None if delta is None else delta * len(reports),
        "not_verified": not_verified,
        "num_secure_sums": sum(report.num_secure_sums for report in reports.values()),
        "is_noise_secret": all(report.is_noise_secret for report in reports.values()),
        "training_patients": _together(training),
        "all_patients": _together(everyone),
        "sites": {
            site: {
                "is_verified": site not in not_verified,
                "training_epsilon": training[site].epsilon,
                "training_epsilon_alone": training[site].epsilon_alone,
                "training_mu": training[site].mu,
                "epsilon": everyone[site].epsilon,
                "epsilon_alone": everyone[site].epsilon_alone,
                "mu": everyone[site].mu,
            }
            for site in reports
        },
    }


@dataclass(frozen=True)
class _Spent:
    """The most that a patient of a site has spent."""

    epsilon: float | None
    """None without a bound or trust."""
    epsilon_alone: float | None
    """The same to whoever breaks the secure sums."""
    mu: float | None
    """Of Gaussian differential privacy; None also where patients were sampled."""


def _spent(report: PrivacyReport, *, training_only: bool) -> _Spent:
    """Return what a patient of the site has spent at most; 0 where nothing was released."""
    if report.problem is not None:
        return _Spent(None, None, None)
    cohorts = [
        cohort
        for cohort in report.cohorts
        if not training_only or any(run.purpose == Purpose.TRAINING for run in cohort.runs)
    ]
    return _Spent(
        largest_bound([0.0, *(cohort.epsilon for cohort in cohorts)]),
        largest_bound([0.0, *(cohort.epsilon_alone for cohort in cohorts)]),
        largest_bound([0.0, *(cohort.mu for cohort in cohorts)]),
    )


def _together(sites: Mapping[str, _Spent]) -> dict[str, float | None]:
    """Return what one who is known at one site, and one who is known at every site, has spent at most.

    Epsilons add up, with their deltas. Of the mus the squares add up (Dong, Roth and Su 2022, Corollary 3.3), which is
    less.
    """
    epsilons, mus = [spent.epsilon for spent in sites.values()], [spent.mu for spent in sites.values()]
    alone = [spent.epsilon_alone for spent in sites.values()]
    return {
        "epsilon_at_one_site": largest_bound(epsilons),
        "epsilon_at_every_site": _sum(epsilons),
        "epsilon_alone_at_one_site": largest_bound(alone),
        "epsilon_alone_at_every_site": _sum(alone),
        "mu_at_one_site": largest_bound(mus),
        "mu_at_every_site": None if None in mus else math.hypot(*(value for value in mus if value)),
    }


def _sum(epsilons: Sequence[float | None]) -> float | None:
    return None if None in epsilons else math.fsum(value for value in epsilons if value)
