"""What stands in the kits, file by file: bytes by name, relative to the folder that holds all kits."""

from collections.abc import Sequence
from datetime import datetime

import yaml
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from server.deployment.certificate_authority import (
    certificate_pem,
    new_key,
    private_openssh,
    private_pem,
    public_line,
    server_certificate,
)
from server.deployment.private_keys import SERVER_PASSPHRASE, passphrase_in
from server.deployment.server_settings import ServerSettings
from shared_model.config.choices import DataSource
from shared_model.config.composition import CONFIG_FOLDER

SETTINGS = "server/server.yaml"
_POLICY = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
_SERVER_README = """\
Kit of the server at {address}: certificate and key of the server, and in sites/ the public key of every site.
server.key is secret: leave it here, readable by the account of the server alone. No site needs it.
Whoever holds server.key can pose as the server until its certificate ends; if it leaks, make new kits for all.
"""
_SITE_README = """\
Kit of site {site} for the federation at {address}: set data_root in site.yaml, and your limits in policy.yaml, which no
server can widen. Then run fedmammo site init, once and never again, and fedmammo site start.
node.key is secret: leave it here, readable by this site's account alone; whoever holds it can pose as this site.
"""
_SITE_HEADER = (
    "# Paths are relative to this file's folder. data_root: the folder of this hospital's mammograms and tables.\n"
)
_BUNDLES_HEADER = "# SHA-256 of every application bundle that this site answers to, one a line; others are refused.\n"
_RELEASES_HEADER = (
    "# SHA-256 of every release with which this site reads its own patients, one a line: fedmammo server release.\n"
)


def private_key_of(site: str) -> str:
    """Return where the kits hold a site's private key."""
    return f"sites/{site}/node.key"


def public_keys_of(site: str) -> tuple[str, str]:
    """Return where the kits hold a site's public key: in its own kit and in the server's."""
    return f"sites/{site}/node.pub", f"server/sites/{site}.pub"


def new_site_keys(site: str) -> dict[str, bytes]:
    """Make a key for a site and return its files; the server's part is the last."""
    key = new_key()
    own, servers = public_keys_of(site)
    line = public_line(key, site)
    return {private_key_of(site): private_openssh(key), own: line, servers: line}


def site_settings(
    site: str, settings: ServerSettings, *, approved_bundles: Sequence[str], ca_pem: bytes
) -> dict[str, bytes]:
    """Return the files of a site's kit without its keys."""
    values = {
        "site": site,
        "server": settings.address,
        "data_root": None,
        "data_source": str(DataSource.MANIFEST),
        "roster": None,
        "ledger": "ledger.sqlite",
        "policy": "policy.yaml",
        "state_dir": "state",
    }
    files = {
        "ca.pem": ca_pem,
        "site.yaml": _SITE_HEADER.encode() + yaml.safe_dump(values, sort_keys=False).encode(),
        "policy.yaml": _POLICY.read_bytes(),
        "approved_bundles.txt": (_BUNDLES_HEADER + "".join(f"{each}\n" for each in approved_bundles)).encode(),
        "approved_releases.txt": _RELEASES_HEADER.encode(),
        "README.md": _SITE_README.format(site=site, address=settings.address).encode(),
    }
    return {f"sites/{site}/{name}": content for name, content in files.items()}


def new_server_certificate(
    settings: ServerSettings, *, authority_key: EllipticCurvePrivateKey, valid_days: int, now: datetime
) -> dict[str, bytes]:
    """Make the server's key and certificate and return their files.

    Raises:
        ConfigError: the passphrase of the key cannot be one.
    """
    key = new_key()
    certificate = server_certificate(
        key, authority_key=authority_key, hosts=settings.hosts, valid_days=valid_days, now=now
    )
    return {
        "server/server.key": private_pem(key, passphrase_in(SERVER_PASSPHRASE)),
        "server/server.pem": certificate_pem(certificate),
    }


def server_settings(settings: ServerSettings) -> dict[str, bytes]:
    """Return the files of the server's kit that say what its settings are."""
    return {
        "server/README.md": _SERVER_README.format(address=settings.address).encode(),
        SETTINGS: settings.to_yaml(),
    }
