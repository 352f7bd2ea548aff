"""Makes keys and certificates: an authority of the federation's own, and the server's certificate that it signs.

Keys are ECDSA on the curve P-384. Certificates follow RFC 5280. Flower reads a site's keys in the formats of OpenSSH.
"""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

from annotated_types import Interval
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
"""Validity of the authority: the server's certificate must not outlive it."""
ValidDays = Annotated[int, Interval(ge=1, le=AUTHORITY_DAYS)]
_AUTHORITY_NAME = "federated mammography CA"
_SERVER_NAME = "federated mammography server"
_CLOCK_SKEW = timedelta(minutes=5)
"""Certificates are valid from a little earlier, for sites whose clocks run late."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP384R1())


def private_pem(key: ec.EllipticCurvePrivateKey, passphrase: str | None) -> bytes:
    """Return the private key as a PKCS8 file, encrypted if there is a passphrase (of 1 to 1023 bytes)."""
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def private_openssh(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the private key as an OpenSSH file, not encrypted; ``--auth-supernode-private-key`` takes no other."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def public_line(key: ec.EllipticCurvePrivateKey, comment: str) -> bytes:
    """Return the public key as an OpenSSH line that ends in ``comment``, as ``flwr supernode register`` reads it."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {comment}\n".encode()


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as a PEM file."""
    return certificate.public_bytes(Encoding.PEM)


def authority_certificate(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """Return the certificate with which ``key`` signs those of servers; it is signed by itself.

    Args:
        key: of the authority.
        now: with a time zone; the certificate is valid for ``AUTHORITY_DAYS`` from then on.
    """
    return (
        x509.CertificateBuilder()
        .subject_name(_name(_AUTHORITY_NAME))
        .issuer_name(_name(_AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )


def server_certificate(
    key: ec.EllipticCurvePrivateKey,
    *,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    valid_days: int,
    now: datetime,
) -> x509.Certificate:
    """Return the server's certificate, signed by the authority.

    Args:
        key: of the server.
        authority_key: of the authority.
        hosts: DNS names and IP addresses, without brackets, for which it is valid beside ``localhost`` and
            ``127.0.0.1``.
        valid_days: at most ``AUTHORITY_DAYS``.
        now: with a time zone.
    """
    return (
        x509.CertificateBuilder()
        .subject_name(_name(_SERVER_NAME))
        .issuer_name(_name(_AUTHORITY_NAME))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_subject_alternative_names(hosts), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        # Python 3.13 refuses certificates without it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA384())
    )


def _subject_alternative_names(hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    # This machine's own programs reach the server by these two.
    names = map(_general_name, (*hosts, "localhost", "127.0.0.1"))
    return x509.SubjectAlternativeName(dict.fromkeys(names))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


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
