"""What a secure sum costs: the CPU time of one site and of the server in a round, without training and without ledger.

All sites of a round are played one after another in this process, through the real keys, shares, signatures, seals and
masks. Every site does the same work, so that the mean over sites is that of one.
"""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from shared_model.secure_sum.identity import Identity
from shared_model.secure_sum.masks import Words, mask, unmask
from shared_model.secure_sum.participants import (
    Participants,
    require_masked,
    require_survivors,
    sign_masked,
    sign_survivors,
)
from shared_model.secure_sum.roster import Advert, Roster, advertise, threshold
from shared_model.secure_sum.round_keys import Offer, RoundSeeds, SeedShares, make_offer, open_shares
from shared_model.secure_sum.shamir import combine

NUM_SITES, NUM_VALUES = 10, 100_000
TARGET_SECONDS = 0.05
_LARGE = 11_252_736
"""The entries of a network of 45 MB."""
_RUN, _ROUND = "benchmark", 1
Value = TypeVar("Value")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SumCost:
    """CPU time of one round of one federation; two sites drop out where two may, after they have masked."""

    num_sites: int
    num_values: int
    site_seconds: float
    """Of one site: mean over sites, least of the repeats."""
    server_seconds: float

    @property
    def meets_target(self) -> bool | None:
        """Whether a site needs little enough; None where no target stands."""
        if (self.num_sites, self.num_values) != (NUM_SITES, NUM_VALUES):
            return None
        return self.site_seconds < TARGET_SECONDS


def sum_sizes(*, with_large: bool) -> list[tuple[int, int]]:
    """Return the numbers of sites and values that the command measures."""
    return [(3, NUM_VALUES), (NUM_SITES, NUM_VALUES), (30, NUM_VALUES), *([(NUM_SITES, _LARGE)] if with_large else [])]


def measure_sums(
    sizes: Sequence[tuple[int, int]], *, num_repeats: int, progress: Callable[[str], None]
) -> list[SumCost]:
    """Return a row for each number of sites and values.

    Args:
        sizes: at least 3 sites, at least 1 value.
        num_repeats: at least 1.
        progress: called with what is measured next.
    """
    rows = []
    for num_sites, num_values in sizes:
        progress(f"secure sum of {num_sites} sites, {num_values} values")
        rounds = [_measure(num_sites, num_values) for _ in range(num_repeats)]
        rows.append(min(rounds, key=lambda row: row.site_seconds))
    return rows


class _Clock:
    """Adds up the CPU time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, call: Callable[[], Value]) -> Value:
        started = time.process_time()
        value = call()
        self.seconds += time.process_time() - started
        return value


def _measure(num_sites: int, num_values: int) -> SumCost:
    played = _Federation.of(num_sites)
    site, server = _Clock(), _Clock()
    offers = {name: site(partial(played.offer, name)) for name in played.names}
    participants = played.participants(offers)
    shares = {name: site(partial(played.open, name, offers)) for name in played.names}
    values = np.arange(num_values, dtype=np.uint32)
    survivors = played.names[: max(played.needed, num_sites - 2)]
    total: Words = np.zeros(num_values, np.uint32)
    masked = {}
    for name in played.names:
        words = site(partial(mask, values, played.seeds[name], participants, name))
        masked[name] = site(partial(sign_masked, played.identities[name], participants, name))
        if name in survivors:
            server(partial(np.add, total, words, out=total))
    listed = {name: masked[name] for name in survivors}
    agreed = {name: site(partial(played.agree, name, offers, listed)) for name in played.names}
    for _ in played.names:
        site(partial(played.check, offers, listed, agreed))
    opened = server(partial(_unmasked, total, participants, survivors, shares, played.needed))
    if not (opened == values * np.uint32(len(survivors))).all():
        raise AssertionError("Expected the sum of the values.")
    return SumCost(
        num_sites=num_sites,
        num_values=num_values,
        site_seconds=site.seconds / num_sites,
        server_seconds=server.seconds,
    )


_Offers = Mapping[str, tuple[Offer, Mapping[str, bytes]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Federation:
    """All sites and their secrets; each message has roster and participants checked again, as at a real site."""

    secrets: dict[str, bytes]
    identities: dict[str, Identity]
    seeds: dict[str, RoundSeeds]
    adverts: tuple[Advert, ...]
    needed: int

    @classmethod
    def of(cls, num_sites: int) -> "_Federation":
        """Return ``num_sites`` sites with new secrets."""
        secrets = {f"site-{number:04d}": os.urandom(32) for number in range(num_sites)}
        identities = {name: Identity.from_secret(secret) for name, secret in secrets.items()}
        adverts = tuple(
            advertise(identities[name], run=_RUN, site=name, num_patients=100, secret=secret)
            for name, secret in secrets.items()
        )
        seeds = {name: RoundSeeds.draw() for name in secrets}
        needed = threshold(num_sites, 0)
        return cls(secrets=secrets, identities=identities, seeds=seeds, adverts=adverts, needed=needed)

    @property
    def names(self) -> list[str]:
        """All sites."""
        return list(self.secrets)

    def roster(self) -> Roster:
        """Return the sites of the run, checked."""
        pinned = {name: identity.public for name, identity in self.identities.items()}
        return Roster.checked(_RUN, self.adverts, partners=pinned)

    def participants(self, offers: _Offers) -> Participants:
        """Return those who take part, checked."""
        return Participants.checked(self.roster(), _ROUND, [offer for offer, _ in offers.values()], fewest=self.needed)

    def offer(self, name: str) -> tuple[Offer, Mapping[str, bytes]]:
        """Return what a site sends first in a round."""
        return make_offer(
            self.identities[name], self.secrets[name], self.roster(), name, _ROUND, self.seeds[name], self.needed
        )

    def open(self, name: str, offers: _Offers) -> dict[str, SeedShares]:
        """Return the shares that the others sealed for a site."""
        roster = self.participants(offers).roster
        sealed_for = {sender: sealed[name] for sender, (_, sealed) in offers.items()}
        return open_shares(
            self.secrets[name], roster, name, _ROUND, [offer for offer, _ in offers.values()], sealed_for
        )

    def agree(self, name: str, offers: _Offers, listed: Mapping[str, bytes]) -> bytes:
        """Return what a site signs for the list of those whose values arrived."""
        participants = self.participants(offers)
        return sign_survivors(self.identities[name], participants, name, listed, fewest=self.needed)

    def check(self, offers: _Offers, listed: Mapping[str, bytes], agreed: Mapping[str, bytes]) -> None:
        """Check what a site checks before it gives its shares away."""
        participants = self.participants(offers)
        for name, signature in listed.items():
            require_masked(participants, name, signature)
        require_survivors(participants, listed, agreed, threshold=self.needed)


def _unmasked(
    total: Words,
    participants: Participants,
    survivors: Sequence[str],
    shares: Mapping[str, Mapping[str, SeedShares]],
    needed: int,
) -> Words:
    position = participants.roster.position
    own, of_dropped = (
        {
            name: combine({position(holder): getattr(held[name], kind) for holder, held in shares.items()}, needed)
            for name in names
        }
        for kind, names in (("own", survivors), ("mask", [n for n in participants.sites if n not in survivors]))
    )
    return unmask(total, participants, survivors, own, of_dropped)
