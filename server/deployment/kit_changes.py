"""Changes of existing kits: sites that come, leave or get a new key, and a new certificate of the server.

The folder of the kits is changed as one (``server.deployment.joint_change``), by one process at a time. A change counts
once ``fedmammo server start`` has been started again: the SuperLink then enrols who is new and removes who is gone.
The order of the files keeps the server's kit usable between any two of them, for whoever copies it just then: a site
stands in ``server.yaml`` only while its public key is there.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from server.deployment.certificate_authority import ValidDays
from server.deployment.certificates import certificate_days_left, require_key_of
from server.deployment.joint_change import change_together, finish_change, has_unfinished_change
from server.deployment.kit import kits_lock
from server.deployment.kit_files import (
    SETTINGS,
    new_server_certificate,
    new_site_keys,
    private_key_of,
    public_keys_of,
    server_settings,
    site_settings,
)
from server.deployment.private_keys import (
    AUTHORITY_PASSPHRASE,
    SERVER_PASSPHRASE,
    is_encrypted,
    load_private_key,
    passphrase_in,
)
from server.deployment.server_settings import ServerSettings
from shared_model.errors import ConfigError
from shared_model.system.checked import checked


def add_sites(out: Path, sites: Sequence[str]) -> ServerSettings:
    """Make kits for more sites, of the same kind as the first ones, and return the new settings of the server.

    A name that was revoked gets a new key. Neither ``ca.key`` nor a certificate is needed.

    Args:
        out: the folder of the kits.
        sites: new names.

    Raises:
        ConfigError: a name is taken or no name, there is something else in its place, or the folder is in use, has no
            kits or cannot be written.
    """
    with _changing(out) as kits:
        settings = dataclasses.replace(kits.settings, sites=(*kits.settings.sites, *sites))
        bundles = [] if settings.bundle is None else [settings.bundle]
        ca_pem, files = kits.authority_certificate().read_bytes(), dict[str, bytes]()
        for site in sites:
            made = site_settings(site, settings, approved_bundles=bundles, ca_pem=ca_pem) | new_site_keys(site)
            _require_no_other(kits.folder, site, {Path(name).name for name in made})
            files |= made
        change_together(kits.folder, files | {SETTINGS: settings.to_yaml()})
    return settings


def revoke_sites(out: Path, sites: Sequence[str]) -> ServerSettings:
    """Take sites out of the server's kit, remove their keys, and return the new settings of the server.

    Args:
        out: the folder of the kits.
        sites: of the kits, but not all of them.

    Raises:
        ConfigError: a name is not one of the kits, no site would stay, or the folder is in use, has no kits or cannot
            be written.
    """
    with _changing(out) as kits:
        _require_known(sites, kits.settings.sites)
        staying = tuple(site for site in kits.settings.sites if site not in sites)
        if not staying:
            raise ConfigError(f"Expected a site to stay, got all of them: {', '.join(sites)}.")
        settings = dataclasses.replace(kits.settings, sites=staying)
        gone = {name: None for site in sites for name in (*public_keys_of(site), private_key_of(site))}
        change_together(kits.folder, {SETTINGS: settings.to_yaml(), **gone})
    return settings


def renew_sites(out: Path, sites: Sequence[str]) -> ServerSettings:
    """Replace the keys of sites, and nothing else in their kits, and return the settings of the server.

    Args:
        out: the folder of the kits; that of a site need not be there any more.
        sites: of the kits.

    Raises:
        ConfigError: a name is not one of the kits, or the folder is in use, has no kits or cannot be written.
    """
    with _changing(out) as kits:
        _require_known(sites, kits.settings.sites)
        change_together(kits.folder, {name: key for site in sites for name, key in new_site_keys(site).items()})
    return kits.settings


def renew_certificate(out: Path, *, hosts: Sequence[str] | None, valid_days: int) -> ServerSettings:
    """Replace the server's key and certificate, for which ``ca`` must be there, and return its settings.

    Sites trust the authority, so that they need nothing new. The certificate before stays valid until it ends.

    Args:
        out: the folder of the kits.
        hosts: DNS names and IP addresses at which sites reach the server; None for the same as before.
        valid_days: validity of the certificate, at most what is left of the authority's.

    Raises:
        ConfigError: an argument is out of bounds, a key or passphrase is missing or wrong, or the folder is in use, has
            no kits or cannot be written.
    """
    order = _Order(valid_days=valid_days)
    with _changing(out) as kits:
        settings = kits.settings if hosts is None else dataclasses.replace(kits.settings, hosts=tuple(hosts))
        kits.require_passphrase_as_before()
        now = datetime.now(UTC)
        files = new_server_certificate(
            settings,
            authority_key=kits.authority_key(now + timedelta(days=order.valid_days)),
            valid_days=order.valid_days,
            now=now,
        )
        change_together(kits.folder, files | server_settings(settings))
    return settings


@checked(key="")
class _Order:
    valid_days: ValidDays


@dataclass(frozen=True, kw_only=True)
class _Kits:
    """The folder of the kits and what its ``server.yaml`` says."""

    folder: Path
    settings: ServerSettings

    def authority_certificate(self) -> Path:
        """Return the path of the authority's certificate, of which ``ca`` may be elsewhere."""
        own, servers = (self.folder / name / "ca.pem" for name in ("ca", "server"))
        if own.exists() and servers.exists() and own.read_bytes() != servers.read_bytes():
            raise ConfigError(f"Expected {own} and {servers} to be the same certificate.")
        return servers if servers.exists() else own

    def authority_key(self, valid_until: datetime) -> EllipticCurvePrivateKey:
        """Return the authority's private key, if its certificate is valid until then."""
        certificate = self.authority_certificate()
        key = load_private_key(self.folder / "ca" / "ca.key", variable=AUTHORITY_PASSPHRASE)
        require_key_of(certificate, key)
        if certificate_days_left(certificate, valid_until) < 0:
            days_left = certificate_days_left(certificate, datetime.now(UTC))
            raise ConfigError(f"Expected valid_days to be at most {days_left:.0f}, the days left of {certificate}.")
        if not isinstance(key, EllipticCurvePrivateKey):
            raise ConfigError(f"Expected the key of {certificate} to be on an elliptic curve.")
        return key

    def require_passphrase_as_before(self) -> None:
        """Check that a key that was encrypted is not followed by one that is not."""
        key = self.folder / "server" / "server.key"
        if passphrase_in(SERVER_PASSPHRASE) is None and key.exists() and is_encrypted(key):
            raise ConfigError(
                f"Expected a passphrase for the new key, as {key} has one: set {SERVER_PASSPHRASE} in the environment."
            )


@contextmanager
def _changing(out: Path) -> Iterator[_Kits]:
    """Hold the lock of the kits in ``out``, finish a change that was cut off, and yield what is there."""
    folder = out.resolve()
    if not (folder / "server").is_dir():
        raise ConfigError(
            f"Expected kits in out={out}: a folder with ca, server and sites, as fedmammo server provision --sites "
            "makes it. Where the server's kit was moved away, copy its server.yaml and its folder sites to server."
        )
    try:
        with kits_lock(folder):
            finish_change(folder)
            yield _Kits(folder=folder, settings=ServerSettings.load(folder / SETTINGS))
    except OSError as error:
        outcome = (
            "the change is decided, and fedmammo server start or the next change finishes it"
            if has_unfinished_change(folder)
            else "nothing has changed"
        )
        raise ConfigError(f"Expected out={out} to be a folder that can be written: {error}; {outcome}.") from error


def _require_known(sites: Sequence[str], known: Sequence[str]) -> None:
    if not sites or len(set(sites)) < len(sites) or not set(sites) <= set(known):
        raise ConfigError(f"Expected names of the kits, each once, of {', '.join(known)}; got {', '.join(sites)}.")


def _require_no_other(folder: Path, site: str, names: set[str]) -> None:
    """Check that nothing but the rest of a kit of that name is where the new one will be."""
    found = [path for path in (folder / "sites").glob("*") if path.name.casefold() == site.casefold()]
    for path in found:
        others = sorted(each.name for each in path.glob("*") if each.name not in names)
        if path.name != site or others:
            what = ", ".join(others) or path.name
            raise ConfigError(
                f"Expected room for the kit of {site} in {path.parent}, there is {what} in {path}: move it away. A "
                "hospital that comes back goes on with its old folder, and takes node.key and node.pub of the new kit."
            )
