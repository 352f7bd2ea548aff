"""Who a site is to its partners: an Ed25519 key (RFC 8032), and statements that mean one thing only."""

from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import KEY_BYTES, SIGNATURE_BYTES, require_bytes
from shared_model.secure_sum.key_agreement import derive

SECRET_BYTES = 32
_VERSION = "federated-mammography secure sum 1"
_LENGTH_BYTES = 8


def statement(kind: str, *parts: str | bytes | int) -> bytes:
    """Return what is signed, hashed or a key is derived for: different arguments never give the same bytes.

    Every part is written as its type, its length (8 bytes, big-endian) and its content, after the protocol's version.

    Raises:
        TypeError: a part is no text, bytes or whole number.
    """
    return b"".join(_encoded(part) for part in (_VERSION, kind, *parts))


def _encoded(part: str | bytes | int) -> bytes:
    if isinstance(part, str):
        tag, content = b"s", part.encode("utf-8", "surrogatepass")
    elif isinstance(part, bytes):
        tag, content = b"b", part
    elif type(part) is int:
        tag, content = b"i", part.to_bytes(part.bit_length() // 8 + 1, "big", signed=True)
    else:
        raise TypeError(f"Expected text, bytes or a whole number in a statement, got {type(part).__name__}.")
    return tag + len(content).to_bytes(_LENGTH_BYTES, "big") + content


class Identity:
    """The signing key of a site, the same in every run."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Sign with ``key``."""
        self._key = key
        self.public = key.public_key().public_bytes_raw()
        """32 bytes; partners pin them in their policies."""

    @classmethod
    def from_secret(cls, secret: bytes) -> Self:
        """Return the identity of the site with this ``secret``.

        Raises:
            ValueError: ``secret`` has not 32 bytes.
        """
        require_secret(secret)
        return cls(Ed25519PrivateKey.from_private_bytes(derive(secret, statement("identity"))))

    def sign(self, content: bytes) -> bytes:
        """Return the signature, 64 bytes, of a ``statement``."""
        return self._key.sign(content)


def require_secret(secret: bytes) -> None:
    """Check the length of a site's secret.

    Raises:
        ValueError: it has not 32 bytes.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"Expected a secret of length={len(secret)} == {SECRET_BYTES} bytes.")


def require_signed(public: bytes, content: bytes, signature: bytes) -> None:
    """Check that the holder of ``public`` signed the statement ``content``.

    Raises:
        ProtocolError: nobody did, or somebody else, or something else was signed.
    """
    require_bytes(public, KEY_BYTES, "an identity")
    require_bytes(signature, SIGNATURE_BYTES, "a signature")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, content)
    except (InvalidSignature, ValueError) as error:
        raise ProtocolError(
            "Expected a statement signed by the site that it names; it was changed, or is of another run or round."
        ) from error
