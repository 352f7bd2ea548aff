"""The law of a secure sum: a coordinator that lies to every site as it likes, with colluding sites, opens one list.

Honest sites keep what they promise (one roster a run, one list of participants and one of survivors a round). The
coordinator chooses who sees which offers, which signatures and which list, and knows the seeds and shares of the sites
that collude with it. It has opened an honest site's vector if it has enough shares of both of its seeds; it has opened
a sum if it has enough shares of the own seeds. There must never be a vector, nor two sums.
"""

import itertools

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import statement
from shared_model.secure_sum.participants import Participants, sign_masked
from shared_model.secure_sum.roster import Roster, threshold
from shared_model.secure_sum.round_keys import open_shares
from tests.secure_sites import RUN, Site, masked_by, roster_of, sealed_for, values_of

NOTHING = np.zeros(0, np.uint32)


class HostileCoordinator:
    """What it can ask, what it gets, and what it then knows."""

    def __init__(self, num_sites, max_colluding, needed):
        self.sites = [Site(number) for number in range(1, num_sites + 1)]
        self.colluding, self.honest = self.sites[:max_colluding], self.sites[max_colluding:]
        self.needed = needed
        roster = roster_of(self.sites)
        for site in self.sites:
            site.join(roster, needed=needed)
        self.roster = roster
        self.masked, self.agreed, self.opened, self.refused = {}, {}, [], 0
        # By honest site and kind of seed: who gave its share. Colluding sites give all that was sealed for them.
        self.shares = {(site.name, kind): set() for site in self.honest for kind in ("own", "mask")}
        for partner, site in itertools.product(self.colluding, self.honest):
            open_shares(partner.secret, roster, partner.name, 0, [site.offer], {site.name: site.sealed[partner.name]})
            self.shares[site.name, "own"].add(partner.name)
            self.shares[site.name, "mask"].add(partner.name)

    def participants(self, names):
        offers = [site.offer for site in self.sites if site.name in names]
        return Participants.checked(self.roster, 0, offers, fewest=2)

    def ask_to_mask(self, site, names, _):
        offers = [each.offer for each in self.sites if each.name in names]
        _, signature = site.mask(offers, sealed_for(site.name, self.sites), NOTHING)
        self.masked[site.name, self.participants(names).digest] = signature

    def ask_to_agree(self, site, names, survivors):
        participants = self.participants(names)
        for each in self.colluding:
            if each.name in names:
                self.masked[each.name, participants.digest] = sign_masked(each.identity, participants, each.name)
        masked = {name: self.masked.get((name, participants.digest), bytes(64)) for name in survivors}
        self.agreed[site.name, participants.digest, tuple(sorted(survivors))] = site.agree(masked)

    def ask_to_open(self, site, names, survivors):
        participants, agreed = self.participants(names), tuple(sorted(survivors))
        signatures = {
            name: signature
            for (name, digest, each), signature in self.agreed.items()
            if (digest, each) == (participants.digest, agreed)
        }
        for each in self.colluding:
            content = statement("survivors", participants.digest, each.name, *agreed)
            signatures[each.name] = each.identity.sign(content)
        own, mask = site.open(survivors, signatures)
        self.opened.append(site)
        for kind, opened in (("own", own), ("mask", mask)):
            for name in opened:
                if (name, kind) in self.shares:
                    self.shares[name, kind].add(site.name)

    def knows(self, name, kind):
        return len(self.shares[name, kind]) >= self.needed

    def vectors(self):
        """Honest sites of which it can compute both masks."""
        return [site.name for site in self.honest if self.knows(site.name, "own") and self.knows(site.name, "mask")]

    def sums(self):
        """Lists that an honest site has opened."""
        return {(site.participants.digest, site.survivors) for site in self.opened}


def tell(coordinator, participants, survivors, told):
    """Ask every honest site all three questions, each with the lists of its own that ``told`` gives it.

    An order of questions gains nothing: a site's first answer binds it, and more signatures only help to open.
    """
    for question in (coordinator.ask_to_mask, coordinator.ask_to_agree, coordinator.ask_to_open):
        for site, (first, second) in zip(coordinator.honest, told, strict=True):
            lists = (participants[first], survivors[second])
            try:
                question(site, *lists)
            except ProtocolError:
                coordinator.refused += 1
    return coordinator


@st.composite
def lies(draw):
    """Two lists of participants and two of survivors, and who is told which; the last honest site is the prey."""
    num_sites = draw(st.integers(2, 6))
    max_colluding = draw(st.integers(0, num_sites - 1))
    names = [f"site-{number}" for number in range(1, num_sites + 1)]
    some = st.sets(st.sampled_from(names), min_size=2)
    participants = [set(names), draw(some)]
    survivors = [set(names), draw(some)]
    told = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=num_sites - max_colluding)
    return num_sites, max_colluding, participants, survivors, draw(told)[: num_sites - max_colluding]


def outcome(lie, fewer=0):
    num_sites, max_colluding, *lists = lie
    needed = max(2, threshold(num_sites, max_colluding) - fewer)
    return tell(HostileCoordinator(num_sites, max_colluding, needed), *lists)


@settings(max_examples=80, deadline=None)
@given(lies())
def test_no_lie_opens_a_vector_or_two_sums(lie):
    coordinator = outcome(lie)
    assert not coordinator.vectors()
    assert len(coordinator.sums()) <= 1


def test_the_search_finds_the_lie_where_there_is_one():
    settled = settings(max_examples=3000, derandomize=True, deadline=None)
    found = find(lies(), lambda lie: outcome(lie, fewer=1).vectors(), settings=settled)
    assert not outcome(found).vectors()


def split_in_two(num_sites, max_colluding, needed):
    """The best known lie: one half of the honest sites hears that a site survived, the other that it did not."""
    coordinator = HostileCoordinator(num_sites, max_colluding, needed)
    names = coordinator.roster.sites
    victim = coordinator.honest[-1].name
    told = [(0, position % 2) for position in range(len(coordinator.honest))]
    survivors = (names, tuple(name for name in names if name != victim))
    return tell(coordinator, (names,), survivors, told)


@pytest.mark.parametrize("max_colluding", [0, 1, 2, 3])
@pytest.mark.parametrize("num_sites", range(3, 9))
def test_two_halves_that_hear_different_lists_open_nothing_twice(num_sites, max_colluding):
    if max_colluding >= num_sites - 1:
        max_colluding = num_sites - 2
    coordinator = split_in_two(num_sites, max_colluding, threshold(num_sites, max_colluding))
    assert coordinator.refused
    assert not coordinator.vectors()


@pytest.mark.parametrize(("num_sites", "max_colluding"), [(4, 0), (5, 1), (6, 2), (8, 2)])
def test_one_site_fewer_in_the_threshold_and_the_lie_succeeds(num_sites, max_colluding):
    coordinator = split_in_two(num_sites, max_colluding, threshold(num_sites, max_colluding) - 1)
    assert coordinator.vectors() == [coordinator.honest[-1].name]


def test_different_rosters_make_keys_that_do_not_fit():
    """Sites 1 and 2 are shown a roster of all four; sites 3 and 4 one that another site 1 is on."""
    sites = [Site(number) for number in (1, 2, 3, 4)]
    other = sites[0].advert(num_patients=11)
    first = roster_of(sites)
    second = Roster.checked(RUN, [other, *first.adverts[1:]], partners=None)
    for shown, roster in ((sites[:2], first), (sites[2:], second)):
        for site in shown:
            site.join(roster, needed=3)
    for site in sites:
        with pytest.raises(ProtocolError, match="Expected a statement signed"):
            masked_by([site], values_of(sites), participants=sites)


def test_a_replayed_offer_of_a_partner_only_spoils_the_sum():
    """The coordinator shows site 1 an older offer of site 2, made for the same roster and round with other seeds."""
    sites = [Site(number) for number in (1, 2, 3)]
    roster = roster_of(sites)
    older = Site(2)
    for site in (*sites, older):
        site.join(roster, needed=2)
    values = values_of(sites)
    masked_by([sites[0]], values, participants=[sites[0], older, sites[2]])
    # Site 2 does not mask for a list that shows a key which is not its own.
    with pytest.raises(ProtocolError, match="Expected the mask seed of site-2 in round 0, got another"):
        masked_by([sites[1]], values, participants=[sites[0], older, sites[2]])
    # Nor do its partners agree to a sum of two lists.
    replies = masked_by(sites[1:], values, participants=sites)
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        sites[0].agree({name: signature for name, (_, signature) in replies.items()})


def test_a_second_list_of_participants_or_survivors_is_refused():
    sites = [Site(number) for number in (1, 2, 3)]
    roster = roster_of(sites)
    for site in sites:
        site.join(roster, needed=2)
    replies = masked_by(sites, values_of(sites))
    with pytest.raises(ProtocolError, match="one list of participants"):
        masked_by([sites[0]], values_of(sites), participants=sites[:2])
    masked = {name: signature for name, (_, signature) in replies.items()}
    sites[0].agree(masked)
    with pytest.raises(ProtocolError, match="one list of survivors"):
        sites[0].agree(dict(list(masked.items())[:2]))
