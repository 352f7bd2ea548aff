"""The section ``pacs`` of ``site.yaml``: the PACS, what may come from it, and where results go."""

import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from annotated_types import Ge, Interval

from client.deployment.report_kind import ReportKind
from shared_model.config.composition import CONFIG_FOLDER
from shared_model.errors import ConfigError
from shared_model.system.checked import DISTINCT, NOT_EMPTY, build, checked, require, rule, to_plain
from shared_model.system.documents import load_yaml

_DEFAULTS = CONFIG_FOLDER / "site_pacs" / "hospital.yaml"
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_PATHS = ("incoming", "web_authority", "web_token_file", "web_password_file", "fhir_token_file")


AeTitle = Annotated[
    str,
    # PS3.5 6.2: the default characters without backslash; PS3.8 pads with blanks, which so do not count.
    rule(lambda text: _AE_TITLE.fullmatch(text) is not None, "to be an AE title of at most 16 characters"),
]


def _is_safe_url(text: str) -> bool:
    """Return whether credentials and patients may go there: encrypted, or within this machine."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    is_plain = not (parts.username or parts.password or parts.query or parts.fragment) and bool(parts.hostname)
    return is_plain and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK))


Url = Annotated[
    str, rule(_is_safe_url, "to begin with https://, or http:// on this machine, without user, query or fragment")
]
Port = Annotated[int, Interval(ge=1, le=65535)]


@checked(key="pacs")
class PacsSettings:
    """What a site knows of its PACS; files and folders are absolute once the section is read.

    ``configs/site_pacs/hospital.yaml`` has the values that stand where the section lacks a key.
    """

    ae_title: AeTitle
    called: AeTitle | None
    """AE title of the PACS."""
    host: Annotated[str, NOT_EMPTY] | None
    port: Port
    calling: Annotated[tuple[AeTitle, ...], DISTINCT]
    """AE titles that may send films."""
    listen_host: Annotated[str, NOT_EMPTY]
    listen_port: Port
    incoming: Annotated[str, NOT_EMPTY]
    """Folder in which films arrive."""
    max_films: Annotated[int, Ge(1)]
    max_incoming_bytes: Annotated[int, Ge(1)]
    web_url: Url | None
    """DICOMweb's root, below which ``/studies`` is."""
    web_authority: str | None
    """Certificate of the authority that signed the PACS's; without it, those that the system trusts."""
    web_token_file: str | None
    web_user: Annotated[str, NOT_EMPTY] | None
    web_password_file: str | None
    report: ReportKind
    fhir_url: Url | None
    fhir_token_file: str | None
    patient_system: Annotated[str, NOT_EMPTY] | None
    """URI of the hospital's patient numbers, for FHIR."""
    patient_issuer: Annotated[str, NOT_EMPTY] | None
    """IssuerOfPatientID of those numbers, where films have it."""

    def __post_init__(self) -> None:
        both = (self.web_user is None) == (self.web_password_file is None)
        require(both, "together", web_user=self.web_user, web_password_file=self.web_password_file)
        one = self.web_user is None or self.web_token_file is None
        require(one, "one of both", web_user=self.web_user, web_token_file=self.web_token_file)

    def require(self, *keys: str) -> None:
        """Check that the hospital has said what a command needs.

        Raises:
            ConfigError: one of ``keys`` is null.
        """
        missing = [key for key in keys if getattr(self, key) is None]
        if missing:
            raise ConfigError(f"Expected {', '.join(missing)} in the section pacs of site.yaml; see docs/pacs.md.")


def default_report() -> ReportKind:
    """Return what is written where no site says anything."""
    return read_section({}, Path()).report


def read_section(values: Mapping[str, object], folder: Path) -> PacsSettings:
    """Return the section of a ``site.yaml`` in ``folder``, to which relative paths are relative.

    Raises:
        ConfigError: a key is unknown or wrong.
    """
    defaults = typing.cast(
        Mapping[str, object], to_plain(load_yaml(PacsSettings, _DEFAULTS, what="the defaults of the section pacs"))
    )
    given = {**defaults, **values}
    paths = {name: str(folder / value) for name in _PATHS if isinstance(value := given[name], str)}
    return build(PacsSettings, given | paths, path="pacs")
