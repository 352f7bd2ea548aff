"""Masks that vanish in the sum (Bonawitz et al. 2017, section 4): uniform words modulo 2^32, one key each.

A site adds its own mask, the masks that it shares with participants after it, and subtracts those that it shares with
participants before it. Without the seeds, a masked vector is as good as uniform and tells nothing of the values.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import require_bytes
from shared_model.secure_sum.identity import statement
from shared_model.secure_sum.key_agreement import derive, shared_secret
from shared_model.secure_sum.participants import Participants
from shared_model.secure_sum.round_keys import RoundSeeds, mask_private_key
from shared_model.secure_sum.shamir import SEED_BYTES

Words = npt.NDArray[np.uint32]
_COUNTER_BYTES = 16


def mask(values: Words, seeds: RoundSeeds, participants: Participants, site: str) -> Words:
    """Return ``values`` ``(D,)`` masked, modulo 2^32; ``values`` stay as they are.

    One vector a round: two vectors under the same masks would show their difference. What can be refused depends on
    no value, so a caller may learn it from an empty vector.

    Args:
        values: on the grid, uint32.
        seeds: of the site in this round.
        participants: of the round.
        site: who masks.

    Raises:
        ProtocolError: ``site`` is no participant, or its offer was made with other seeds.
        ValueError: ``values`` is no vector of uint32.
    """
    _require_words(values)
    private = _mask_key(seeds.mask, participants, site)
    masked = values + _own_mask(seeds.own, participants, site, values.size)
    for partner in participants.sites:
        if partner != site:
            words = _pair_mask(private, participants, site, partner, values.size)
            _add(masked, words, is_added=partner > site)
    return masked


def unmask(
    total: Words,
    participants: Participants,
    survivors: Iterable[str],
    own_seeds: Mapping[str, bytes],
    mask_seeds: Mapping[str, bytes],
) -> Words:
    """Return the sum ``(D,)``, modulo 2^32, of the survivors' values.

    Args:
        total: sum modulo 2^32 of the survivors' masked vectors, uint32.
        participants: of the round.
        survivors: whose vectors are in ``total``.
        own_seeds: of every survivor. A wrong one cannot be told, and gives a sum that is uniform.
        mask_seeds: of every participant that is no survivor.

    Raises:
        ProtocolError: a seed is missing, malformed, one too many, or does not give its site's mask key.
        ValueError: ``total`` is no vector of uint32.
    """
    _require_words(total)
    agreed = participants.survivors(survivors)
    dropped = set(participants.sites) - set(agreed)
    if set(own_seeds) != set(agreed) or set(mask_seeds) != dropped:
        raise ProtocolError("Expected the own seed of every survivor, the mask seed of all others, and nothing else.")
    private = {site: _mask_key(mask_seeds[site], participants, site) for site in sorted(dropped)}
    opened = total.copy()
    for survivor in agreed:
        require_bytes(own_seeds[survivor], SEED_BYTES, "an own seed")
        _add(opened, _own_mask(own_seeds[survivor], participants, survivor, total.size), is_added=False)
        for site, key in private.items():
            words = _pair_mask(key, participants, site, survivor, total.size)
            _add(opened, words, is_added=site < survivor)
    return opened


def _add(words: Words, others: Words, *, is_added: bool) -> None:
    (np.add if is_added else np.subtract)(words, others, out=words)


def _mask_key(mask_seed: bytes, participants: Participants, site: str) -> X25519PrivateKey:
    require_bytes(mask_seed, SEED_BYTES, "a mask seed")
    private = mask_private_key(mask_seed, participants.roster, site, participants.server_round)
    if private.public_key().public_bytes_raw() != participants.mask_key(site):
        raise ProtocolError(f"Expected the mask seed of {site} in round {participants.server_round}, got another.")
    return private


def _own_mask(own_seed: bytes, participants: Participants, site: str, num_words: int) -> Words:
    return _keystream(derive(own_seed, statement("own mask", participants.digest, site)), num_words)


def _pair_mask(private: X25519PrivateKey, participants: Participants, site: str, partner: str, num_words: int) -> Words:
    """Return the mask of two participants, the same from either's private key: here that of ``site``."""
    info = statement("pair mask", participants.digest, min(site, partner), max(site, partner))
    return _keystream(derive(shared_secret(private, participants.mask_key(partner)), info), num_words)


def _keystream(key: bytes, num_words: int) -> Words:
    """Return AES-256 in counter mode (NIST SP 800-38A, 6.5) as little-endian words; every key serves once."""
    encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(_COUNTER_BYTES))).encryptor()
    return np.frombuffer(encryptor.update(bytes(4 * num_words)), dtype="<u4").astype(np.uint32, copy=False)


def _require_words(values: Words) -> None:
    if values.ndim != 1 or values.dtype != np.uint32:
        raise ValueError(f"Expected a vector of uint32, got shape={values.shape} and dtype={values.dtype}.")
