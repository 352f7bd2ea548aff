"""A site's front desk: each request is written down, looked at only if it may be, and its reply is written down too.

Not looked at is a request from a bundle that the hospital has not approved, and any after too many refusals in a day.
The audit log has a line for each request and one for each reply, which is on disk before the reply leaves: the head of
the ledger, the fingerprint of the configuration, for a refusal what was refused, for a release its mechanism. It has
one more where somebody has written to the site's tables since the request before.
"""

import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import ConfigRecord, Context, Error, Message
from flwr.clientapp import ClientApp

from client.data.tables.site_table import table_state
from client.deployment.refusals import RefusalCount
from client.deployment.reply_grid import seconds_to_wait
from client.deployment.site_file import SiteFile
from client.privacy.audited_releases import ANSWERED, AUDIT, IS_BELOW_DECLARED, LEDGER_HEAD, REFUSED_KEY, REPLY
from client.privacy.ledger_files import read_head
from client.privacy.policy import SitePolicy
from shared_model.errors import FederatedMammographyError, LedgerError, PolicyError
from shared_model.system.audit_log import AuditLog, Fact, read
from shared_model.system.peer_text import peer_text

logger = logging.getLogger(__name__)
_REFUSED = 1000
_ALARM, _TABLES_CHANGED = "alarm", "tables_changed"
_MAX_TEXT = 100


class Desk:
    """Answers requests with ``app``, within what the site's own files allow."""

    def __init__(self, site: SiteFile, app: ClientApp, refusals: RefusalCount, *, grid_seconds: float | None) -> None:
        self._site, self._app = site, app
        self._refusals, self._grid_seconds = refusals, grid_seconds
        self._audit = AuditLog(site.audit_log)
        self._tables = table_state(site.data_root, site.roster)

    @classmethod
    def open(cls, site: SiteFile, app: ClientApp, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> "Desk":
        """Read the policy and count today's refusals.

        Raises:
            ConfigError: the policy cannot be used, or the audit log was changed.
        """
        policy = SitePolicy.load(site.policy)
        refusals = RefusalCount(read(site.audit_log), max_per_day=policy.max_refusals_per_day, now=now)
        return cls(site, app, refusals, grid_seconds=policy.reply_grid_seconds)

    def answer(self, message: Message, context: Context, *, run_id: str, bundle: bytes) -> Message:
        """Return the reply of the app, or a refusal; both lines of the audit log are on disk by then.

        Raises:
            ConfigError: the list of approved bundles or the audit log cannot be read.
            OSError: the audit log cannot be written.
        """
        facts: dict[str, Fact] = {
            "run": run_id,
            "round": peer_text(message.metadata.group_id, _MAX_TEXT),
            "kind": peer_text(message.metadata.message_type, _MAX_TEXT),
        }
        digest = hashlib.sha256(bundle).hexdigest()
        self._note_tables()
        self._audit.record("asked", **facts, bundle=digest, bytes_in=num_bytes(message))
        reply = self._reply(message, context, digest)
        told = _take_facts(context)
        alarm = told.pop(IS_BELOW_DECLARED, False)
        outcome = reply.error.reason if reply.has_error() else ANSWERED
        if reply.has_error():
            self._refusals.add()
        self._audit.record(REPLY, **facts, **told, **self._ledger_head(), outcome=outcome, bytes_out=num_bytes(reply))
        if alarm:
            self._audit.record(_ALARM, **facts, reason="fewer training patients than declared")
        return reply

    def seconds_to_wait(self, elapsed: float) -> float:
        """Return for how long the reply to a request that came ``elapsed`` seconds ago is held back."""
        return seconds_to_wait(elapsed, self._grid_seconds)

    def _note_tables(self) -> None:
        """Write down whether somebody has written to the tables; what they hold now decides nothing here."""
        now = table_state(self._site.data_root, self._site.roster)
        names = {Path(path).name for path, _ in set(now) ^ set(self._tables)}
        if names:
            logger.warning("Changed since the last request, and read again: %s.", ", ".join(sorted(names)))
            self._audit.record(_TABLES_CHANGED, num_files=len(names))
        self._tables = now

    def _reply(self, message: Message, context: Context, digest: str) -> Message:
        if self._refusals.is_exhausted():
            logger.error("Refused unseen: this was refused too often today; see max_refusals_per_day of the policy.")
            return _refusal(message, context, PolicyError, key="max_refusals_per_day")
        if digest not in self._site.approved():
            logger.error("Refused: bundle %s is not on the list of approved bundles.", digest)
            return _refusal(message, context, PolicyError, key="bundle")
        try:
            return self._app(message, context)
        except Exception as error:  # a message of a kind that the app has no function for; its text stays here
            logger.exception("Failed")
            return _refusal(message, context, FederatedMammographyError, key=type(error).__name__)

    def _ledger_head(self) -> dict[str, Fact]:
        try:
            head = read_head(self._site.ledger)
        except LedgerError:
            return {}
        return {} if head is None else {LEDGER_HEAD: head[1]}


def num_bytes(message: Message) -> int:
    """Return the size of the arrays of ``message``; its other facts are a few hundred bytes."""
    if not message.has_content():
        return 0
    return sum(len(array.data) for record in message.content.array_records.values() for array in record.values())


def _take_facts(context: Context) -> dict[str, Fact]:
    """Return what the app left for the audit log, and take it away: Flower would store it with the node's state."""
    record = context.state.pop(AUDIT, None)
    if not isinstance(record, ConfigRecord):
        return {}
    return {name: value for name, value in record.items() if isinstance(value, str | int | float)}


def _refusal(message: Message, context: Context, kind: type[FederatedMammographyError], *, key: str) -> Message:
    context.state[AUDIT] = ConfigRecord({REFUSED_KEY: key})
    return Message(Error(code=_REFUSED, reason=kind.public_reason), reply_to=message)
