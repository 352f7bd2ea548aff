"""Watches a federation for whoever runs it: a page that a browser can show, and a command that is called."""

import logging
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from server.deployment.federation_status import Change, FederationStatus, changes, read_status
from server.deployment.kit import ServerKit
from server.report.printed_numbers import MISSING, format_number
from shared_model.errors import FederatedMammographyError
from shared_model.system.files import write_atomically
from shared_model.system.html_templates import package_templates

logger = logging.getLogger(__name__)
_SECONDS = 5.0
"""Between two looks."""


class Watch:
    """Looks at a federation from time to time."""

    def __init__(self, kit: ServerKit, notify: Sequence[str] = ()) -> None:
        """Begin.

        Args:
            kit: of the server.
            notify: a program and its first arguments; called with event, subject and details after these.
        """
        self._kit, self._notify = kit, tuple(notify)
        self._last: FederationStatus | None = None
        self._next = time.monotonic()
        self._called: list[subprocess.Popen[bytes]] = []

    def look(self) -> None:
        """Write the page and tell what has changed, if it is time; whatever fails, the server goes on."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _SECONDS
        try:
            status = read_status(self._kit)
            write_atomically(self._kit.status_page, to_html(status, datetime.now(UTC), seconds=_SECONDS).encode())
        except (OSError, FederatedMammographyError) as error:
            logger.warning("The status page is not up to date: %s", error)
            return
        found = [] if self._last is None else changes(self._last, status)
        self._last = status
        for change in found:
            logger.info("%s %s %s", change.event, change.subject, change.details)
            self._tell(change)

    def _tell(self, change: Change) -> None:
        self._called = [process for process in self._called if process.poll() is None]
        if not self._notify:
            return
        try:
            self._called.append(
                subprocess.Popen(  # noqa: S603, the operator's own command
                    (*self._notify, change.event, change.subject, change.details),
                    stdin=subprocess.DEVNULL,
                )
            )
        except OSError as error:
            logger.warning("Nobody was told of %s %s: %s", change.event, change.subject, error)


def to_html(status: FederationStatus, now: datetime, *, seconds: float) -> str:
    """Return the page, which a browser loads again every ``seconds``; it needs no script and nothing from elsewhere."""
    template = package_templates("server.deployment").get_template("status.html")
    return template.render(status=status, now=now, seconds=seconds, number=format_number, missing=MISSING)
