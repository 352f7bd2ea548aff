"""Start-up kits of a federation: an authority, the coordinator's kit and one kit for every site.

All connections are TLS to the coordinator, whose certificate the kits' own authority signs; sites trust no other
authority. The coordinator knows a site by its ECDSA key, in the formats that Flower reads: the private key as an
OpenSSH file (``flower-supernode --auth-supernode-private-key`` reads no other), the public key as one OpenSSH line
(``flwr supernode register``).
"""

import ipaddress
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared_model.config.choices import DataSource
from shared_model.config.experiment import CONFIG_FOLDER
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically

_POLICY = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
_AUTHORITY_NAME = "federated mammography CA"
_SERVER_NAME = "federated mammography server"
_MAX_DAYS = 3650
"""Validity of the authority: the server's certificate must not outlive it."""
_CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are valid from a little earlier, for sites whose clocks run late."""
_SITE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 1123, 2.1. Names whose last label is a number are mistyped IPv4 addresses.
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
_MAX_DNS_NAME = 253

_SERVER_README = """\
Kit of the coordinator at {address}: certificate and key of the server, and in sites/ the public key of every site.
server.key is secret: leave it here, readable by the coordinator's account alone. No site needs it.
Whoever holds server.key can pose as the coordinator; if it leaks, make new kits for all.
"""
_SITE_README = """\
Kit of site {site} for the federation at {address}: set data_root in site.yaml to the folder of your mammograms.
Make policy.yaml your own limits: no server can widen them. approved_bundles.txt lists the code that you answer to.
node.key is secret: leave it here, readable by this site's account alone; whoever holds it can pose as this site.
"""
_SITE_HEADER = (
    "# Paths are relative to this file's folder. data_root: the folder of this hospital's mammograms and tables.\n"
)
_BUNDLES_HEADER = "# SHA-256 of every application bundle that this site answers to, one a line; others are refused.\n"


@dataclass(frozen=True, kw_only=True)
class Kits:
    """Folders of the finished kits."""

    authority: Path
    """Certificate and private key of the authority: no running process needs it, so it stays offline."""
    server: Path
    sites: Mapping[str, Path]
    """By site name."""


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What is to be made."""

    sites: tuple[str, ...]
    host: str
    """A DNS name or an IP address, without brackets."""
    port: int
    valid_days: int
    approved_bundles: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [site.casefold() for site in self.sites]
        for name, is_met, expectation in (
            ("sites", len(names) >= 1, "not to be empty"),
            (
                "sites",
                all(map(_SITE_NAME.fullmatch, self.sites)),
                "to be names of at most 64 letters, digits, '-' and '_'",
            ),
            # The names are folders, and some file systems take MGH and mgh for the same.
            ("sites", len(set(names)) == len(names), "to be distinct, ignoring case"),
            ("host", _is_host(self.host), "to be the DNS name or IP address at which sites reach the server"),
            ("port", 1 <= self.port <= 65535, "in [1, 65535]"),
            ("valid_days", 1 <= self.valid_days <= _MAX_DAYS, f"in [1, {_MAX_DAYS}]"),
            (
                "approved_bundles",
                all(map(_DIGEST.fullmatch, self.approved_bundles)),
                "to be SHA-256 digests of 64 lower-case hexadecimal digits",
            ),
        ):
            if not is_met:
                value = getattr(self, name)
                raise ConfigError(
                    f"Expected {name}={list(value) if isinstance(value, tuple) else value} {expectation}."
                )

    @property
    def address(self) -> str:
        """``host:port``, with brackets round an IPv6 address (RFC 3986, 3.2.2)."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def provision(
    *, out: Path, sites: Sequence[str], host: str, port: int, valid_days: int, approved_bundles: Sequence[str]
) -> Kits:
    """Make the kits under ``out``: ``ca``, ``server`` and ``sites/NAME``.

    All is made in a temporary folder beside ``out``, which takes its name in the end: a failure leaves ``out`` as it
    was. Only the owner may read files (0600) and enter folders (0700). Private keys are not encrypted: processes that
    start without a person must read them.

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
            made = Path(temporary) / out.name
            _write_kits(made, order)
            # Replaces an empty folder and nothing else.
            made.rename(out)
    except OSError as error:
        raise ConfigError(f"Expected out={out} to be a folder that can be written: {error}.") from error
    return Kits(authority=out / "ca", server=out / "server", sites={site: out / "sites" / site for site in order.sites})


def _write_kits(folder: Path, order: _Order) -> None:
    now = datetime.now(UTC)
    authority_key, server_key = _new_key(), _new_key()
    authority = _authority_certificate(authority_key, now)
    server = _server_certificate(server_key, authority=authority, authority_key=authority_key, order=order, now=now)
    site_keys = {site: _new_key() for site in order.sites}
    public_keys = {site: _public_line(key, site) for site, key in site_keys.items()}
    ca_pem = authority.public_bytes(Encoding.PEM)
    _write_folder(folder, {})
    _write_folder(folder / "ca", {"ca.pem": ca_pem, "ca.key": _private_pem(authority_key)})
    _write_folder(
        folder / "server",
        {
            "ca.pem": ca_pem,
            "server.pem": server.public_bytes(Encoding.PEM),
            "server.key": _private_pem(server_key),
            "server.yaml": _yaml({"host": order.host, "port": order.port, "sites": list(order.sites)}),
            "README.md": _SERVER_README.format(address=order.address).encode(),
        },
    )
    _write_folder(folder / "server" / "sites", {f"{site}.pub": line for site, line in public_keys.items()})
    _write_folder(folder / "sites", {})
    for site, key in site_keys.items():
        keys = {"ca.pem": ca_pem, "node.key": _private_openssh(key), "node.pub": public_keys[site]}
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


def _is_host(host: str) -> bool:
    try:
        # 0.0.0.0 is an address to listen at that nobody can connect to, and a zone has a meaning on one machine only.
        return not ipaddress.ip_address(host).is_unspecified and "%" not in host
    except ValueError:
        return len(host) <= _MAX_DNS_NAME and _DNS_NAME.fullmatch(host) is not None


def _subject_alternative_names(host: str) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    return x509.SubjectAlternativeName([name, *(other for other in names if other != name)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _private_openssh(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _public_line(key: ec.EllipticCurvePrivateKey, site: str) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {site}\n".encode()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Signing certificates and nothing else, or signing the handshake and nothing else (RFC 5280, 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(_AUTHORITY_NAME))
        .issuer_name(_name(_AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=_MAX_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def _server_certificate(
    key: ec.EllipticCurvePrivateKey,
    *,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    order: _Order,
    now: datetime,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(_SERVER_NAME))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=order.valid_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_subject_alternative_names(order.host), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 refuses certificates without it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )
