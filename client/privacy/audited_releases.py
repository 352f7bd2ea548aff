"""Releases as facts of the audit log: flat, not about whom, and enough to enter a lost one into the ledger again.

A line of a private release names purpose, request, the reply's digest, and the mechanism with its price, of a secure
sum also the noise of the site's own share; one of a release without noise has the fact ``unprotected``. The fingerprint
of the run's configuration is the fact ``configuration`` of every line.
"""

import dataclasses
from collections.abc import Mapping

from client.privacy.ledger_entries import Committed, Purpose, Reserved, Unprotected
from client.privacy.ledger_history import History
from shared_model.errors import ConfigError
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.audit_log import Fact, Line
from shared_model.system.checked import build

AUDIT = "audit"
"""The record of a node's state in which the app leaves the facts of a request for the audit log."""
CONFIGURATION, REFUSED_KEY, LEDGER_HEAD = "configuration", "refused_key", "ledger_head"
IS_BELOW_DECLARED = "is_below_declared"
"""Whether the site trains on fewer patients than it declares."""
REPLY, ANSWERED = "reply", "answered"
"""The event of a line about a reply, and how its fact ``outcome`` begins where the request was not refused."""
_PURPOSE, _REPLY, _UNPROTECTED, _OWN_NOISE = "purpose", "reply", "unprotected", "own_noise_multiplier"
_MECHANISM = tuple(field.name for field in dataclasses.fields(Mechanism))
_RESERVED = tuple(
    field.name
    for field in dataclasses.fields(Reserved)
    if field.name not in {"run", "cohort", "mechanism", "own_share"}
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LostRelease:
    """A release that the audit log knows; whom it was about it does not say."""

    release: Reserved | Unprotected
    """Its cohort is empty."""
    reply: str | None
    """SHA-256 of the reply's bytes; None for one without noise."""


def is_refusal(line: Line) -> bool:
    """Return whether a line of the audit log is about a refused request."""
    return line.event == REPLY and not str(line.facts.get("outcome", ANSWERED)).startswith(ANSWERED)


def release_facts(history: History, *, purpose: Purpose, request: str, run: str) -> dict[str, Fact]:
    """Return what the audit log says about the release with which a request was answered.

    Args:
        history: of the ledger, after the answer.
        purpose: of the request.
        request: its digest.
        run: fingerprint of its configuration.
    """
    for entry in reversed(history.entries):
        content = entry.content
        if isinstance(content, Reserved) and (content.purpose, content.request) == (purpose, request):
            return _facts_of(content, history.committed(entry.sequence))
        if isinstance(content, Unprotected) and (content.purpose, content.run) == (purpose, run):
            declared = content.num_patients_declared
            return {_PURPOSE: str(purpose), "num_patients_declared": declared, _UNPROTECTED: True}
    return {}


def _facts_of(release: Reserved, committed: Committed | None) -> dict[str, Fact]:
    plain = dataclasses.asdict(release)
    facts: dict[str, Fact] = {name: plain[name] for name in _RESERVED} | plain["mechanism"]
    facts |= {_PURPOSE: str(release.purpose), "noise": str(release.noise)}
    if release.own_share is not None:
        facts[_OWN_NOISE] = release.own_share.noise_multiplier
    return facts if committed is None else facts | {_REPLY: committed.reply}


def lost_release(facts: Mapping[str, Fact]) -> LostRelease | None:
    """Return the release of a line of the audit log; None if the line is about none.

    Raises:
        ConfigError: a fact of the release is missing or wrong.
    """
    if _PURPOSE not in facts:
        return None
    values: dict[str, object] = {"run": facts.get(CONFIGURATION), "cohort": ""}
    try:
        if facts.get(_UNPROTECTED):
            values |= {name: facts[name] for name in (_PURPOSE, "num_patients_declared")}
            return LostRelease(release=build(Unprotected, values, path="release"), reply=None)
        values |= {name: facts[name] for name in _RESERVED}
        mechanism = {name: facts[name] for name in _MECHANISM}
        values["mechanism"] = mechanism
        if _OWN_NOISE in facts:
            values["own_share"] = mechanism | {"noise_multiplier": facts[_OWN_NOISE]}
        return LostRelease(release=build(Reserved, values, path="release"), reply=str(facts[_REPLY]))
    except KeyError as error:
        raise ConfigError(f"Expected the fact {error} of a release in the audit log.") from error


def is_known(history: History, release: Reserved | Unprotected) -> bool:
    """Return whether the ledger has the release."""
    if isinstance(release, Reserved):
        return history.reserved(release.purpose, release.request) is not None
    contents = (entry.content for entry in history.entries)
    return any(isinstance(c, Unprotected) and (c.purpose, c.run) == (release.purpose, release.run) for c in contents)
