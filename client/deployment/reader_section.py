"""The section ``reader`` of ``site.yaml``: where the films to read lie, and which proxy stands before the page."""

import dataclasses
import ipaddress
import re
from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from shared_model.system.checked import DISTINCT, NOT_EMPTY, checked, require, rule

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?(?::[0-9]{1,5})?")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@checked(key="reader.proxy")
class Proxy:
    """The hospital's proxy: it asks who somebody is, and is the only one that the page then answers."""

    address: Annotated[str, rule(_is_address, "to be the IP address of the proxy")]
    user_header: Annotated[str, rule(lambda text: _HEADER.fullmatch(text) is not None, "to be the name of a header")]
    """In which the proxy says who asks; it must remove what a browser wrote there."""
    hosts: Annotated[
        tuple[Annotated[str, rule(lambda text: _HOST.fullmatch(text) is not None, "to be host or host:port")], ...],
        NOT_EMPTY,
        DISTINCT,
    ]
    """By which names, in lower case, browsers know the page."""


@checked(key="reader.recalibration")
class RecalibrationSection:
    """After how many outcomes of its own the site wants a second probability, moved to them."""

    outcomes: Annotated[int, Interval(ge=20, le=100_000)]
    """Patients whose outcome must be known before the offset of the logits is fitted."""
    outcomes_for_slope: Annotated[int, Interval(ge=100, le=100_000)]
    """And before their slope is fitted too."""

    def __post_init__(self) -> None:
        expectation = f">= outcomes={self.outcomes}"
        require(self.outcomes_for_slope >= self.outcomes, expectation, outcomes_for_slope=self.outcomes_for_slope)


@checked(key="reader")
class ReaderSection:
    """What the page needs to know of its hospital."""

    studies: Annotated[str, NOT_EMPTY]
    """Folder of the DICOM films that wait to be read, such as the incoming folder of the section ``pacs``."""
    proxy: Proxy | None = None
    """Null where the page is for the one person at this machine."""
    recalibration: RecalibrationSection | None = None
    """Null where the site wants the release's own probability alone."""

    def placed(self, folder: Path) -> "ReaderSection":
        """Return the section with ``studies`` below ``folder``, unless it is absolute."""
        return dataclasses.replace(self, studies=str(folder / self.studies))
