"""Checks of certificates before a connection: days left, names, key, and whether the authority signed (RFC 5280)."""

import ipaddress
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from shared_model.errors import ConfigError


def certificate_days_left(path: Path, now: datetime) -> float:
    """Return the days from ``now`` until the certificate expires; zero or negative when it has expired.

    Args:
        path: PEM; of several certificates the first.
        now: with a time zone.

    Raises:
        ConfigError: the file cannot be read or holds no certificate.
        ValueError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError(f"Expected now={now} with a time zone.")
    return (_load(path).not_valid_after_utc - now) / timedelta(days=1)


def require_signed_by(certificate: Path, authority: Path) -> None:
    """Check that ``authority`` is an authority and signed ``certificate``; dates and host names are not looked at.

    Raises:
        ConfigError: a file cannot be read, or ``authority`` did not sign ``certificate`` or may not.
    """
    signed, signer = _load(certificate), _load(authority)
    if not _is_authority(signer):
        raise ConfigError(f"Expected {authority} to be the certificate of an authority.")
    try:
        signed.verify_directly_issued_by(signer)
    except (InvalidSignature, UnsupportedAlgorithm, TypeError, ValueError) as error:
        raise ConfigError(f"Expected {certificate} to be signed by {authority}.") from error


def require_made_out_to(certificate: Path, hosts: Iterable[str]) -> None:
    """Check that a certificate is for each of ``hosts``: DNS names and IP addresses, without brackets.

    Raises:
        ConfigError: the file cannot be read, or a host is missing; the message names the first.
    """
    try:
        names = _load(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
        addresses = set(names.get_values_for_type(x509.IPAddress))
    except (x509.ExtensionNotFound, ValueError):
        known, addresses = set(), set()
    for host in hosts:
        try:
            is_named = ipaddress.ip_address(host) in addresses
        except ValueError:
            is_named = host.lower() in known
        if not is_named:
            raise ConfigError(f"Expected {certificate} to be made out to {host}.")


def require_key_of(certificate: Path, key: PrivateKeyTypes) -> None:
    """Check that ``key`` is the private key of a certificate.

    Raises:
        ConfigError: the certificate cannot be read, or has another key.
    """
    if key.public_key() != _load(certificate).public_key():
        raise ConfigError(f"Expected the private key of {certificate}, got another.")


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"Expected a PEM certificate in {path}: {' '.join(str(error).split())}") from error


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False
