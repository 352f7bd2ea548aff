"""Rosters: what a coordinator may try to pass off as the list of a run, and how many sites open a sum."""

import dataclasses
import hashlib

import pytest

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import Identity, statement
from shared_model.secure_sum.roster import MOST_SITES, Advert, Roster, advertise, run_private_key, threshold
from tests.secure_sites import RUN, Site, roster_of

SITES = [Site(number) for number in (1, 2, 3)]
ADVERTS = [site.advert() for site in SITES]
PINNED = {site.name: site.identity.public for site in SITES}


def changed(advert, **changes):
    return dataclasses.replace(advert, **changes)


def checked(*adverts, run=RUN, partners=PINNED):
    return Roster.checked(run, adverts, partners=partners)


def test_a_roster_is_the_same_in_whatever_order_adverts_come():
    first, second = checked(*ADVERTS), checked(*reversed(ADVERTS))
    assert first == second
    assert first.digest == second.digest
    assert first.sites == ("site-1", "site-2", "site-3")
    assert first.num_patients == 30
    assert first.advert("site-2") == ADVERTS[1]
    assert [first.position(site) for site in first.sites] == [0, 1, 2]


def test_an_advert_is_the_same_whenever_it_is_asked_for_and_its_key_another_in_every_run():
    assert SITES[0].advert() == SITES[0].advert()
    assert Site(1, run="run 2").advert().run_key != SITES[0].advert().run_key
    own = run_private_key(SITES[0].secret, RUN)
    assert own.public_key().public_bytes_raw() == SITES[0].advert().run_key


def test_the_digest_is_of_the_run_and_every_field():
    roster = checked(*ADVERTS)
    fields = [field for each in ADVERTS for field in (each.site, each.identity, each.num_patients, each.run_key)]
    assert roster.digest == hashlib.sha256(statement("roster", RUN, *fields)).digest()


def test_the_digest_names_run_sites_and_every_field():
    others = [
        checked(*ADVERTS[:2]),
        checked(*(Site(number, run="run 2").advert() for number in (1, 2, 3)), run="run 2"),
        checked(SITES[0].advert(num_patients=11), *ADVERTS[1:]),
    ]
    assert len({roster.digest for roster in (checked(*ADVERTS), *others)}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "site 1"}, "a site's name"),
        ({"identity": bytes(31)}, "an identity of 32 bytes"),
        ({"run_key": bytes(33)}, "a run key of 32 bytes"),
        ({"signature": b""}, "an advert's signature of 64 bytes"),
        ({"num_patients": 0}, "a number of patients from 1"),
        ({"num_patients": 2**31}, "a number of patients from 1"),
        ({"num_patients": True}, "a number of patients from 1"),
        ({"num_patients": 1e9}, "a number of patients from 1"),
    ],
)
def test_a_malformed_advert_is_none(changes, message):
    with pytest.raises(ProtocolError, match=f"Expected {message}"):
        changed(ADVERTS[0], **changes)


@pytest.mark.parametrize("changes", [{"site": "site-0"}, {"num_patients": 11}, {"run_key": ADVERTS[1].run_key}])
def test_a_changed_advert_is_not_signed(changes):
    with pytest.raises(ProtocolError, match="Expected a statement signed by the site that it names"):
        checked(changed(ADVERTS[0], **changes), *ADVERTS[2:], partners=None)


def test_an_advert_of_another_run_is_refused():
    with pytest.raises(ProtocolError, match="another run"):
        checked(ADVERTS[0], Site(2, run="run 2").advert())


def test_a_site_stands_once():
    second = advertise(SITES[1].identity, run=RUN, site="site-1", num_patients=5, secret=SITES[1].secret)
    folded = advertise(SITES[1].identity, run=RUN, site="SITE-1", num_patients=5, secret=SITES[1].secret)
    with pytest.raises(ProtocolError, match="every site once"):
        checked(ADVERTS[0], second, partners=None)
    with pytest.raises(ProtocolError, match="Expected every site, whatever the case, once"):
        checked(ADVERTS[0], folded, partners=None)


def test_an_identity_or_a_key_under_two_names_is_refused():
    same_identity = advertise(SITES[0].identity, run=RUN, site="site-2", num_patients=5, secret=SITES[1].secret)
    with pytest.raises(ProtocolError, match="Expected every identity once"):
        checked(ADVERTS[0], same_identity, partners=None)
    same_key = advertise(SITES[1].identity, run=RUN, site="site-2", num_patients=5, secret=SITES[0].secret)
    with pytest.raises(ProtocolError, match="Expected every run key once"):
        checked(ADVERTS[0], same_key, partners=None)


def test_a_coordinator_cannot_stand_in_for_a_pinned_site():
    intruder = bytes([99]) * 32
    forged = advertise(Identity.from_secret(intruder), run=RUN, site="site-2", num_patients=10, secret=intruder)
    checked(ADVERTS[0], forged, partners=None)
    with pytest.raises(ProtocolError, match="Expected the site site-2 with the identity that is pinned for it"):
        checked(ADVERTS[0], forged)


def test_a_coordinator_cannot_add_a_site_of_its_own():
    with pytest.raises(ProtocolError, match="Expected the site site-4 with the identity that is pinned"):
        checked(*ADVERTS, Site(4).advert())


def test_pinned_sites_may_be_absent():
    assert checked(*ADVERTS[:2]).sites == ("site-1", "site-2")


@pytest.mark.parametrize("num_sites", [0, 1, MOST_SITES + 1])
def test_a_roster_has_a_sensible_number_of_sites(num_sites):
    with pytest.raises(ProtocolError, match="Expected a roster of 2 to 1000 sites"):
        Roster.checked(RUN, [ADVERTS[0]] * num_sites, partners=None)


def test_a_roster_is_sorted_or_is_none():
    with pytest.raises(ProtocolError, match="sorted by site"):
        Roster(run=RUN, adverts=(ADVERTS[1], ADVERTS[0]))


def test_a_run_key_of_low_order_is_refused():
    for point in (bytes(32), (1).to_bytes(32, "little")):
        advert = changed(ADVERTS[0], run_key=point)
        with pytest.raises(ProtocolError, match="point of low order"):
            checked(advert, *ADVERTS[1:])


def test_a_site_finds_itself_with_its_own_keys_only():
    roster = roster_of(SITES)
    roster.require_member("site-1", SITES[0].secret)
    with pytest.raises(ProtocolError, match="Expected the roster to hold site-1 with its own keys"):
        roster.require_member("site-1", SITES[1].secret)
    for name in ("site-9", "site-0"):
        with pytest.raises(ProtocolError, match="Expected a site of the roster, got site-"):
            roster.require_member(name, SITES[0].secret)


def test_a_secret_has_32_bytes():
    with pytest.raises(ValueError, match="Expected a secret of length"):
        run_private_key(bytes(31), RUN)


@pytest.mark.parametrize("num_sites", range(2, 40))
def test_two_sets_that_open_share_an_honest_site(num_sites):
    for colluding in range(num_sites):
        needed = threshold(num_sites, colluding)
        assert colluding < needed <= num_sites
        # Of two sets of so many sites at least this many are in both; and no lower threshold has that.
        assert 2 * needed - num_sites > colluding >= 2 * (needed - 1) - num_sites
        assert needed >= 2


@pytest.mark.parametrize(("num_sites", "colluding"), [(1, 0), (0, 0), (3, 3), (3, -1)])
def test_no_threshold_helps_when_all_collude(num_sites, colluding):
    with pytest.raises(ValueError, match="Expected num_sites"):
        threshold(num_sites, colluding)


def test_an_advert_is_checked_when_it_is_made():
    with pytest.raises(ProtocolError, match="a number of patients"):
        advertise(SITES[0].identity, run=RUN, site="site-1", num_patients=0, secret=SITES[0].secret)
    assert isinstance(ADVERTS[0], Advert)
