"""A report made by hand, without a ledger."""

import pytest

from client.privacy.report.contents import CohortReport, PrivacyReport, RunReport

RUN = {
    "run": "a" * 12,
    "purpose": "training",
    "first": "2026-01-02T03:04:05+00:00",
    "last": "2026-01-03T03:04:05+00:00",
    "num_patients_declared": 20,
    "num_rounds_answered": 2,
    "num_releases": 3,
    "num_unanswered": 1,
    "noise": "secure",
    "num_secure_sums": 0,
    "noise_multiplier": 2.0,
    "noise_multiplier_alone": 2.0,
    "sampling_rate": 1.0,
    "target_epsilon": 8.0,
    "delta": 1e-4,
    "epsilon": 1.23401,
    "epsilon_alone": 1.23401,
    "mu": 0.866,
}
COHORT = {
    "cohort": "c" * 12,
    "num_patients": 24,
    "num_overlapping": 0,
    "num_unprotected": 0,
    "is_noise_secret": True,
    "own_epsilon": 1.23401,
    "epsilon": 1.23401,
    "epsilon_alone": 1.23401,
    "mu": 0.866,
    "attack_success": 0.7712,
    "epsilon_second": 1.234,
    "epsilon_renyi": 1.5,
    "accountants_agree": True,
    "rounds_left": 7,
    "course": ((1, 0.6), (3, 1.23401)),
}
REPORT = {
    "created": "2026-01-04T00:00:00+00:00",
    "ledger": "name",
    "head": "d" * 64,
    "num_entries": 9,
    "problem": None,
    "delta": 1e-4,
    "max_epsilon": 8.0,
    "max_delta": 1e-4,
    "is_over_cap": False,
    "epsilon": 1.23401,
    "attack_success": 0.7712,
    "mu": 0.866,
    "is_noise_secret": True,
    "clock_went_back": False,
}


SECURE = {
    "num_secure_sums": 3,
    "epsilon_alone": 2.34501,
    "max_epsilon_alone": 12.5,
    "run": {"num_secure_sums": 3, "noise_multiplier_alone": 1.1547, "epsilon_alone": 2.34501},
    "cohort": {"epsilon_alone": 2.34501},
}
"""What differs in a report of secure sums."""


@pytest.fixture
def make_secure_report(make_report):
    """Return a function that makes the same of secure sums."""
    return lambda **changes: make_report(**SECURE | changes)


@pytest.fixture
def make_report():
    """Return a function that makes a report of one run of one cohort, with some values changed."""

    def make(*, run=None, cohort=None, **changes):
        runs = (RunReport(**RUN | (run or {})),)
        cohorts = (CohortReport(**COHORT | {"runs": runs} | (cohort or {})),)
        return PrivacyReport(**REPORT | {"cohorts": cohorts} | changes)

    return make
