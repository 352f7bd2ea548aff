"""Shares of a seed against Lagrange's formula over GF(2^128), written here a second time."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.errors import ProtocolError
from shared_model.secure_sum.shamir import combine, split

SECRET = bytes(range(16))
SEEDS = st.binary(min_size=16, max_size=16)
POLYNOMIAL = 2**128 + 2**7 + 2**2 + 2 + 1


def times(first, second):
    product = 0
    while second:
        if second & 1:
            product ^= first
        first = first << 1 if first < 2**127 else (first << 1) ^ POLYNOMIAL
        second >>= 1
    return product


def inverse(element):
    found = 1
    for _ in range(127):
        element = times(element, element)
        found = times(found, element)
    return found


def at_zero(points):
    """Value at zero of the polynomial through ``points``."""
    total = 0
    for x, y in points:
        above, below = int.from_bytes(y), 1
        for other, _ in points:
            if other != x:
                above, below = times(above, other), times(below, other ^ x)
        total ^= times(above, inverse(below))
    return total.to_bytes(16)


@pytest.mark.parametrize(("threshold", "num_shares"), [(2, 2), (2, 3), (3, 5), (5, 8), (16, 30)])
def test_enough_shares_give_the_secret_as_lagrange_does(threshold, num_shares):
    shares = split(SECRET, threshold, num_shares)
    assert len(shares) == num_shares
    for used in (range(threshold), range(num_shares - threshold, num_shares)):
        assert combine({position: shares[position] for position in used}, threshold) == SECRET
        assert at_zero([(position + 1, shares[position]) for position in used]) == SECRET


def test_every_choice_of_enough_shares_gives_the_secret():
    shares = split(SECRET, 3, 6)
    for num_used in (3, 4, 6):
        for used in itertools.combinations(range(6), num_used):
            assert combine({position: shares[position] for position in used}, 3) == SECRET


@settings(max_examples=10)
@given(SEEDS, SEEDS, SEEDS)
def test_one_share_fewer_fits_every_secret(first, second, other):
    # Two shares of three that are needed: for every secret there is a third share that makes it of them.
    known = {0: first, 1: second}
    third = int.from_bytes(other) ^ int.from_bytes(at_zero([(1, first), (2, second), (3, bytes(16))]))
    weight = int.from_bytes(at_zero([(1, bytes(16)), (2, bytes(16)), (3, (1).to_bytes(16))]))
    share = times(third, inverse(weight)).to_bytes(16)
    assert combine({**known, 2: share}, 3) == other


def test_shares_of_one_secret_are_new_every_time_and_are_not_the_secret():
    seen = {share for _ in range(20) for share in split(SECRET, 3, 5)}
    assert len(seen) == 100
    assert SECRET not in seen


def test_too_few_shares_are_refused():
    shares = dict(enumerate(split(SECRET, 3, 5)[:2]))
    with pytest.raises(ProtocolError, match="Expected at least 3 shares of a seed, got 2"):
        combine(shares, 3)
    assert combine(shares, 2) != SECRET


def test_a_share_at_another_position_gives_another_secret():
    first, second, _ = split(SECRET, 2, 3)
    assert combine({0: second, 1: first}, 2) != SECRET


@pytest.mark.parametrize("share", [b"", bytes(15), bytes(17), None, "0" * 16])
def test_a_malformed_share_is_refused(share):
    shares = dict(enumerate(split(SECRET, 2, 3)))
    with pytest.raises(ProtocolError, match="Expected a share of a seed of 16 bytes"):
        combine({**shares, 1: share}, 2)


@pytest.mark.parametrize("position", [-1, 2**16, True, 0.5])
def test_a_position_that_is_none_is_refused(position):
    # Position -1 would be the library's point 0, whose share is the secret itself.
    with pytest.raises(ProtocolError, match="Expected the position of a share from 0"):
        combine({7: bytes(16), position: bytes(16)}, 2)


@pytest.mark.parametrize(
    ("secret", "threshold", "num_shares"), [(bytes(15), 2, 3), (SECRET, 1, 3), (SECRET, 4, 3), (SECRET, 0, 0)]
)
def test_a_split_that_protects_nothing_is_a_mistake(secret, threshold, num_shares):
    with pytest.raises(ValueError, match="Expected"):
        split(secret, threshold, num_shares)
