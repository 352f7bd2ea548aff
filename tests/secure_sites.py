"""Sites of a secure sum in memory, which keep the promises that the protocol asks of a site: one list a round."""

import numpy as np

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import Identity
from shared_model.secure_sum.masks import mask, unmask
from shared_model.secure_sum.participants import Participants, require_survivors, sign_masked, sign_survivors
from shared_model.secure_sum.roster import Roster, advertise, threshold
from shared_model.secure_sum.round_keys import RoundSeeds, make_offer, open_shares
from shared_model.secure_sum.shamir import combine

RUN = "run 1"


class Site:
    """An honest site in one round of one run."""

    def __init__(self, number, *, run=RUN, server_round=0, seeds=None):
        self.name = f"site-{number}"
        self.secret = bytes([number]) * 32
        self.identity = Identity.from_secret(self.secret)
        self.run, self.server_round = run, server_round
        self.seeds = RoundSeeds.draw() if seeds is None else seeds
        self.participants = self.survivors = None

    def advert(self, num_patients=10):
        return advertise(self.identity, run=self.run, site=self.name, num_patients=num_patients, secret=self.secret)

    def join(self, roster, *, needed, fewest=2):
        """Make the one offer of the round."""
        self.roster, self.needed, self.fewest = roster, needed, fewest
        self.offer, self.sealed = make_offer(
            self.identity, self.secret, roster, self.name, self.server_round, self.seeds, needed
        )

    def mask(self, offers, sealed, values):
        """Answer the release request: the masked vector and its signature."""
        participants = Participants.checked(self.roster, self.server_round, offers, fewest=self.fewest)
        if self.participants is not None and participants != self.participants:
            raise ProtocolError("Expected one list of participants.")
        self.shares = open_shares(self.secret, self.roster, self.name, self.server_round, participants.offers, sealed)
        masked = mask(values, self.seeds, participants, self.name)
        self.participants = participants
        return masked, sign_masked(self.identity, participants, self.name)

    def agree(self, masked):
        """Sign the one list of survivors."""
        self._require_masked()
        if self.survivors is not None and tuple(sorted(masked)) != self.survivors:
            raise ProtocolError("Expected one list of survivors.")
        signature = sign_survivors(self.identity, self.participants, self.name, masked, fewest=self.fewest)
        self.survivors = tuple(sorted(masked))
        return signature

    def open(self, survivors, signatures):
        """Return own shares of survivors and mask shares of the others."""
        self._require_masked()
        agreed = require_survivors(self.participants, survivors, signatures, threshold=self.needed)
        if agreed != self.survivors:
            raise ProtocolError("Expected the list that this site signed.")
        dropped = set(self.participants.sites) - set(agreed)
        return {site: self.shares[site].own for site in agreed}, {site: self.shares[site].mask for site in dropped}

    def _require_masked(self):
        if self.participants is None:
            raise ProtocolError("Expected a list of participants first.")


def roster_of(sites, run=RUN):
    pinned = {site.name: site.identity.public for site in sites}
    return Roster.checked(run, [site.advert() for site in sites], partners=pinned)


def joined(num_sites, *, max_colluding=0, fewest=2, **settings):
    """Sites that have made their offers."""
    sites = [Site(number, **settings) for number in range(1, num_sites + 1)]
    roster = roster_of(sites, sites[0].run)
    for site in sites:
        site.join(roster, needed=threshold(num_sites, max_colluding), fewest=fewest)
    return sites


def sealed_for(name, sites):
    return {site.name: site.sealed[name] for site in sites}


def masked_by(sites, values, participants=None):
    """All of ``sites`` mask for the offers of ``participants``; returns vectors and signatures by name."""
    others = sites if participants is None else participants
    offers = [site.offer for site in others]
    return {site.name: site.mask(offers, sealed_for(site.name, others), values[site.name]) for site in sites}


def values_of(sites, num_values=5, seed=0):
    generator = np.random.default_rng(seed)
    return {site.name: generator.integers(0, 2**32, num_values, dtype=np.uint32) for site in sites}


def sum_of(vectors, num_values=5):
    return sum(vectors, np.zeros(num_values, np.uint32))


def opened(participants, survivors, answers, total, needed):
    """The coordinator's last step: ``answers`` are what ``Site.open`` returned, by name."""

    def seeds(kind, names):
        return {
            name: combine({participants.roster.position(each): answers[each][kind][name] for each in answers}, needed)
            for name in names
        }

    dropped = set(participants.sites) - set(survivors)
    return unmask(total, participants, survivors, seeds(0, survivors), seeds(1, dropped))
