"""Whether a site's ledger is an older one than its audit log knows, and how its lost entries are entered again.

A restored backup, a snapshot of a virtual machine or a copy on a second machine would grant again what was spent since.
The lines of the audit log name the head that the ledger had, and each of these must be in the ledger's history. Where
the audit log was restored too, only the coordinator can notice, by its witness.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from client.data.splits import Role
from client.deployment.ledger_identity import (
    open_own_ledger,
    remember_identity,
    remembered_identity,
    require_identity,
)
from client.deployment.own_patients import own_data
from client.deployment.site_file import SiteFile
from client.privacy.audited_releases import ANSWERED, LEDGER_HEAD, REPLY, LostRelease, is_known, lost_release
from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Retired
from client.privacy.ledger_history import History
from client.privacy.policy import SitePolicy
from shared_model.errors import LedgerError
from shared_model.system.audit_log import AuditLog, Fact, Line, read

BEGUN, FORGOTTEN, MOVED, RECOVERED = "ledger_begun", "patient_forgotten", "ledger_moved", "ledger_recovered"
"""Events of the audit log beside requests and replies."""
_PATIENT = "patient"


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A ledger in which nothing was found to be wrong."""

    num_entries: int
    head: str
    """Digest of the last entry."""
    num_heads: int
    """Heads that the audit log names since the last recovery: all are in the ledger."""


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What was entered into a ledger that had lost it."""

    num_releases: int
    num_forgotten: int
    num_to_repeat: int
    """Patients who withdrew while another ledger was in force, whose key is lost: they must be forgotten again."""


def record(site: SiteFile, event: str, ledger: Ledger, **facts: Fact) -> None:
    """Write a line with the ledger's head into the site's audit log.

    Raises:
        ConfigError: the last line is no line of such a log.
        LedgerError: the ledger was changed or is damaged.
        OSError: the log cannot be written.
    """
    AuditLog(site.audit_log).record(event, **facts, **{LEDGER_HEAD: _head(ledger.history())})


def record_forgotten(site: SiteFile, ledger: Ledger, patient: str) -> None:
    """Write down, by pseudonym, that a patient takes part no longer, so that no restored ledger brings her back.

    Raises:
        as ``record``.
    """
    record(site, FORGOTTEN, ledger, **{_PATIENT: ledger.pseudonym(patient).hex()})


def require_no_rollback(lines: Sequence[Line], history: History) -> int:
    """Check that the ledger has every head that the audit log names since the last recovery; return how many.

    Raises:
        LedgerError: it has not: it was rolled back.
    """
    heads = _heads(lines)
    known = {entry.digest for entry in history.entries}
    missing = [head for head in heads if head not in known]
    if missing:
        raise LedgerError(
            f"Expected entry {missing[-1][:12]} of the audit log in the ledger: it was rolled back, and what was spent "
            "since would be granted again. Enter it as spent: fedmammo site ledger recover."
        )
    return len(heads)


def verify_ledger(site: SiteFile) -> Verified:
    """Check that the ledger is whole, this site's, in force, and has all that the audit log names.

    Raises:
        LedgerError: it is not; the message says what to do.
        ConfigError: the audit log was changed.
        OSError: a file cannot be read.
    """
    history = open_own_ledger(site).history()
    require_in_force(history)
    num_heads = require_no_rollback(read(site.audit_log), history)
    return Verified(num_entries=len(history.entries), head=_head(history), num_heads=num_heads)


def recover(site: SiteFile) -> Recovered:
    """Enter the releases and withdrawals that the audit log knows and the ledger does not; adopt a nameless ledger.

    Every lost release counts as spent by all patients whom the ledger knows and all of today's, since nobody knows any
    more whom it was about.

    Raises:
        LedgerError: the ledger is another than the one that this site began, was changed, or is damaged.
        ConfigError, TableError: the audit log was changed, or settings, policy or tables cannot be used.
        OSError: a file cannot be written.
    """
    ledger, lines = Ledger(site.ledger), read(site.audit_log)
    if remembered_identity(site) is None:
        remember_identity(site, ledger)
    require_identity(site, ledger)
    history = ledger.history()
    require_in_force(history)
    patients = own_data(site, SitePolicy.load(site.policy), ledger).patients(*Role)
    releases, (forgotten, to_repeat) = _lost_releases(lines, history), _lost_withdrawals(lines, history)
    ledger.enter_lost(releases, forgotten=forgotten, patients=patients)
    found = Recovered(num_releases=len(releases), num_forgotten=len(forgotten), num_to_repeat=to_repeat)
    record(site, RECOVERED, ledger, num_releases=found.num_releases, num_forgotten=found.num_forgotten)
    return found


def require_in_force(history: History) -> None:
    """Check that the ledger did not move elsewhere.

    Raises:
        LedgerError: it did; the message says where.
    """
    last = None if history.head is None else history.head.content
    if isinstance(last, Retired):
        raise LedgerError(f"Expected the ledger in force; this copy was retired, it goes on in {last.successor}.")


def _heads(lines: Sequence[Line]) -> list[str]:
    last = max((position for position, line in enumerate(lines) if line.event == RECOVERED), default=0)
    return [str(line.facts[LEDGER_HEAD]) for line in lines[last:] if LEDGER_HEAD in line.facts]


def _lost_releases(lines: Sequence[Line], history: History) -> list[LostRelease]:
    answered = [line.facts for line in lines if line.event == REPLY and line.facts.get("outcome") == ANSWERED]
    found = [lost for lost in map(lost_release, answered) if lost is not None]
    # The same request may have been answered several times.
    return list({lost.release: lost for lost in found if not is_known(history, lost.release)}.values())


def _lost_withdrawals(lines: Sequence[Line], history: History) -> tuple[set[bytes], int]:
    """Return the pseudonyms that are missing, and how many others were made with the key of an earlier ledger."""
    begun = max((position for position, line in enumerate(lines) if line.event == BEGUN), default=0)
    before, since = (
        {bytes.fromhex(str(line.facts[_PATIENT])) for line in part if line.event == FORGOTTEN}
        for part in (lines[:begun], lines[begun:])
    )
    return since - history.forgotten, len(before)


def _head(history: History) -> str:
    return "" if history.head is None else history.head.digest
