"""Checks before a start: how each went, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from client.deployment.site_file import SiteFile
from shared_model.errors import FederatedMammographyError

_OF_ANOTHER_USER = "let the user of this process own it (chown -R): was it made, or copied, by another, such as root?"


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the table."""

    name: str
    status: Status
    detail: str
    remedy: str = ""
    """What to do; empty where all is well."""


class Doubt(Exception):  # noqa: N818, no error: the site may start
    """A check found something that somebody should look at, and that does not stop the site."""


def may_start(checks: Sequence[Check]) -> bool:
    """Return whether no check failed."""
    return all(check.status is not Status.FAILED for check in checks)


def guarded(name: str, check: Callable[[SiteFile], str], site: SiteFile, remedy: str) -> Check:
    """Return how ``check`` went, which returns what it found, or raises ``Doubt`` or an error of ours."""
    try:
        return Check(name=name, status=Status.OK, detail=check(site))
    except Doubt as doubt:
        return Check(name=name, status=Status.WARNING, detail=str(doubt), remedy=remedy)
    except (FederatedMammographyError, OSError) as error:
        own = _OF_ANOTHER_USER if _is_denied(error) else remedy
        return Check(name=name, status=Status.FAILED, detail=str(error), remedy=own)


def _is_denied(error: BaseException) -> bool:
    """Return whether what happened is that this process may not open a file: nothing about the file is wrong then."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__cause__
    return cause is not None
