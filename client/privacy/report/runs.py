"""What each run has sent about a cohort, and what the run costs: the rows of a privacy report."""

from collections.abc import Sequence

from client.privacy.ledger_entries import Committed, Entry, Reserved, Unprotected
from client.privacy.ledger_history import History, epsilon_alone
from client.privacy.report.contents import NO_NOISE, SHORT, RunReport
from client.privacy.report.spending import bounded_epsilon, gaussian_mu_of
from shared_model.config.choices import NoiseSource


def runs_of(history: History, cohort: str) -> tuple[RunReport, ...]:
    """Return one report for each run and purpose of ``cohort``, and one more where a run had no noise."""
    groups: dict[tuple[str, str, bool], list[Entry]] = {}
    for entry in history.entries:
        content = entry.content
        if isinstance(content, Reserved | Unprotected) and content.cohort == cohort:
            groups.setdefault((content.run, content.purpose, isinstance(content, Reserved)), []).append(entry)
    return tuple(_run(group, history) for group in groups.values())


def _run(group: Sequence[Entry], history: History) -> RunReport:
    """Return the report of entries of one run, purpose and cohort, either all with noise or all without."""
    contents = [entry.content for entry in group if isinstance(entry.content, Reserved | Unprotected)]
    private = [content for content in contents if isinstance(content, Reserved)]
    first, last = contents[0], contents[-1]
    lost = unanswered(history.entries)
    rounds = {
        entry.content.server_round
        for entry in group
        if isinstance(entry.content, Reserved) and entry.sequence not in lost
    }
    sources = {release.noise for release in private}
    delta = max((release.delta for release in private), default=None)
    whole_run = [release for release in history.releases_for(first.purpose) if release.run == first.run]
    return RunReport(
        run=first.run[:SHORT],
        purpose=first.purpose,
        first=group[0].time.isoformat(timespec="seconds"),
        last=group[-1].time.isoformat(timespec="seconds"),
        num_patients_declared=last.num_patients_declared,
        num_rounds_answered=len(rounds),
        num_releases=len(private),
        num_unanswered=sum(entry.sequence in lost for entry in group),
        noise=NoiseSource.SEEDED if NoiseSource.SEEDED in sources else next(iter(sources), NO_NOISE),
        num_secure_sums=sum(release.own_share is not None for release in private),
        noise_multiplier=min((release.mechanism.noise_multiplier for release in private), default=None),
        noise_multiplier_alone=min((release.alone.noise_multiplier for release in private), default=None),
        sampling_rate=max((release.mechanism.sampling_rate for release in private), default=None),
        target_epsilon=max((release.target_epsilon for release in private), default=None),
        delta=delta,
        epsilon=bounded_epsilon(whole_run, delta),
        epsilon_alone=bounded_epsilon(whole_run, delta, epsilon_alone),
        mu=gaussian_mu_of(whole_run),
    )


def unanswered(entries: Sequence[Entry]) -> frozenset[int]:
    """Return the sequence numbers of the reservations that no reply was recorded for."""
    answered = {entry.content.reservation for entry in entries if isinstance(entry.content, Committed)}
    return frozenset(e.sequence for e in entries if isinstance(e.content, Reserved)) - answered
