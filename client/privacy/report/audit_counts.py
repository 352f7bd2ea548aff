"""What a site's audit log counts for its privacy report: refusals, by which an officer sees a coordinator that probes.

A line that this version does not know is not counted; a fact that an older version did not write counts as not named.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.privacy.report.contents import Refusals
from shared_model.system.audit_log import verify

_ANSWERED = "answered"


@dataclass(frozen=True, kw_only=True)
class AuditCounts:
    """Counts over a whole audit log."""

    refusals: Refusals
    num_recovered: int
    """Releases that a ledger had lost and that were entered again as spent."""
    num_alarms: int
    """Answers for which the site had fewer training patients than it declares."""


@dataclass(frozen=True, kw_only=True)
class _Line:
    time: str
    event: str
    facts: Mapping[str, object]


def count_audit(path: Path, *, now: datetime) -> AuditCounts:
    """Return the counts of the audit log at ``path``; all are 0 where there is no such file.

    Args:
        path: the site's audit log.
        now: with a time zone; its day counts as today.

    Raises:
        ConfigError: the log was changed or cannot be read.
    """
    lines = _lines(path)
    recovered = [line.facts.get("num_releases") for line in lines if line.event == "ledger_recovered"]
    return AuditCounts(
        refusals=_refusals([line for line in lines if _is_refusal(line)], today=now.date().isoformat()),
        num_recovered=sum(count for count in recovered if isinstance(count, int)),
        num_alarms=sum(line.event == "alarm" for line in lines),
    )


def _lines(path: Path) -> list[_Line]:
    if not path.exists():
        return []
    verify(path)
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [
        _Line(time=str(line["time"]), event=str(line["event"]), facts=line["facts"])
        for line in found
        if isinstance(line["facts"], dict)
    ]


def _is_refusal(line: _Line) -> bool:
    return line.event == "reply" and not str(line.facts.get("outcome", _ANSWERED)).startswith(_ANSWERED)


def _refusals(refused: Sequence[_Line], *, today: str) -> Refusals:
    named = {
        name: Counter(str(line.facts[name]) for line in refused if line.facts.get(name))
        for name in ("outcome", "refused_key", "configuration")
    }
    return Refusals(
        total=len(refused),
        today=sum(line.time.startswith(today) for line in refused),
        by_reason=tuple(named["outcome"].most_common()),
        by_key=tuple(named["refused_key"].most_common()),
        num_configurations=len(named["configuration"]),
    )
