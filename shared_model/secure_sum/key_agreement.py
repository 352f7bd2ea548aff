"""Keys that two sites share and nobody else knows: X25519 (RFC 7748), and HKDF-SHA256 (RFC 5869) to derive keys."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import KEY_BYTES, require_bytes

# The result for a point of low order is zero under every private key, so any key finds such points out.
_ANY_KEY = X25519PrivateKey.from_private_bytes(bytes(range(KEY_BYTES)))


def derive(secret: bytes, info: bytes, num_bytes: int = KEY_BYTES) -> bytes:
    """Return the key of ``num_bytes`` that ``secret`` gives for the purpose ``info``; for another, independent."""
    return HKDF(algorithm=SHA256(), length=num_bytes, salt=None, info=info).derive(secret)


def private_key(secret: bytes, info: bytes) -> X25519PrivateKey:
    """Return the private key that ``secret`` gives for the purpose ``info``."""
    return X25519PrivateKey.from_private_bytes(derive(secret, info))


def shared_secret(own: X25519PrivateKey, public: bytes) -> bytes:
    """Return the 32 bytes that ``own`` shares with the holder of ``public``; keys are derived from them.

    Raises:
        ProtocolError: ``public`` is no public key, or a point of low order, with which nothing is secret.
    """
    require_bytes(public, KEY_BYTES, "an X25519 public key")
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise ProtocolError("Expected an X25519 public key, got a point of low order.") from error


def require_public_key(public: bytes) -> None:
    """Check that ``public`` is a key with which a secret can be shared.

    Raises:
        ProtocolError: it is not.
    """
    shared_secret(_ANY_KEY, public)
