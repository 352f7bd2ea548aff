"""Seeds of a round and their sealed shares: only who is meant opens them, and only in the run and round they are of."""

import dataclasses

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared_model.errors import ProtocolError
from shared_model.secure_sum import roster as roster_module
from shared_model.secure_sum import round_keys
from shared_model.secure_sum.identity import statement
from shared_model.secure_sum.key_agreement import derive, private_key, shared_secret
from shared_model.secure_sum.roster import run_private_key
from shared_model.secure_sum.round_keys import (
    SEALED_BYTES,
    Offer,
    RoundSeeds,
    make_offer,
    mask_private_key,
    open_shares,
    require_offer,
)
from shared_model.secure_sum.shamir import combine
from tests.secure_sites import RUN, Site, joined, roster_of

SITES = joined(4, max_colluding=1)
ROSTER = SITES[0].roster


def opened(recipient, sender, *, sealed=None, offer=None, server_round=0, roster=ROSTER):
    content = sender.sealed[recipient.name] if sealed is None else sealed
    offer = sender.offer if offer is None else offer
    sent = {offer.site: content}
    return open_shares(recipient.secret, roster, recipient.name, server_round, [offer], sent)[offer.site]


def test_seeds_are_drawn_anew_and_come_back_from_bytes():
    drawn = [RoundSeeds.draw() for _ in range(50)]
    assert len({seed for seeds in drawn for seed in (seeds.mask, seeds.own)}) == 100
    assert RoundSeeds.from_bytes(drawn[0].to_bytes()) == drawn[0]
    assert len(drawn[0].to_bytes()) == 32


def test_seeds_and_shares_do_not_print():
    seeds = RoundSeeds(mask=b"m" * 16, own=b"o" * 16)
    assert "mmm" not in repr(seeds)
    assert "ooo" not in repr(seeds)
    shares = opened(SITES[0], SITES[1])
    assert repr(shares) == "SeedShares()"


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), None])
def test_seeds_of_another_length_are_refused(content):
    with pytest.raises(ProtocolError, match="Expected a round's seeds of 32 bytes"):
        RoundSeeds.from_bytes(content)


@pytest.mark.parametrize("sender", SITES, ids=lambda site: site.name)
def test_the_shares_that_partners_open_give_both_seeds(sender):
    shares = {ROSTER.position(site.name): opened(site, sender) for site in SITES}
    assert set(sender.sealed) == set(ROSTER.sites)
    assert combine({position: each.mask for position, each in shares.items()}, 3) == sender.seeds.mask
    assert combine({position: each.own for position, each in shares.items()}, 3) == sender.seeds.own


def test_keys_and_seals_are_bound_to_all_that_they_are_for():
    sender, recipient = SITES[0], SITES[1]
    info = statement("shares", ROSTER.digest, 0, "site-1", sender.offer.mask_key, "site-2")
    secret = shared_secret(run_private_key(recipient.secret, RUN), sender.advert().run_key)
    sealed = sender.sealed["site-2"]
    shares = opened(recipient, sender)
    assert AESGCM(derive(secret, info)).decrypt(sealed[:12], sealed[12:], info) == shares.mask + shares.own
    private = private_key(sender.seeds.mask, statement("mask key", ROSTER.digest, 0, "site-1"))
    assert private.public_key().public_bytes_raw() == sender.offer.mask_key


def test_a_colluding_partner_does_not_return_a_site_its_own_shares():
    # Site 2 claims the mask key of site 1, and sends back what site 1 had sealed for it.
    mask_key = SITES[0].offer.mask_key
    signature = SITES[1].identity.sign(statement("offer", ROSTER.digest, 0, "site-2", mask_key))
    offer = Offer(site="site-2", mask_key=mask_key, signature=signature)
    require_offer(ROSTER, 0, offer)
    with pytest.raises(ProtocolError, match="changed or exchanged on the way"):
        opened(SITES[0], SITES[1], offer=offer, sealed=SITES[0].sealed["site-2"])


def test_an_offer_shows_the_key_of_its_seed_and_is_signed():
    offer = SITES[0].offer
    require_offer(ROSTER, 0, offer)
    private = mask_private_key(SITES[0].seeds.mask, ROSTER, "site-1", 0)
    assert offer.mask_key == private.public_key().public_bytes_raw()


@pytest.mark.parametrize(
    "changes", [{"site": "site-2"}, {"mask_key": SITES[1].offer.mask_key}, {"signature": bytes(64)}]
)
def test_a_changed_offer_is_refused(changes):
    with pytest.raises(ProtocolError, match="Expected a statement signed"):
        require_offer(ROSTER, 0, dataclasses.replace(SITES[0].offer, **changes))


def test_an_offer_of_another_round_or_roster_is_refused():
    with pytest.raises(ProtocolError, match="another run or round"):
        require_offer(ROSTER, 1, SITES[0].offer)
    with pytest.raises(ProtocolError, match="another run or round"):
        require_offer(roster_of(SITES[:3]), 0, SITES[0].offer)
    other_run = [Site(number, run="run 2") for number in (1, 2, 3, 4)]
    with pytest.raises(ProtocolError, match="another run or round"):
        require_offer(roster_of(other_run, "run 2"), 0, SITES[0].offer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "a b"}, "a site's name"),
        ({"mask_key": bytes(31)}, "a mask key of 32 bytes"),
        ({"signature": bytes(65)}, "an offer's signature of 64"),
    ],
)
def test_a_malformed_offer_is_none(changes, message):
    with pytest.raises(ProtocolError, match=f"Expected {message}"):
        dataclasses.replace(SITES[0].offer, **changes)


def test_shares_that_were_exchanged_on_the_way_do_not_open():
    first, second, third, _ = SITES
    swapped = {
        "sealed for another": opened_with(first, second, sealed=second.sealed[third.name]),
        "sealed by another": opened_with(first, second, sealed=third.sealed[first.name]),
        "returned to its sender": opened_with(first, second, sealed=first.sealed[second.name]),
    }
    for attempt in swapped.values():
        with pytest.raises(ProtocolError, match="Expected shares that site-2 sealed for site-1 in round 0"):
            attempt()


def opened_with(*arguments, **settings):
    return lambda: opened(*arguments, **settings)


@pytest.mark.parametrize("position", range(0, SEALED_BYTES, 7))
def test_changed_shares_do_not_open(position):
    content = bytearray(SITES[1].sealed["site-1"])
    content[position] ^= 1
    with pytest.raises(ProtocolError, match="changed or exchanged on the way"):
        opened(SITES[0], SITES[1], sealed=bytes(content))


def test_shares_open_in_their_round_run_and_offer_only():
    with pytest.raises(ProtocolError, match="sealed for site-1 in round 1"):
        opened(SITES[0], SITES[1], server_round=1)
    again = Site(2)
    again.join(ROSTER, needed=3)
    with pytest.raises(ProtocolError, match="changed or exchanged"):
        opened(SITES[0], SITES[1], offer=again.offer)
    smaller = roster_of(SITES[:3])
    with pytest.raises(ProtocolError, match="changed or exchanged"):
        opened(SITES[0], SITES[1], roster=smaller)


def test_an_older_offer_with_its_older_shares_is_told_from_the_new_one_by_its_key():
    # Within one round the coordinator may keep an offer back: then its shares are those of the seeds that it shows.
    again = Site(2)
    again.join(ROSTER, needed=3)
    shares = {position: opened(site, again) for position, site in enumerate(SITES)}
    seed = combine({position: each.mask for position, each in shares.items()}, 3)
    assert mask_private_key(seed, ROSTER, "site-2", 0).public_key().public_bytes_raw() == again.offer.mask_key


def test_seals_of_the_same_seeds_are_new_every_time():
    def make():
        return make_offer(SITES[0].identity, SITES[0].secret, ROSTER, "site-1", 0, SITES[0].seeds, 3)

    (first, first_sealed), (second, second_sealed) = make(), make()
    assert first == second
    assert not set(first_sealed.values()) & set(second_sealed.values())
    assert {len(each) for each in first_sealed.values()} == {SEALED_BYTES}


def test_a_sites_own_key_is_derived_once_for_the_shares_of_all_others(monkeypatch):
    derived, sealed = [], {site.name: site.sealed["site-1"] for site in SITES}

    def counted(secret, run):
        derived.append(run)
        return run_private_key(secret, run)

    for module in (round_keys, roster_module):
        monkeypatch.setattr(module, "run_private_key", counted)
    shares = open_shares(SITES[0].secret, ROSTER, "site-1", 0, [site.offer for site in SITES], sealed)
    assert derived == [RUN, RUN]  # to be a member of the roster, and to open
    assert shares == {site.name: opened(SITES[0], site) for site in SITES}


def test_no_sender_is_left_out():
    sealed = {site.name: site.sealed["site-1"] for site in SITES[:2]}
    with pytest.raises(ProtocolError, match="Expected sealed shares of 60 bytes"):
        open_shares(SITES[0].secret, ROSTER, "site-1", 0, [site.offer for site in SITES], sealed)


@pytest.mark.parametrize("content", [b"", bytes(SEALED_BYTES - 1), bytes(SEALED_BYTES + 1), None, bytes(10**6)])
def test_sealed_shares_of_another_length_are_refused(content):
    with pytest.raises(ProtocolError, match="Expected sealed shares of 60 bytes"):
        open_shares(SITES[0].secret, ROSTER, "site-1", 0, [SITES[1].offer], {"site-2": content})


def test_nobody_makes_an_offer_or_opens_shares_under_another_name():
    with pytest.raises(ProtocolError, match="Expected the roster to hold site-2 with its own keys"):
        make_offer(SITES[0].identity, SITES[0].secret, ROSTER, "site-2", 0, SITES[0].seeds, 3)
    with pytest.raises(ProtocolError, match="Expected the roster to hold site-2 with its own keys"):
        open_shares(SITES[0].secret, ROSTER, "site-2", 0, [SITES[1].offer], {"site-2": SITES[1].sealed["site-2"]})


@pytest.mark.parametrize("server_round", [-1, 2**31, True, 1.0])
def test_a_round_is_a_whole_number(server_round):
    with pytest.raises(ProtocolError, match="Expected a round from 0"):
        make_offer(SITES[0].identity, SITES[0].secret, ROSTER, "site-1", server_round, SITES[0].seeds, 3)


@pytest.mark.parametrize("threshold", [1, 5])
def test_a_threshold_that_protects_nothing_is_a_mistake(threshold):
    with pytest.raises(ValueError, match="Expected 2 <= threshold"):
        make_offer(SITES[0].identity, SITES[0].secret, ROSTER, "site-1", 0, SITES[0].seeds, threshold)


def test_an_offer_of_a_site_outside_the_roster_is_refused():
    stranger = Offer(site="site-9", mask_key=SITES[0].offer.mask_key, signature=bytes(64))
    for attempt in (lambda: require_offer(ROSTER, 0, stranger), opened_with(SITES[0], SITES[1], offer=stranger)):
        with pytest.raises(ProtocolError, match="Expected a site of the roster, got site-9"):
            attempt()
