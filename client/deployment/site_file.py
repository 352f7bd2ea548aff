"""``site.yaml``: everything that a hospital's process must know about itself, in one file of the hospital's own."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from client.deployment.pacs_section import PacsSettings, read_section
from client.deployment.reader_section import ReaderSection
from shared_model.config.choices import DataSource
from shared_model.errors import ConfigError
from shared_model.system.checked import DISTINCT, NOT_EMPTY, checked
from shared_model.system.documents import load_yaml
from shared_model.vocabulary import LesionType

_APPROVED, _AUTHORITY, _KEY = "approved_bundles.txt", "ca.pem", "node.key"
_RELEASES = "approved_releases.txt"


@checked()
class _Values:
    """The keys of the file; those with a default may be missing."""

    site: str
    server: str
    data_root: str | None
    data_source: DataSource
    roster: str | None
    ledger: str
    policy: str
    state_dir: str
    lesion_types: Annotated[tuple[LesionType, ...], NOT_EMPTY, DISTINCT] | None = None
    reader: ReaderSection | None = None
    pacs: Mapping[str, object] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteFile:
    """A hospital's settings; paths are absolute. Certificate, key and approved bundles lie beside the file."""

    site: str
    """The name that the federation knows the hospital by."""
    server: str
    """``host:port`` of the coordinator."""
    data_root: Path
    data_source: DataSource
    roster: str | None
    """CSV in ``data_root`` that names each patient's hospital; null where all patients are the hospital's own."""
    ledger: Path
    policy: Path
    state_dir: Path
    """Where this process keeps logs, caches and Flower's own files."""
    authority: Path
    """Certificate of the authority that signed the coordinator's."""
    key: Path
    """The private key by which the coordinator knows this hospital."""
    approved_bundles: Path
    """One SHA-256 a line: the application bundles whose requests are answered."""
    approved_releases: Path
    """One SHA-256 a line: the releases that this hospital reads its own patients with. No file approves none."""
    lesion_types: tuple[LesionType, ...] | None = None
    """Whose tables the hospital has; None where the file does not say. The policy, not this, is what requests are
    held to, so that where this is given both must be equal."""
    reader: ReaderSection | None = None
    """The page on which this hospital reads its own patients; None where the file does not say."""
    pacs: PacsSettings | None = None
    """The site's PACS; None where the file does not say."""

    @classmethod
    def load(cls, path: Path) -> "SiteFile":
        """Read the file; relative paths are relative to its folder.

        Raises:
            ConfigError: it cannot be read, a key is unknown, missing or wrong, or ``data_root`` is still null.
        """
        values = load_yaml(_Values, path, what="the site file")
        if values.data_root is None:
            raise ConfigError(f"Expected data_root in {path}: the folder of this hospital's mammograms and tables.")
        folder = path.resolve().parent
        return cls(
            site=values.site,
            server=values.server,
            data_root=folder / values.data_root,
            data_source=values.data_source,
            roster=values.roster,
            ledger=folder / values.ledger,
            policy=folder / values.policy,
            state_dir=folder / values.state_dir,
            authority=folder / _AUTHORITY,
            key=folder / _KEY,
            approved_bundles=folder / _APPROVED,
            approved_releases=folder / _RELEASES,
            lesion_types=values.lesion_types,
            reader=None if values.reader is None else values.reader.placed(folder),
            pacs=None if values.pacs is None else read_section(values.pacs, folder),
        )

    @property
    def node_config(self) -> Mapping[str, str]:
        """The settings as ``client.site.SiteSettings`` reads them."""
        settings = {
            "site": self.site,
            "data-root": str(self.data_root),
            "data-source": str(self.data_source),
            "ledger": str(self.ledger),
            "policy": str(self.policy),
            "cache-dir": str(self.cache),
        }
        return settings | ({} if self.roster is None else {"roster": self.roster})

    @property
    def cache(self) -> Path:
        """The folder of the cached images."""
        return self.state_dir / "cache"

    @property
    def lock(self) -> Path:
        """Held by the one process that works for this site."""
        return self.state_dir / "lock"

    @property
    def audit_log(self) -> Path:
        """What this process was asked and what it answered."""
        return self.state_dir / "audit.jsonl"

    @property
    def ledger_identity(self) -> Path:
        """The name of the ledger that this site began; see ``client.deployment.ledger_identity``."""
        return self.state_dir / "ledger_identity"

    def require_reader(self) -> ReaderSection:
        """Return the section ``reader``.

        Raises:
            ConfigError: the file has none.
        """
        if self.reader is None:
            raise ConfigError("Expected a section reader in site.yaml with studies, the folder of the films to read.")
        return self.reader

    def require_pacs(self) -> PacsSettings:
        """Return the section ``pacs``.

        Raises:
            ConfigError: the file has none.
        """
        if self.pacs is None:
            raise ConfigError("Expected a section pacs in site.yaml; see docs/pacs.md.")
        return self.pacs

    @property
    def opinions(self) -> Path:
        """What the page keeps of readings and of what doctors thought of them."""
        return self.ledger.parent / "readings.sqlite"

    def approved(self) -> frozenset[str]:
        """Read the approved bundles' SHA-256 digests, hexadecimal.

        Raises:
            ConfigError: the file cannot be read, or a line is no digest.
        """
        return _digests(self.approved_bundles, "approved bundles")

    def releases(self) -> frozenset[str]:
        """Read the approved releases' SHA-256 digests, hexadecimal; none where there is no such file.

        Raises:
            ConfigError: the file cannot be read, or a line is no digest.
        """
        if not self.approved_releases.exists():
            return frozenset()
        return _digests(self.approved_releases, "approved releases")


def _digests(path: Path, what: str) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected {what} in {path}: {error}") from error
    digests = {line.split("#")[0].strip() for line in lines} - {""}
    for digest in digests:
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            raise ConfigError(f"Expected a SHA-256 digest a line in {path}, got {digest[:80]!r}.")
    return frozenset(digests)
