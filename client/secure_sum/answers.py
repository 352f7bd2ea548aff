"""What a site answers around a masked release: its keys, the shares of its masks, and at last the shares that it holds.

Nothing here looks at a patient. Each answer is made once for a round and kept, so that the same question gets the same
answer and another question about the same round gets none (``client.privacy.ledger_sums``).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping

from client.privacy.ledger_sums import SumRound
from client.secure_sum.roster_check import (
    checked_participants,
    checked_roster,
    own_advert,
    own_identity,
    shares_needed,
    sum_parts,
)
from client.site import Site
from shared_model.config.fingerprints import config_fingerprint
from shared_model.errors import ProtocolError
from shared_model.messages import Request, request_digest
from shared_model.messages.sum_replies import AdvertReply, AgreeReply, OfferReply, UnmaskReply
from shared_model.secure_sum.participants import (
    Participants,
    require_masked,
    require_survivors,
    sign_survivors,
)
from shared_model.secure_sum.roster import Roster
from shared_model.secure_sum.round_keys import Offer, RoundSeeds, SeedShares, make_offer, open_shares

_SEED_BYTES = 16


def advertise_locally(request: Request, site: Site) -> AdvertReply:
    """Return this site's keys for the run.

    Raises:
        ProtocolError: the run has no secure sums.
    """
    if not request.config.federation.secure_sum:
        raise ProtocolError("Expected no message of a secure sum with federation.secure_sum=false.")
    return AdvertReply(advert=own_advert(request, site), server_round=request.server_round)


def offer_locally(request: Request, site: Site) -> OfferReply:
    """Return this site's key for the round, and the shares of its two seeds, sealed for every site of the run.

    Raises:
        ProtocolError: the sites are not those that this site can form a sum with, or are others than before in the run.
        PolicyError: the site's policy names no partners.
    """
    roster = checked_roster(request, site)

    def decide(known: Mapping[int, SumRound]) -> SumRound:
        _require_same_roster(known, roster)
        if request.server_round in known:
            return known[request.server_round]
        seeds = RoundSeeds.draw()
        offer, sealed = make_offer(
            own_identity(site),
            site.ledger.identity_secret,
            roster,
            site.name,
            request.server_round,
            seeds,
            shares_needed(request, roster),
        )
        return SumRound(roster=roster.digest, seeds=seeds.to_bytes(), offer=_to_bytes(offer, sealed))

    kept = site.ledger.settle_sum(config_fingerprint(request.config), request.server_round, decide)
    offer, sealed = _from_bytes(site.name, kept.offer)
    return OfferReply(server_round=request.server_round, offer=offer, sealed=sealed)


def join_round(request: Request, site: Site, roster: Roster) -> tuple[Participants, RoundSeeds | None]:
    """Open the shares of the others and settle who takes part in the round; return them, and this site's own seeds.

    The seeds are None once the round has gone on: then a release was made and stored.

    Args:
        request: for the release.
        site: this one.
        roster: of the request, checked.

    Raises:
        ProtocolError: this site made no offer for the round, list or request are others than before, or a share is not
            whole.
        PolicyError: the site's policy names no partners.
    """
    participants = checked_participants(request, roster, site)
    sealed, digest = sum_parts(request).sealed, request_digest(request)

    def decide(known: Mapping[int, SumRound]) -> SumRound:
        _require_same_roster(known, roster)
        kept = _of_round(known, request)
        if kept.participants is not None:
            if kept.participants != participants.digest:
                raise ProtocolError("Expected the list of those who take part as it was in this round before.")
            if kept.request != digest:
                raise ProtocolError("Expected the request that this site has masks for in this round, got another.")
            return kept
        own, _ = _from_bytes(site.name, kept.offer)
        if own not in participants.offers:
            raise ProtocolError("Expected this site with its own key among those that take part in the round.")
        shares = open_shares(
            site.ledger.identity_secret, roster, site.name, request.server_round, participants.offers, sealed
        )
        return dataclasses.replace(
            kept, participants=participants.digest, request=digest, shares=_shares_to_bytes(shares)
        )

    kept = site.ledger.settle_sum(config_fingerprint(request.config), request.server_round, decide)
    return participants, None if kept.seeds is None else RoundSeeds.from_bytes(kept.seeds)


def agree_locally(request: Request, site: Site) -> AgreeReply:
    """Sign the list of those whose values have arrived, once in a round; forget the seeds, which nobody needs now.

    Raises:
        ProtocolError: somebody on the list did not sign for it, they are too few, or the list is another than before.
        PolicyError: the site's policy names no partners.
    """
    roster, participants, survivors = _listed(request, site)

    def decide(known: Mapping[int, SumRound]) -> SumRound:
        kept = _joined(known, request, roster, participants)
        digest = _list_digest(survivors)
        if kept.survivors not in {None, digest}:
            raise ProtocolError("Expected the list of those whose values arrived as it was in this round before.")
        return dataclasses.replace(kept, survivors=digest, seeds=None)

    site.ledger.settle_sum(config_fingerprint(request.config), request.server_round, decide)
    masked, fewest = sum_parts(request).masked, request.config.federation.min_sites
    signature = sign_survivors(own_identity(site), participants, site.name, masked, fewest=fewest)
    return AgreeReply(site=site.name, server_round=request.server_round, signature=signature)


def unmask_locally(request: Request, site: Site) -> UnmaskReply:
    """Return of each listed site a share of its own mask, of each other that takes part one of its key: never both.

    Raises:
        ProtocolError: this site did not sign the list, or too few others did.
        PolicyError: the site's policy names no partners.
    """
    roster, participants, survivors = _listed(request, site)
    require_survivors(participants, survivors, sum_parts(request).agreed, threshold=shares_needed(request, roster))

    def decide(known: Mapping[int, SumRound]) -> SumRound:
        kept = _joined(known, request, roster, participants)
        if kept.survivors != _list_digest(survivors):
            raise ProtocolError("Expected the list of those whose values arrived that this site signed.")
        return kept

    kept = site.ledger.settle_sum(config_fingerprint(request.config), request.server_round, decide)
    shares = _shares_from_bytes(kept.shares or b"{}")
    return UnmaskReply(
        site=site.name,
        server_round=request.server_round,
        own={name: shares[name].own for name in survivors},
        mask={name: shares[name].mask for name in participants.sites if name not in survivors},
    )


def _listed(request: Request, site: Site) -> tuple[Roster, Participants, tuple[str, ...]]:
    """Return roster, participants and the list of those whose values arrived, each with its own signature."""
    roster = checked_roster(request, site)
    participants = checked_participants(request, roster, site)
    masked = sum_parts(request).masked
    survivors = participants.survivors(masked, fewest=request.config.federation.min_sites)
    for name, signature in masked.items():
        require_masked(participants, name, signature)
    return roster, participants, survivors


def _require_same_roster(known: Mapping[int, SumRound], roster: Roster) -> None:
    if any(kept.roster != roster.digest for kept in known.values()):
        raise ProtocolError("Expected the sites of a secure sum and their keys as they were in this run before.")


def _of_round(known: Mapping[int, SumRound], request: Request) -> SumRound:
    if request.server_round not in known:
        raise ProtocolError(f"Expected a secure sum in round {request.server_round} that this site made shares for.")
    return known[request.server_round]


def _joined(known: Mapping[int, SumRound], request: Request, roster: Roster, participants: Participants) -> SumRound:
    _require_same_roster(known, roster)
    kept = _of_round(known, request)
    if kept.participants != participants.digest:
        raise ProtocolError("Expected the list of those who take part that this site made its release for.")
    return kept


def _list_digest(sites: tuple[str, ...]) -> bytes:
    return hashlib.sha256(json.dumps(sites).encode()).digest()


def _to_bytes(offer: Offer, sealed: Mapping[str, bytes]) -> bytes:
    plain = {
        "mask_key": offer.mask_key.hex(),
        "signature": offer.signature.hex(),
        "sealed": {site: content.hex() for site, content in sealed.items()},
    }
    return json.dumps(plain).encode()


def _from_bytes(site: str, content: bytes) -> tuple[Offer, dict[str, bytes]]:
    plain = json.loads(content)
    sealed = {name: bytes.fromhex(text) for name, text in plain["sealed"].items()}
    mask_key, signature = (bytes.fromhex(plain[name]) for name in ("mask_key", "signature"))
    return Offer(site=site, mask_key=mask_key, signature=signature), sealed


def _shares_to_bytes(shares: Mapping[str, SeedShares]) -> bytes:
    return json.dumps({site: [each.mask.hex(), each.own.hex()] for site, each in shares.items()}).encode()


def _shares_from_bytes(content: bytes) -> dict[str, SeedShares]:
    plain = json.loads(content)
    return {site: SeedShares(mask=bytes.fromhex(mask), own=bytes.fromhex(own)) for site, (mask, own) in plain.items()}
