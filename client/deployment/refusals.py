"""How many requests a site refused today: one that is asked again and again to no avail is being probed."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

from client.privacy.audited_releases import is_refusal
from shared_model.system.audit_log import Line


class RefusalCount:
    """The refusals of the day (UTC), begun with those that the audit log knows."""

    def __init__(
        self, lines: Iterable[Line], *, max_per_day: int | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._max_per_day, self._now = max_per_day, now
        self._day = self._today()
        self._count = sum(is_refusal(line) and line.time.astimezone(UTC).date() == self._day for line in lines)

    def is_exhausted(self) -> bool:
        """Return whether nothing is looked at any more until the next day begins."""
        return self._max_per_day is not None and self._of_today() >= self._max_per_day

    def add(self) -> None:
        """Count one more refusal."""
        self._count = self._of_today() + 1

    def _of_today(self) -> int:
        if self._today() != self._day:
            self._day, self._count = self._today(), 0
        return self._count

    def _today(self) -> date:
        return self._now().astimezone(UTC).date()
