"""What a privacy report says of a ledger; ``figures`` computes it, ``formats`` and ``web_page`` write it down."""

import dataclasses

ADJACENCY = "add or remove one patient with all lesions"
NO_NOISE = "none"
MAX_ROUNDS_LEFT = 1000
"""Rounds left are counted no further."""
MAX_SECOND_EPSILON = 100.0
"""Beyond it the second accountant takes minutes or breaks down, and the figure says that there is no protection."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What one run has spent on a cohort, for one purpose."""

    run: str
    """Fingerprint of the run's configuration, shortened."""
    purpose: str
    first: str
    """ISO 8601, by the site's clock."""
    last: str
    num_patients_declared: int
    num_rounds_answered: int
    num_releases: int
    """Reservations, answered or not: all of them count. 0 for a run without noise, which reserves nothing."""
    num_unanswered: int
    """Those whose reply never left: the round crashed, or is still being computed."""
    noise: str
    """``secure``, ``seeded`` (protects nobody) if any release was, or ``none``."""
    noise_multiplier: float | None
    """The smallest of the run; None without noise."""
    sampling_rate: float | None
    """The largest of the run; None without noise."""
    target_epsilon: float | None
    """What the run promised, at ``delta``; None without noise."""
    delta: float | None
    """The largest of the run; None without noise."""
    epsilon: float | None
    """Of this run alone, at ``delta``; None where nothing bounds it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortReport:
    """What the patients of one cohort have spent; totals include all that overlapping cohorts spent."""

    cohort: str
    """Fingerprint, shortened."""
    num_patients: int
    """Exact: this report stays at the site."""
    num_overlapping: int
    """Other cohorts with a patient in common."""
    runs: tuple[RunReport, ...]
    """Of this cohort itself."""
    num_unprotected: int
    """Runs that released something without noise; then nothing bounds the total."""
    is_noise_secret: bool
    """False if any release had seeded noise: then ``epsilon`` bounds nothing that the holder of the seed learns."""
    own_epsilon: float | None
    """Of this cohort's releases alone, at the report's delta; None where nothing bounds it."""
    epsilon: float | None
    """Of everything, at the report's delta; None where nothing bounds it."""
    attack_success: float | None
    """The most accurate that any test for one patient's presence can be, from even odds before; in [0.5, 1]."""
    epsilon_second: float | None
    """``epsilon`` by an independent accountant; None above ``MAX_SECOND_EPSILON``."""
    epsilon_renyi: float | None
    """A looser bound, as a sanity check."""
    accountants_agree: bool | None
    """None where there is nothing to compare."""
    rounds_left: int | None
    """How many more releases like the last one stay below the site's limit; None without limit or release."""
    course: tuple[tuple[int, float], ...]
    """Number of releases and epsilon after them, increasing; empty where nothing bounds it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyReport:
    """A whole ledger; without figures where the ledger cannot be trusted."""

    created: str
    """ISO 8601."""
    ledger: str
    head: str
    """Digest of the last entry: a signed report with it pins everything before."""
    num_entries: int
    problem: str | None
    """Why the ledger is not to be trusted; None when the chain was verified."""
    unit: str = "patient"
    adjacency: str = ADJACENCY
    delta: float | None
    max_epsilon: float | None
    """What the site's policy grants a patient; None where it sets no limit, or was not asked."""
    max_delta: float | None
    """The delta at which ``max_epsilon`` holds."""
    is_over_cap: bool
    """Whether some patient has spent more than ``max_epsilon`` at ``max_delta``."""
    epsilon: float | None
    """The most that any patient of the site has spent; None where nothing bounds it, or there is nothing."""
    attack_success: float | None
    """The largest of the cohorts, under the same conditions."""
    is_noise_secret: bool
    clock_went_back: bool
    cohorts: tuple[CohortReport, ...]
