"""What a privacy report says of a ledger; ``figures`` computes it, ``formats`` and ``web_page`` write it down."""

import dataclasses

from shared_model.privacy.one_run_bound import OneRunAudit

ADJACENCY = "add or remove one patient with all lesions"
NO_NOISE = "none"
SHORT = 12
"""Digits of a fingerprint that a report gives."""
MAX_ROUNDS_LEFT = 1000
"""Rounds left are counted no further."""
MAX_SECOND_EPSILON = 100.0
"""Beyond it the second accountant takes minutes or breaks down, and the figure says that there is no protection."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refusals:
    """Requests that the site answered with a refusal, from its audit log. They are counted, and have no price."""

    total: int
    today: int
    """On the day of the report, by UTC."""
    by_reason: tuple[tuple[str, int], ...]
    """Public reason and how often, most frequent first."""
    by_key: tuple[tuple[str, int], ...]
    """Key of the configuration that the policy refused, and how often; only where the log names it."""
    num_configurations: int
    """Different configurations among them; 0 where the log names none. Many are a sign of probing."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunReport:
    """What one run has sent about a cohort for one purpose, and what the run costs."""

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
    num_secure_sums: int
    """Releases that the coordinator saw only in the sum over several sites."""
    noise_multiplier: float | None
    """The smallest of the run, of secure sums in the sum; None without noise."""
    noise_multiplier_alone: float | None
    """The smallest of the run, of secure sums the site's own share; None without noise."""
    sampling_rate: float | None
    """The largest of the run; None without noise."""
    target_epsilon: float | None
    """What the run promised, at ``delta``; None without noise."""
    delta: float | None
    """The largest of the run; None without noise."""
    epsilon: float | None
    """Of this run alone, at ``delta``: the public price of all its releases for this purpose, whoever took part. None
    where nothing bounds it."""
    epsilon_alone: float | None
    """The same to whoever breaks the secure sums or works with all other sites; ``epsilon`` without secure sums."""
    mu: float | None
    """The same releases as mu of Gaussian differential privacy; None without noise, or if patients were sampled."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CohortReport:
    """What the patients of one cohort have spent; totals are of the patient who spent most, over all her cohorts."""

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
    """The most that one of its patients spent over all runs, at the report's delta; None where nothing bounds it."""
    epsilon_alone: float | None
    """The same to whoever breaks the secure sums; ``epsilon`` without secure sums."""
    mu: float | None
    """``epsilon`` as mu of Gaussian differential privacy; None where nothing bounds it, or if patients were sampled."""
    attack_success: float | None
    """The most accurate that any test for one patient's presence can be that sees the releases charged here and nothing
    else, from even odds before; in [0.5, 1]."""
    epsilon_second: float | None
    """``epsilon`` by an independent accountant; None above ``MAX_SECOND_EPSILON``."""
    epsilon_renyi: float | None
    """A looser bound, as a sanity check."""
    accountants_agree: bool | None
    """None where there is nothing to compare."""
    rounds_left: int | None
    """How many more releases like the last one the site grants before it refuses; None without limit or release."""
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
    max_epsilon_alone: float | None = None
    """What it grants to whoever breaks the secure sums, under the same conditions."""
    max_delta: float | None
    """The delta at which both hold."""
    is_over_cap: bool
    """Whether some patient has spent more than one of them at ``max_delta``."""
    epsilon: float | None
    """The most that any patient of the site has spent; None where nothing bounds it, or there is nothing."""
    epsilon_alone: float | None = None
    """The same to whoever breaks the secure sums or works with all other sites; ``epsilon`` without secure sums."""
    num_secure_sums: int = 0
    """Releases that the coordinator saw only in the sum over several sites."""
    attack_success: float | None
    """The largest of the cohorts, under the same conditions."""
    mu: float | None = None
    """The largest of the cohorts, under the same conditions."""
    is_noise_secret: bool
    clock_went_back: bool
    num_unprotected: int = 0
    """Runs that released something without noise, of all cohorts."""
    num_unanswered: int = 0
    """Reservations whose reply never left; their budget is spent."""
    num_forgotten: int = 0
    """Patients who take part no longer."""
    num_without_budget: int = 0
    """Patients whose own budget is too small for another release like the last: they are left out of it."""
    successor: str | None = None
    """Where the ledger went on when this copy was retired; None for a ledger in force."""
    refusals: Refusals | None = None
    """None without an audit log that could be verified."""
    num_recovered: int = 0
    """Releases that this ledger had lost and that were entered again as spent, by the audit log."""
    num_alarms: int = 0
    """Answers for which the site had fewer training patients than it declares, by the audit log."""
    audit_problem: str | None = None
    """Why the audit log is not to be trusted; None where it was verified, or there is none."""
    one_run: OneRunAudit | None = None
    """An audit of the mechanism on invented patients, if the report was asked to show one."""
    cohorts: tuple[CohortReport, ...]
