"""Masks: they vanish in the sum, are what AES gives, and hide values from all who miss one seed."""

import itertools

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.testing import assert_array_equal
from scipy.stats import chi2

from shared_model.errors import ProtocolError
from shared_model.secure_sum.identity import statement
from shared_model.secure_sum.key_agreement import derive, shared_secret
from shared_model.secure_sum.masks import mask, unmask
from shared_model.secure_sum.participants import Participants
from shared_model.secure_sum.round_keys import RoundSeeds, mask_private_key
from tests.secure_sites import joined, sum_of, values_of

NUM_VALUES = 2**14
SITES = joined(4)
BY_NAME = {site.name: site for site in SITES}
ALL = Participants.checked(SITES[0].roster, 0, [site.offer for site in SITES], fewest=2)
VALUES = values_of(SITES)
MASKED = {site.name: mask(VALUES[site.name], site.seeds, ALL, site.name) for site in SITES}


def keystream(key, num_words):
    """AES-256 of 0, 1, 2, ... as big-endian blocks, read as little-endian words."""
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305 - counter mode, block by block
    counters = b"".join(counter.to_bytes(16, "big") for counter in range(num_words // 4 + 1))
    return np.frombuffer(encryptor.update(counters), "<u4")[:num_words]


def pair_words(first, second, participants, num_words):
    names = sorted([first.name, second.name])
    private = mask_private_key(first.seeds.mask, participants.roster, first.name, 0)
    secret = shared_secret(private, second.offer.mask_key)
    return keystream(derive(secret, statement("pair mask", participants.digest, *names)), num_words)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_a_mask_is_what_the_paper_says(site):
    expected = VALUES[site.name].astype(object)
    own_key = derive(site.seeds.own, statement("own mask", ALL.digest, site.name))
    expected += keystream(own_key, expected.size).astype(object)
    for partner in SITES:
        if partner is not site:
            words = pair_words(site, partner, ALL, expected.size).astype(object)
            expected += words if partner.name > site.name else -words
    assert_array_equal(MASKED[site.name], (expected % 2**32).astype(np.uint32))


def test_both_of_a_pair_make_the_same_words():
    for first, second in itertools.combinations(SITES, 2):
        assert_array_equal(pair_words(first, second, ALL, 8), pair_words(second, first, ALL, 8))


def test_values_are_left_as_they_are_and_the_same_question_has_the_same_answer():
    values = VALUES["site-1"].copy()
    first, second = (mask(values, SITES[0].seeds, ALL, "site-1") for _ in range(2))
    assert_array_equal(first, second)
    assert_array_equal(values, VALUES["site-1"])
    assert first.dtype == np.uint32


@pytest.mark.parametrize("num_values", [0, 1, 3, 4, 5, 1000])
def test_any_number_of_values(num_values):
    values = values_of(SITES, num_values)
    total = sum_of((mask(values[site.name], site.seeds, ALL, site.name) for site in SITES), num_values)
    opened = unmask(total, ALL, ALL.sites, {site.name: site.seeds.own for site in SITES}, {})
    assert_array_equal(opened, sum_of(values.values(), num_values))


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros(3, np.int64), np.zeros((1, 3), np.uint32), np.uint32(3)])
def test_what_is_no_vector_of_words_is_a_mistake(values):
    with pytest.raises(ValueError, match="Expected a vector of uint32"):
        mask(values, SITES[0].seeds, ALL, "site-1")
    with pytest.raises(ValueError, match="Expected a vector of uint32"):
        unmask(values, ALL, ALL.sites, {}, {})


def test_seeds_that_are_not_of_the_offer_make_no_mask():
    with pytest.raises(ProtocolError, match="Expected the mask seed of site-1 in round 0, got another"):
        mask(VALUES["site-1"], SITES[1].seeds, ALL, "site-1")
    three = Participants.checked(ALL.roster, 0, ALL.offers[:3], fewest=2)
    with pytest.raises(ProtocolError, match="Expected a participant of round 0, got site-4"):
        mask(VALUES["site-4"], SITES[3].seeds, three, "site-4")


def seeds(kind, names):
    return {name: getattr(BY_NAME[name].seeds, kind) for name in names}


def test_seeds_that_open_are_those_of_the_list_and_no_others():
    names, dropped = ALL.sites[:3], ALL.sites[3:]
    total = sum_of(MASKED[name] for name in names)
    assert_array_equal(
        unmask(total, ALL, names, seeds("own", names), seeds("mask", dropped)), sum_of(VALUES[name] for name in names)
    )
    for own, masks in ((names[:2], dropped), (ALL.sites, dropped), (names, ()), (names, ALL.sites[2:])):
        with pytest.raises(ProtocolError, match="Expected the own seed of every survivor, the mask seed of all others"):
            unmask(total, ALL, names, seeds("own", own), seeds("mask", masks))
    with pytest.raises(ProtocolError, match="Expected the mask seed of site-4 in round 0, got another"):
        unmask(total, ALL, names, seeds("own", names), {"site-4": SITES[3].seeds.own})
    with pytest.raises(ProtocolError, match="Expected a mask seed of 16 bytes"):
        unmask(total, ALL, names, seeds("own", names), {"site-4": bytes(15)})
    with pytest.raises(ProtocolError, match="Expected an own seed of 16 bytes"):
        unmask(total, ALL, names, {**seeds("own", names), "site-1": b""}, seeds("mask", dropped))


def fixed(num_sites):
    """Sites whose seeds and so masks are the same in every run of these tests."""
    generator = np.random.default_rng(7)
    sites = joined(num_sites)
    for site in sites:
        site.seeds = RoundSeeds.from_bytes(generator.bytes(32))
        site.join(site.roster, needed=site.needed)
    return sites, Participants.checked(sites[0].roster, 0, [site.offer for site in sites], fewest=2)


def looks_uniform(words):
    """Chi-square of each of the four bytes, at a level that a uniform vector fails once in a million."""
    counts = [np.bincount((words >> np.uint32(8 * place)) & np.uint32(255), minlength=256) for place in range(4)]
    expected = words.size / 256
    return all(((count - expected) ** 2 / expected).sum() < chi2.isf(1e-6 / 4, 255) for count in counts)


CONTENTS = {
    "zeros": np.zeros(NUM_VALUES, np.uint32),
    "largest": np.full(NUM_VALUES, 2**32 - 1, np.uint32),
    "ramp": np.arange(NUM_VALUES, dtype=np.uint32),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_masked_vector_looks_uniform_whatever_it_holds(content):
    sites, participants = fixed(3)
    assert not looks_uniform(CONTENTS[content])
    for site in sites:
        assert looks_uniform(mask(CONTENTS[content], site.seeds, participants, site.name))


def test_all_that_is_missing_one_mask_looks_uniform():
    """Zero values of 4 sites; whatever the coordinator adds and opens short of all masks, it sees uniform words."""
    sites, participants = fixed(4)
    zeros = np.zeros(NUM_VALUES, np.uint32)
    masked = {site.name: mask(zeros, site.seeds, participants, site.name) for site in sites}
    own = {site.name: site.seeds.own for site in sites}
    total = sum(masked.values(), zeros)
    assert_array_equal(unmask(total, participants, participants.sites, own, {}), zeros)
    # One site's vector alone, with its own mask opened: the masks of its pairs remain.
    for name in participants.sites:
        short = sum(masked[each] for each in participants.sites if each != name) + zeros
        assert looks_uniform(unmask(short, participants, participants.sites, own, {}))
    # All pairs vanish, and one own mask is unknown: the vector of that site was in the sum, its seed was not opened.
    for name in participants.sites:
        wrong = {**own, name: bytes(16)}
        assert looks_uniform(unmask(total, participants, participants.sites, wrong, {}))


def test_colluding_sites_do_not_open_the_vector_of_one_of_two_others():
    """Sites 1 and 2 give the coordinator all their seeds; the vector of site 3 keeps the mask of its pair with 4."""
    sites, participants = fixed(4)
    zeros = np.zeros(NUM_VALUES, np.uint32)
    masked = mask(zeros, sites[2].seeds, participants, "site-3")
    for colluding in sites[:2]:
        masked += pair_words(colluding, sites[2], participants, NUM_VALUES)
    own_key = derive(sites[2].seeds.own, statement("own mask", participants.digest, "site-3"))
    without_own = masked - keystream(own_key, NUM_VALUES)
    last = pair_words(sites[3], sites[2], participants, NUM_VALUES)
    assert looks_uniform(masked)
    assert looks_uniform(without_own)
    assert_array_equal(without_own - last, zeros)


def test_the_masks_of_other_participants_and_rounds_are_others():
    three = Participants.checked(ALL.roster, 0, ALL.offers[:3], fewest=2)
    zeros = np.zeros(1000, np.uint32)
    first, second = (mask(zeros, SITES[0].seeds, each, "site-1") for each in (ALL, three))
    last = pair_words(SITES[0], SITES[3], ALL, 1000)
    # Not even a word in ten is the same once the pair is accounted for that one list has and the other has not.
    assert np.mean(first - last == second) < 0.1
    assert np.mean(first == second) < 0.1
