"""Lists of a round: participants with their offers, survivors with their signatures; none stands for another."""

import dataclasses

import numpy as np
import pytest

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import statement
from shared_model.secure_sum.participants import (
    Participants,
    require_masked,
    require_survivors,
    sign_masked,
    sign_survivors,
)
from shared_model.secure_sum.round_keys import Offer
from tests.secure_sites import Site, joined, roster_of

SITES = joined(4)
ROSTER = SITES[0].roster
OFFERS = [site.offer for site in SITES]
ALL = Participants.checked(ROSTER, 0, OFFERS, fewest=2)
THREE = Participants.checked(ROSTER, 0, OFFERS[:3], fewest=2)
EMPTY = np.zeros(0, np.uint32)
MASKED = {site.name: sign_masked(site.identity, ALL, site.name) for site in SITES}


def signatures_of(names, participants=ALL, sites=SITES):
    masked = {site.name: sign_masked(site.identity, participants, site.name) for site in SITES if site.name in names}
    return {site.name: sign_survivors(site.identity, participants, site.name, masked, fewest=2) for site in sites}


def test_participants_are_the_same_in_whatever_order_offers_come():
    assert Participants.checked(ROSTER, 0, reversed(OFFERS), fewest=4) == ALL
    assert ALL.sites == ROSTER.sites
    assert ALL.mask_key("site-3") == OFFERS[2].mask_key


def signed_offer(site, mask_key, *, roster=ROSTER, server_round=0):
    content = statement("offer", roster.digest, server_round, site.name, mask_key)
    return Offer(site=site.name, mask_key=mask_key, signature=site.identity.sign(content))


def test_the_digest_names_roster_round_sites_and_keys():
    again = Site(1)
    again.join(ROSTER, needed=3)
    replaced = Participants.checked(ROSTER, 0, [again.offer, *OFFERS[1:]], fewest=2)
    # The same keys in another round or run: no honest site offers them.
    later = [signed_offer(site, site.offer.mask_key, server_round=1) for site in SITES]
    other_round = Participants.checked(ROSTER, 1, later, fewest=2)
    roster = roster_of([Site(number, run="run 2") for number in (1, 2, 3, 4)], "run 2")
    elsewhere = [signed_offer(site, site.offer.mask_key, roster=roster) for site in SITES]
    other_run = Participants.checked(roster, 0, elsewhere, fewest=2)
    assert len({each.digest for each in (ALL, THREE, replaced, other_round, other_run)}) == 5


def test_too_few_or_too_many_participants_are_refused():
    with pytest.raises(ProtocolError, match="Expected at least 4 participants of a secure sum, got 3"):
        Participants.checked(ROSTER, 0, OFFERS[:3], fewest=4)
    with pytest.raises(ProtocolError, match="Expected a number of participants from 2 to 4, got 1"):
        Participants.checked(ROSTER, 0, OFFERS[:1], fewest=1)
    with pytest.raises(ProtocolError, match="Expected a number of participants from 2 to 4, got 5"):
        Participants.checked(ROSTER, 0, [*OFFERS, OFFERS[0]], fewest=2)


def test_a_participant_stands_once():
    with pytest.raises(ProtocolError, match="every site once"):
        Participants.checked(ROSTER, 0, [OFFERS[0], OFFERS[0], OFFERS[1]], fewest=2)
    with pytest.raises(ProtocolError, match="sorted by site"):
        Participants(roster=ROSTER, server_round=0, offers=(OFFERS[1], OFFERS[0]))


def test_an_offer_of_another_round_run_or_site_is_refused():
    stale = joined(4, server_round=1)[1].offer
    other_run = joined(4, run="run 2")[1].offer
    forged = dataclasses.replace(OFFERS[2], site="site-2")
    for offer in (stale, other_run, forged):
        with pytest.raises(ProtocolError, match="Expected a statement signed"):
            Participants.checked(ROSTER, 0, [OFFERS[0], offer], fewest=2)


def test_a_colluding_site_offers_no_key_of_low_order_and_no_key_of_another():
    for point in (bytes(32), (1).to_bytes(32, "little")):
        with pytest.raises(ProtocolError, match="point of low order"):
            Participants.checked(ROSTER, 0, [signed_offer(SITES[0], point), *OFFERS[1:]], fewest=2)
    with pytest.raises(ProtocolError, match="Expected every mask key once"):
        Participants.checked(ROSTER, 0, [signed_offer(SITES[0], OFFERS[1].mask_key), *OFFERS[1:]], fewest=2)


@pytest.mark.parametrize("sites", [["site-1"], []])
def test_survivors_are_at_least_two(sites):
    with pytest.raises(ProtocolError, match="Expected at least 2 survivors"):
        ALL.survivors(sites)


def test_survivors_are_participants_each_once():
    assert ALL.survivors(["site-3", "site-1"]) == ("site-1", "site-3")
    with pytest.raises(ProtocolError, match="Expected every survivor once"):
        ALL.survivors(["site-1", "site-1", "site-2"])
    with pytest.raises(ProtocolError, match="Expected a participant of round 0, got site-4"):
        THREE.survivors(["site-1", "site-4"])
    with pytest.raises(ProtocolError, match="a site's name"):
        ALL.survivors(["site-1", "\x1b"])


def test_a_masked_statement_is_of_one_site_and_one_list():
    require_masked(ALL, "site-1", MASKED["site-1"])
    for participants, site in ((ALL, "site-2"), (THREE, "site-1")):
        with pytest.raises(ProtocolError, match="Expected a statement signed"):
            require_masked(participants, site, MASKED["site-1"])
    with pytest.raises(ProtocolError, match="Expected a participant of round 0, got site-4"):
        require_masked(THREE, "site-4", MASKED["site-4"])
    with pytest.raises(ProtocolError, match="Expected a participant of round 0, got site-4"):
        sign_masked(SITES[3].identity, THREE, "site-4")


def test_a_site_signs_survivors_only_if_all_of_them_masked_for_its_list():
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        sign_survivors(SITES[0].identity, THREE, "site-1", {each: MASKED[each] for each in THREE.sites}, fewest=2)
    swapped = {"site-1": MASKED["site-2"], "site-2": MASKED["site-1"]}
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        sign_survivors(SITES[0].identity, ALL, "site-1", swapped, fewest=2)
    with pytest.raises(ProtocolError, match="Expected at least 3 survivors of a secure sum, got 2"):
        sign_survivors(SITES[0].identity, ALL, "site-1", dict(list(MASKED.items())[:2]), fewest=3)
    with pytest.raises(ProtocolError, match="Expected a site of the roster, got site-9"):
        sign_survivors(SITES[0].identity, ALL, "site-9", MASKED, fewest=2)


def test_enough_sites_agree_to_one_list():
    names = ("site-1", "site-2", "site-3")
    signatures = signatures_of(names)
    assert require_survivors(ALL, reversed(names), signatures, threshold=4) == names
    with pytest.raises(ProtocolError, match="Expected 3 sites to agree to the list of survivors, got 2"):
        require_survivors(ALL, names, dict(list(signatures.items())[:2]), threshold=3)
    for other in (names[:2], ALL.sites):
        with pytest.raises(ProtocolError, match="Expected a statement signed"):
            require_survivors(ALL, other, signatures, threshold=3)


def test_agreement_is_counted_by_site():
    # One site's agreement under three names is one, and that of a stranger is none.
    signature = signatures_of(ALL.sites)["site-1"]
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_survivors(ALL, ALL.sites, dict.fromkeys(ALL.sites, signature), threshold=3)
    with pytest.raises(ProtocolError, match="Expected a site of the roster, got site-9"):
        require_survivors(ALL, ALL.sites, {**signatures_of(ALL.sites), "site-9": signature}, threshold=3)


def test_agreement_to_a_list_of_other_participants_or_of_another_run_is_none():
    names = THREE.sites
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_survivors(ALL, names, signatures_of(names, THREE), threshold=3)
    others = joined(4, run="run 2")
    for site in others:
        site.mask([each.offer for each in others], {each.name: each.sealed[site.name] for each in others}, EMPTY)
    masked = {site.name: sign_masked(site.identity, others[0].participants, site.name) for site in others}
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_survivors(ALL, ALL.sites, {site.name: site.agree(masked) for site in others}, threshold=3)


def test_the_three_statements_of_a_round_are_not_taken_for_one_another():
    agreed = signatures_of(ALL.sites)["site-1"]
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_masked(ALL, "site-1", agreed)
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_masked(ALL, "site-1", OFFERS[0].signature)


def test_the_roster_of_a_smaller_run_makes_another_list():
    smaller = roster_of(SITES[:3])
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        Participants.checked(smaller, 0, OFFERS[:3], fewest=2)
