"""A site's seeds of one round, and their shares sealed for its partners, so that a sum opens although a site fails."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import KEY_BYTES, SIGNATURE_BYTES, require_bytes, require_count, require_site
from shared_model.secure_sum.identity import Identity, require_signed, statement
from shared_model.secure_sum.key_agreement import derive, private_key, shared_secret
from shared_model.secure_sum.roster import Roster, run_private_key
from shared_model.secure_sum.shamir import SEED_BYTES, split

_NONCE_BYTES = 12
_TAG_BYTES = 16
SEALED_BYTES = _NONCE_BYTES + 2 * SEED_BYTES + _TAG_BYTES
MOST_ROUNDS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class RoundSeeds:
    """The two secrets of a site in one round; partners ever open one of them, and never both.

    Raises:
        ProtocolError: one has not 16 bytes.
    """

    mask: bytes = field(repr=False)
    """Gives the key of the masks that it shares with each partner; opened if its vector does not arrive."""
    own: bytes = field(repr=False)
    """Gives the mask that is its alone; opened if its vector is in the sum."""

    def __post_init__(self) -> None:
        require_bytes(self.mask, SEED_BYTES, "a mask seed")
        require_bytes(self.own, SEED_BYTES, "an own seed")

    @classmethod
    def draw(cls) -> Self:
        """Return new seeds from the operating system."""
        return cls(mask=os.urandom(SEED_BYTES), own=os.urandom(SEED_BYTES))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what ``to_bytes`` returned.

        Raises:
            ProtocolError: it has not 32 bytes.
        """
        require_bytes(content, 2 * SEED_BYTES, "a round's seeds")
        return cls(mask=content[:SEED_BYTES], own=content[SEED_BYTES:])

    def to_bytes(self) -> bytes:
        """Return both, 32 bytes."""
        return self.mask + self.own


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a site shows all others of a round's keys.

    Raises:
        ProtocolError: a field is malformed.
    """

    site: str
    mask_key: bytes
    """Its public X25519 key of this round, 32 bytes."""
    signature: bytes
    """By its identity, over the roster, the round and both of the above."""

    def __post_init__(self) -> None:
        require_site(self.site)
        require_bytes(self.mask_key, KEY_BYTES, "a mask key")
        require_bytes(self.signature, SIGNATURE_BYTES, "an offer's signature")


@dataclass(frozen=True, kw_only=True)
class SeedShares:
    """One partner's shares, 16 bytes each, of the seeds of one site in one round."""

    mask: bytes = field(repr=False)
    own: bytes = field(repr=False)


def mask_private_key(mask_seed: bytes, roster: Roster, site: str, server_round: int) -> X25519PrivateKey:
    """Return the private key of ``site`` in one round, whose public part its offer shows."""
    return private_key(mask_seed, statement("mask key", roster.digest, server_round, site))


def make_offer(  # noqa: PLR0913, PLR0917 - each is bound into the signature or the seals
    identity: Identity,
    secret: bytes,
    roster: Roster,
    site: str,
    server_round: int,
    seeds: RoundSeeds,
    threshold: int,
) -> tuple[Offer, Mapping[str, bytes]]:
    """Return the offer of ``site``, and the sealed shares of its seeds by recipient, one for itself among them.

    Shares and seals are new at every call. Who answers twice keeps the first answer and sends that.

    Args:
        identity: of the site.
        secret: the site's, 32 bytes.
        roster: of the run.
        site: its name.
        server_round: from 0.
        seeds: drawn for this round alone.
        threshold: how many sites open a seed; see ``roster.threshold``.

    Raises:
        ProtocolError: the roster does not hold ``site`` with these keys, or the round is none.
        ValueError: ``threshold`` is not from 2 to the number of sites.
    """
    require_count(server_round, 0, MOST_ROUNDS, "a round")
    roster.require_member(site, secret)
    mask_key = mask_private_key(seeds.mask, roster, site, server_round).public_key().public_bytes_raw()
    content = _offer_statement(roster, site, server_round, mask_key)
    offer = Offer(site=site, mask_key=mask_key, signature=identity.sign(content))
    own_key, num_sites = run_private_key(secret, roster.run), len(roster.sites)
    shares = zip(split(seeds.mask, threshold, num_sites), split(seeds.own, threshold, num_sites), strict=True)
    sealed = {}
    for advert, pair in zip(roster.adverts, shares, strict=True):
        info = _seal_statement(roster, server_round, offer, advert.site)
        key, nonce = derive(shared_secret(own_key, advert.run_key), info), os.urandom(_NONCE_BYTES)
        sealed[advert.site] = nonce + AESGCM(key).encrypt(nonce, b"".join(pair), info)
    return offer, sealed


def require_offer(roster: Roster, server_round: int, offer: Offer) -> None:
    """Check that the site that ``offer`` names made it for this roster and round.

    Raises:
        ProtocolError: it did not.
    """
    content = _offer_statement(roster, offer.site, server_round, offer.mask_key)
    require_signed(roster.advert(offer.site).identity, content, offer.signature)


def open_shares(
    secret: bytes,
    roster: Roster,
    site: str,
    server_round: int,
    offers: Iterable[Offer],
    sealed: Mapping[str, bytes],
) -> dict[str, SeedShares]:
    """Return, by sender, the shares that the sites of ``offers`` sealed for ``site``.

    Args:
        secret: of ``site``, 32 bytes.
        roster: of the run.
        site: the recipient.
        server_round: from 0.
        offers: of the senders; a seal holds for its sender's mask key alone.
        sealed: by sender, as ``make_offer`` returned it for ``site``.

    Raises:
        ProtocolError: one is missing, was changed, or sealed by or for another site, in another run or round, or for
            another offer.
        ValueError: ``secret`` has not 32 bytes.
    """
    roster.require_member(site, secret)
    own_key, opened = run_private_key(secret, roster.run), {}
    for offer in offers:
        content = sealed.get(offer.site, b"")
        require_bytes(content, SEALED_BYTES, "sealed shares")
        info = _seal_statement(roster, server_round, offer, site)
        key = derive(shared_secret(own_key, roster.advert(offer.site).run_key), info)
        try:
            shares = AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], info)
        except InvalidTag as error:
            raise ProtocolError(
                f"Expected shares that {offer.site} sealed for {site} in round {server_round}: they were changed or "
                "exchanged on the way."
            ) from error
        opened[offer.site] = SeedShares(mask=shares[:SEED_BYTES], own=shares[SEED_BYTES:])
    return opened


def _offer_statement(roster: Roster, site: str, server_round: int, mask_key: bytes) -> bytes:
    return statement("offer", roster.digest, server_round, site, mask_key)


def _seal_statement(roster: Roster, server_round: int, offer: Offer, recipient: str) -> bytes:
    return statement("shares", roster.digest, server_round, offer.site, offer.mask_key, recipient)
