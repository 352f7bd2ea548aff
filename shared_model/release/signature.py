"""Digest and signature of a release: ECDSA on the curve and with the certificate that the coordinator's server has.

The signature is of ``release.json``, which names the digests of the other files. Who trusts the federation's authority
(``ca.pem`` of every kit) trusts what a certificate of it has signed. Whether the certificate has ended is not asked: a
release stays what it was when it was signed, and a site's approval of its digest is what admits it.
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from shared_model.errors import ReleaseError

_HASH = hashes.SHA384()


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of ``content``, hexadecimal in lower case; of ``release.json`` it is the release's digest."""
    return hashlib.sha256(content).hexdigest()


def sign(document: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the signature of ``release.json``: ASN.1 DER, over its SHA-384."""
    return key.sign(document, ec.ECDSA(_HASH))


def verify(document: bytes, signature: bytes, *, certificate: bytes, authority: bytes | None) -> str:
    """Check the signature, and the certificate if there is an authority to check it by; return the key's digest.

    Args:
        document: ``release.json``.
        signature: as ``sign`` returned it.
        certificate: PEM, of who signed.
        authority: PEM, of whom the site trusts; None checks that the files belong together, and not whose they are.

    Raises:
        ReleaseError: the signature is of something else or by somebody else, or a certificate is none.
    """
    signer = _certificate(certificate, "the release")
    try:
        key = signer.public_key()
    except (UnsupportedAlgorithm, ValueError) as error:
        raise ReleaseError("Expected the release's certificate to hold a key that this machine knows.") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ReleaseError("Expected the release's certificate to hold a key on an elliptic curve.")
    try:
        key.verify(signature, document, ec.ECDSA(_HASH))
    except InvalidSignature as error:
        raise ReleaseError(
            "Expected the signature to be of this release.json: the release was changed, or signed with another key."
        ) from error
    if authority is not None:
        try:
            signer.verify_directly_issued_by(_certificate(authority, "this site (ca.pem)"))
        except (InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError) as error:
            raise ReleaseError(
                "Expected the release's certificate to be signed by the authority of this federation (ca.pem); it is "
                "from somebody else."
            ) from error
    return signer.fingerprint(hashes.SHA256()).hex()


def _certificate(content: bytes, whose: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(content)
    except (x509.InvalidVersion, ValueError) as error:
        raise ReleaseError(f"Expected the certificate of {whose} as PEM, got something else.") from error
