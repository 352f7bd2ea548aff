"""Who masks in a round, and whose vectors are added: two lists, each signed, so that all sites mean the same one."""

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import require_count, require_site
from shared_model.secure_sum.identity import Identity, require_signed, statement
from shared_model.secure_sum.key_agreement import require_public_key
from shared_model.secure_sum.roster import Roster
from shared_model.secure_sum.round_keys import MOST_ROUNDS, Offer, require_offer


@dataclass(frozen=True, kw_only=True)
class Participants:
    """The sites that mask in a round, sorted: sites of the roster, each with an offer that it signed.

    Raises:
        ProtocolError: they are not.
    """

    roster: Roster
    server_round: int
    """From 0."""
    offers: tuple[Offer, ...]

    def __post_init__(self) -> None:
        require_count(self.server_round, 0, MOST_ROUNDS, "a round")
        require_count(len(self.offers), 2, len(self.roster.sites), "a number of participants")
        if any(first.site >= second.site for first, second in zip(self.offers, self.offers[1:], strict=False)):
            raise ProtocolError("Expected participants sorted by site, and every site once.")
        if len({offer.mask_key for offer in self.offers}) != len(self.offers):
            raise ProtocolError("Expected every mask key once among the participants, got one of them twice.")
        for offer in self.offers:
            require_offer(self.roster, self.server_round, offer)
            require_public_key(offer.mask_key)

    @classmethod
    def checked(cls, roster: Roster, server_round: int, offers: Iterable[Offer], *, fewest: int) -> Self:
        """Return the participants that made ``offers``, in whatever order they come.

        Args:
            roster: of the run.
            server_round: from 0.
            offers: as they arrived.
            fewest: how many sites' vectors may be added at the least.

        Raises:
            ProtocolError: there are fewer, or an offer is not by a site of the roster for this round.
        """
        found = cls(
            roster=roster, server_round=server_round, offers=tuple(sorted(offers, key=lambda offer: offer.site))
        )
        _require_enough(found.offers, fewest, "participants")
        return found

    @property
    def sites(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(offer.site for offer in self.offers)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over the roster, the round and all offers: what every mask and statement of the round is bound to."""
        parts: list[str | bytes | int] = []
        for offer in self.offers:
            parts += [offer.site, offer.mask_key]
        return hashlib.sha256(statement("participants", self.roster.digest, self.server_round, *parts)).digest()

    def mask_key(self, site: str) -> bytes:
        """Return the public mask key of ``site``.

        Raises:
            ProtocolError: it is no participant.
        """
        self.require(site)
        return self.offers[self.sites.index(site)].mask_key

    def require(self, site: str) -> None:
        """Check that ``site`` is a participant.

        Raises:
            ProtocolError: it is not.
        """
        require_site(site)
        if site not in self.sites:
            raise ProtocolError(f"Expected a participant of round {self.server_round}, got {site}.")

    def survivors(self, sites: Iterable[str], *, fewest: int = 2) -> tuple[str, ...]:
        """Return ``sites`` as the list that all sign: sorted, every site once, participants only.

        Raises:
            ProtocolError: there are fewer than ``fewest``, one stands twice, or one is no participant.
        """
        survivors = tuple(sites)
        for site in survivors:
            self.require(site)
        if len(set(survivors)) != len(survivors):
            raise ProtocolError("Expected every survivor once.")
        _require_enough(survivors, fewest, "survivors")
        return tuple(sorted(survivors))


def sign_masked(identity: Identity, participants: Participants, site: str) -> bytes:
    """Return the statement of ``site``, signed, that it masked its vector for these participants.

    The vector itself is not signed: only the coordinator adds vectors, and it may announce any sum that it likes; what
    partners have to know before they open a mask is under which list it was made.

    Raises:
        ProtocolError: ``site`` is no participant.
    """
    participants.require(site)
    return identity.sign(_masked_statement(participants, site))


def require_masked(participants: Participants, site: str, signature: bytes) -> None:
    """Check that ``site`` says that it masked its vector for these participants.

    Raises:
        ProtocolError: it does not.
    """
    participants.require(site)
    require_signed(participants.roster.advert(site).identity, _masked_statement(participants, site), signature)


def sign_survivors(
    identity: Identity, participants: Participants, site: str, masked: Mapping[str, bytes], *, fewest: int
) -> bytes:
    """Return the statement of ``site``, signed, that exactly the sites of ``masked`` are in the sum of this round.

    A site signs one such list a round, and ever. That is for the caller to keep.

    Args:
        identity: of ``site``.
        participants: of the round.
        site: a site of the roster.
        masked: by survivor, its signature of ``sign_masked``.
        fewest: how many sites' vectors may be added at the least.

    Raises:
        ProtocolError: there are fewer survivors, or one did not mask for these participants.
    """
    participants.roster.position(site)
    survivors = participants.survivors(masked, fewest=fewest)
    for survivor in survivors:
        require_masked(participants, survivor, masked[survivor])
    return identity.sign(_survivors_statement(participants, survivors, site))


def require_survivors(
    participants: Participants, survivors: Iterable[str], signatures: Mapping[str, bytes], *, threshold: int
) -> tuple[str, ...]:
    """Check that ``threshold`` sites of the roster agreed to this list of survivors; return it sorted.

    Args:
        participants: of the round.
        survivors: sites whose vectors are in the sum.
        signatures: by site, as ``sign_survivors`` returned them; all must hold.
        threshold: see ``roster.threshold``.

    Raises:
        ProtocolError: fewer agreed, or to another list.
    """
    agreed = participants.survivors(survivors)
    if len(signatures) < threshold:
        raise ProtocolError(f"Expected {threshold} sites to agree to the list of survivors, got {len(signatures)}.")
    for site, signature in signatures.items():
        advert = participants.roster.advert(site)
        require_signed(advert.identity, _survivors_statement(participants, agreed, site), signature)
    return agreed


def _masked_statement(participants: Participants, site: str) -> bytes:
    return statement("masked", participants.digest, site)


def _survivors_statement(participants: Participants, survivors: tuple[str, ...], site: str) -> bytes:
    return statement("survivors", participants.digest, site, *survivors)


def _require_enough(sites: tuple[object, ...] | Set[object], fewest: int, name: str) -> None:
    if len(sites) < fewest:
        raise ProtocolError(f"Expected at least {fewest} {name} of a secure sum, got {len(sites)}.")
