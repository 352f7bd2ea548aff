"""Start-up kits: the folders with keys, certificates and settings from which the server and every site start.

All connections are TLS to the server. Its certificate is signed by an authority that is made here, and sites trust no
other. The server knows every site by a key: the private part is in the site's kit, the public part in the server's.
"""

import ipaddress
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import yaml
from annotated_types import Interval

from server.deployment.certificate_authority import (
    AUTHORITY_DAYS,
    authority_certificate,
    certificate_pem,
    new_key,
    private_openssh,
    private_pem,
    public_line,
    server_certificate,
)
from shared_model.config.bounds import SiteName
from shared_model.config.choices import DataSource
from shared_model.config.composition import CONFIG_FOLDER
from shared_model.errors import ConfigError
from shared_model.system.checked import NOT_EMPTY, checked, rule
from shared_model.system.files import write_atomically

_POLICY = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 1123, 2.1. Names whose last label is a number are mistyped IPv4 addresses.
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
_MAX_DNS_NAME = 253

_SERVER_README = """\
Kit of the server at {address}: certificate and key of the server, and in sites/ the public key of every site.
server.key is secret: leave it here, readable by the account of the server alone. No site needs it.
Whoever holds server.key can pose as the server; if it leaks, make new kits for all.
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


def _is_host(host: str) -> bool:
    try:
        # 0.0.0.0 is an address to listen at that nobody can connect to, and a zone has a meaning on one machine only.
        return not ipaddress.ip_address(host).is_unspecified and "%" not in host
    except ValueError:
        return len(host) <= _MAX_DNS_NAME and _DNS_NAME.fullmatch(host) is not None


def _differ_without_case(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


Digest = Annotated[
    str, rule(re.compile(r"[0-9a-f]{64}").fullmatch, "to be a SHA-256 digest of 64 lower-case hexadecimal digits")
]


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
    """The kits that are asked for."""

    # The names are folders, and some file systems take MGH and mgh for the same.
    sites: Annotated[tuple[SiteName, ...], NOT_EMPTY, rule(_differ_without_case, "to be distinct, ignoring case")]
    host: Annotated[str, rule(_is_host, "to be the DNS name or IP address at which sites reach the server")]
    """Without brackets."""
    port: Annotated[int, Interval(ge=1, le=65535)]
    valid_days: Annotated[int, Interval(ge=1, le=AUTHORITY_DAYS)]
    approved_bundles: tuple[Digest, ...]

    @property
    def address(self) -> str:
        """``host:port``, with brackets round an IPv6 address (RFC 3986, 3.2.2)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def provision(
    *, out: Path, sites: Sequence[str], host: str, port: int, valid_days: int, approved_bundles: Sequence[str]
) -> Kits:
    """Make the kits under ``out``: ``ca``, ``server`` and ``sites/NAME``.

    All is made in a temporary folder beside ``out``, which is renamed to ``out`` in the end, so a failure leaves
    ``out`` as it was. Only the owner may read files (0600) and enter folders (0700).

    Args:
        out: does not exist, or is an empty folder.
        sites: names as in ``federation.sites``, distinct ignoring case.
        host: DNS name or IP address at which sites reach the server.
        port: of the server.
        valid_days: validity of the server's certificate, in [1, 3650]; the authority's is 3650 days.
        approved_bundles: SHA-256 digests, hexadecimal in lower case, that every site's list begins with.

    Raises:
        ConfigError: an argument is out of bounds, or ``out`` is in use or cannot be written.
    """
    order = _Order(
        sites=tuple(sites),
        host=host,
        port=port,
        valid_days=valid_days,
        approved_bundles=tuple(dict.fromkeys(approved_bundles)),
    )
    try:
        out = out.resolve()
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ConfigError(f"Expected out={out} to be a new or empty folder.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            new_folder = Path(temporary) / out.name
            _write_kits(new_folder, order)
            # Replaces an empty folder and nothing else.
            new_folder.rename(out)
    except OSError as error:
        raise ConfigError(f"Expected out={out} to be a folder that can be written: {error}.") from error
    return Kits(authority=out / "ca", server=out / "server", sites={site: out / "sites" / site for site in order.sites})


def _write_kits(folder: Path, order: _Order) -> None:
    now = datetime.now(UTC)
    authority_key, server_key = new_key(), new_key()
    ca_pem = certificate_pem(authority_certificate(authority_key, now))
    server_pem = certificate_pem(
        server_certificate(
            server_key, authority_key=authority_key, host=order.host, valid_days=order.valid_days, now=now
        )
    )
    site_keys = {site: new_key() for site in order.sites}
    public_keys = {site: public_line(key, site) for site, key in site_keys.items()}
    _write_folder(folder, {})
    _write_folder(folder / "ca", {"ca.pem": ca_pem, "ca.key": private_pem(authority_key)})
    _write_folder(
        folder / "server",
        {
            "ca.pem": ca_pem,
            "server.pem": server_pem,
            "server.key": private_pem(server_key),
            "server.yaml": _yaml({"host": order.host, "port": order.port, "sites": list(order.sites)}),
            "README.md": _SERVER_README.format(address=order.address).encode(),
        },
    )
    _write_folder(folder / "server" / "sites", {f"{site}.pub": line for site, line in public_keys.items()})
    _write_folder(folder / "sites", {})
    for site, key in site_keys.items():
        keys = {"ca.pem": ca_pem, "node.key": private_openssh(key), "node.pub": public_keys[site]}
        _write_folder(folder / "sites" / site, keys | _site_settings(site, order))


def _site_settings(site: str, order: _Order) -> dict[str, bytes]:
    settings = {
        "site": site,
        "server": order.address,
        "data_root": None,
        "data_source": str(DataSource.MANIFEST),
        "roster": None,
        "ledger": "ledger.sqlite",
        "policy": "policy.yaml",
        "state_dir": "state",
    }
    return {
        "site.yaml": _SITE_HEADER.encode() + _yaml(settings),
        "policy.yaml": _POLICY.read_bytes(),
        "approved_bundles.txt": (_BUNDLES_HEADER + "".join(f"{each}\n" for each in order.approved_bundles)).encode(),
        "README.md": _SITE_README.format(site=site, address=order.address).encode(),
    }


def _write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(mode=0o700)
    for name, content in files.items():
        write_atomically(folder / name, content)


def _yaml(values: Mapping[str, object]) -> bytes:
    return yaml.safe_dump(dict(values), sort_keys=False).encode()
