"""A seed of 16 bytes divided so that some number of shares gives it back and fewer tell nothing (Shamir 1979).

The field is GF(2^128); the library is pycryptodome. Its points are numbered from 1: the share at 0 would be the secret.
"""

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import require_bytes, require_count

SEED_BYTES = 16
_MOST_SHARES = 2**16


def split(secret: bytes, threshold: int, num_shares: int) -> tuple[bytes, ...]:
    """Return ``num_shares`` shares of ``secret``, 16 bytes each, new ones at every call.

    Args:
        secret: 16 bytes.
        threshold: how many shares give it back, at least 2.
        num_shares: at least ``threshold``; a share's position in the answer is part of it.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if len(secret) != SEED_BYTES:
        raise ValueError(f"Expected a secret of length={len(secret)} == {SEED_BYTES} bytes.")
    if not 2 <= threshold <= num_shares <= _MOST_SHARES:
        raise ValueError(f"Expected 2 <= threshold={threshold} <= num_shares={num_shares} <= {_MOST_SHARES}.")
    return tuple(share for _, share in Shamir.split(threshold, num_shares, secret, ssss=False))


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the secret, 16 bytes, of which ``split`` gave these shares.

    A wrong share gives a wrong secret, which only its user can notice. Of more shares than ``threshold`` the first
    ones are used.

    Args:
        shares: by their position in what ``split`` returned, from 0.
        threshold: as in ``split``.

    Raises:
        ProtocolError: there are fewer shares than ``threshold``, or one is malformed.
    """
    if len(shares) < threshold:
        raise ProtocolError(f"Expected at least {threshold} shares of a seed, got {len(shares)}.")
    for position, share in shares.items():
        require_count(position, 0, _MOST_SHARES - 1, "the position of a share")
        require_bytes(share, SEED_BYTES, "a share of a seed")
    used = sorted(shares)[:threshold]
    return Shamir.combine([(position + 1, shares[position]) for position in used], ssss=False)
