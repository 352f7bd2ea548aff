"""What sites reply in a secure sum; ``docs/secure-sums.md`` tells the protocol from beginning to end."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared_model.messages.types import TrainReply
from shared_model.secure_sum.roster import Advert
from shared_model.secure_sum.round_keys import Offer


@dataclass(frozen=True, kw_only=True)
class AdvertReply:
    """A site's keys for a run."""

    advert: Advert
    server_round: int = 0

    @property
    def site(self) -> str:
        """Whose they are."""
        return self.advert.site


@dataclass(frozen=True, kw_only=True)
class OfferReply:
    """A site's key for a round, and the shares of its masks, sealed for each site of the run."""

    server_round: int
    offer: Offer
    sealed: Mapping[str, bytes]

    @property
    def site(self) -> str:
        """Whose they are."""
        return self.offer.site


@dataclass(frozen=True, kw_only=True)
class MaskedReply:
    """What a site releases in a secure sum."""

    facts: TrainReply
    """Its update is empty."""
    values: NDArray[np.uint32]
    """``(D,)``: sum, noise and mask, modulo 2^32."""
    signature: bytes
    """For the list of those who take part."""

    @property
    def site(self) -> str:
        """Who released it."""
        return self.facts.site

    @property
    def server_round(self) -> int:
        """The round that it answers."""
        return self.facts.server_round


@dataclass(frozen=True, kw_only=True)
class AgreeReply:
    """A site's signature for the list of those whose values arrived."""

    site: str
    server_round: int
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class UnmaskReply:
    """A site's shares: of each listed site's own mask, and of the key of each that dropped out. Never both of one."""

    site: str
    server_round: int
    own: Mapping[str, bytes]
    mask: Mapping[str, bytes]
