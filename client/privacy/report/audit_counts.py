"""What a site's audit log counts for its privacy report: refusals, by which an officer sees a coordinator that probes.

A line that this version does not know is not counted; a fact that an older version did not write counts as not named.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from client.privacy.audited_releases import is_refusal
from client.privacy.report.contents import Refusals
from shared_model.system.audit_log import Line, read


@dataclass(frozen=True, kw_only=True)
class AuditCounts:
    """Counts over a whole audit log."""

    refusals: Refusals
    num_recovered: int
    """Releases that a ledger had lost and that were entered again as spent."""
    num_alarms: int
    """Answers for which the site had fewer training patients than it declares."""


def count_audit(path: Path, *, now: datetime) -> AuditCounts:
    """Return the counts of the audit log at ``path``; all are 0 where there is no such file.

    Args:
        path: the site's audit log.
        now: with a time zone; its day (UTC) counts as today.

    Raises:
        ConfigError: the log was changed or cannot be read.
    """
    lines = read(path)
    recovered = [line.facts.get("num_releases") for line in lines if line.event == "ledger_recovered"]
    return AuditCounts(
        refusals=_refusals([line for line in lines if is_refusal(line)], today=now.astimezone(UTC).date()),
        num_recovered=sum(count for count in recovered if isinstance(count, int)),
        num_alarms=sum(line.event == "alarm" for line in lines),
    )


def _refusals(refused: Sequence[Line], *, today: date) -> Refusals:
    named = {
        name: Counter(str(line.facts[name]) for line in refused if line.facts.get(name))
        for name in ("outcome", "refused_key", "configuration")
    }
    return Refusals(
        total=len(refused),
        today=sum(line.time.astimezone(UTC).date() == today for line in refused),
        by_reason=tuple(named["outcome"].most_common()),
        by_key=tuple(named["refused_key"].most_common()),
        num_configurations=len(named["configuration"]),
    )
