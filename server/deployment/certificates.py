"""Checks of certificates before a connection: days left, and whether the authority signed (RFC 5280)."""

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

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
