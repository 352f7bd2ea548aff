"""Start-up kits: the folders with keys, certificates and settings from which the server and every site start.

All connections are TLS to the server. Its certificate is signed by an authority that is made here, and sites trust no
other. The server knows every site by a key: the private part is in the site's kit, the public part in the server's.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from server.deployment.certificate_authority import (
    ValidDays,
    authority_certificate,
    certificate_pem,
    new_key,
    private_pem,
)
from server.deployment.kit_files import new_server_certificate, new_site_keys, server_settings, site_settings
from server.deployment.private_keys import AUTHORITY_PASSPHRASE, passphrase_in
from server.deployment.server_settings import Digest, ServerSettings
from shared_model.errors import ConfigError
from shared_model.system.checked import checked
from shared_model.system.files import owner_only, write_atomically


@dataclass(frozen=True, kw_only=True)
class Kits:
    """Folders of the finished kits."""

    authority: Path
    """Certificate and private key of the authority: no running process needs it, so it stays offline."""
    server: Path
    sites: Mapping[str, Path]
    """By site name."""


@checked(key="")
class _Order:
    """What is asked for beside the server's settings."""

    valid_days: ValidDays
    approved_bundles: tuple[Digest, ...]


def provision(
    *,
    out: Path,
    sites: Sequence[str],
    hosts: Sequence[str],
    port: int,
    valid_days: int,
    approved_bundles: Sequence[str],
) -> Kits:
    """Make the kits under ``out``: ``ca``, ``server`` and ``sites/NAME``.

    All is made in a temporary folder beside ``out``, which is renamed to ``out`` in the end, so a failure leaves
    ``out`` as it was. Only the owner may read files (0600) and enter folders (0700), whatever the umask.

    Args:
        out: does not exist, or is an empty folder.
        sites: names as in ``federation.sites``, distinct ignoring case.
        hosts: DNS names and IP addresses at which sites reach the server; their kits name the first.
        port: of the server.
        valid_days: validity of the server's certificate, in [1, 3650]; the authority's is 3650 days.
        approved_bundles: SHA-256 digests, hexadecimal in lower case, that every site's list begins with; the server's
            kit remembers the first.

    Raises:
        ConfigError: an argument is out of bounds, or ``out`` is in use or cannot be written.
    """
    order = _Order(valid_days=valid_days, approved_bundles=tuple(dict.fromkeys(approved_bundles)))
    settings = ServerSettings(
        hosts=tuple(hosts), port=port, sites=tuple(sites), bundle=next(iter(order.approved_bundles), None)
    )
    files = _files(settings, order)
    try:
        out = out.resolve()
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ConfigError(f"Expected out={out} to be a new or empty folder.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with owner_only(), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            new_folder = Path(temporary) / out.name
            for name, content in files.items():
                write_atomically(new_folder / name, content)
            # Replaces an empty folder and nothing else.
            new_folder.rename(out)
    except OSError as error:
        raise ConfigError(f"Expected out={out} to be a folder that can be written: {error}.") from error
    return Kits(
        authority=out / "ca", server=out / "server", sites={site: out / "sites" / site for site in settings.sites}
    )


def _files(settings: ServerSettings, order: _Order) -> Mapping[str, bytes]:
    now, authority_key = datetime.now(UTC), new_key()
    ca_pem = certificate_pem(authority_certificate(authority_key, now))
    authority = {"ca/ca.pem": ca_pem, "ca/ca.key": private_pem(authority_key, passphrase_in(AUTHORITY_PASSPHRASE))}
    server = new_server_certificate(settings, authority_key=authority_key, valid_days=order.valid_days, now=now)
    files = {**authority, "server/ca.pem": ca_pem, **server, **server_settings(settings)}
    for site in settings.sites:
        files |= site_settings(site, settings, approved_bundles=order.approved_bundles, ca_pem=ca_pem)
        files |= new_site_keys(site)
    return files
