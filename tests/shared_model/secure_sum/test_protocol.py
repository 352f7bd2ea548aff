"""The whole protocol in memory: whoever fails, the coordinator opens the plain sum of those who did not."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from shared_model.errors import ProtocolError
from shared_model.secure_sum.grid import Grid
from shared_model.secure_sum.roster import threshold
from tests.secure_sites import joined, masked_by, opened, sum_of, values_of


def sum_over(sites, alive, values, *, shown=None, opening=None):
    """Run one round of ``sites``: ``alive`` mask and agree, agreement of ``shown`` arrives, ``opening`` open."""
    replies = masked_by(alive, values, participants=sites)
    survivors = tuple(sorted(site.name for site in alive))
    masked = {name: signature for name, (_, signature) in replies.items()}
    agreed = {site.name: site.agree(masked) for site in alive}
    agreed = {site.name: agreed[site.name] for site in shown or alive}
    answers = {site.name: site.open(survivors, agreed) for site in opening or alive}
    total = sum_of((vector for vector, _ in replies.values()), len(next(iter(values.values()))))
    return opened(alive[0].participants, survivors, answers, total, sites[0].needed)


@pytest.mark.parametrize("num_sites", [*range(2, 8), pytest.param(8, marks=pytest.mark.slow)])
def test_the_sum_is_the_plain_sum_whoever_drops_out(num_sites):
    needed = threshold(num_sites, 0)
    sites = joined(num_sites)
    for num_alive in range(needed, num_sites + 1):
        for alive in itertools.combinations(sites, num_alive):
            for site in sites:
                site.participants = site.survivors = None
            values = values_of(sites, seed=num_alive)
            expected = sum_of(values[site.name] for site in alive)
            assert_array_equal(sum_over(sites, alive, values), expected)


@pytest.mark.parametrize("num_sites", [3, 4])
def test_sites_may_drop_out_between_the_steps(num_sites):
    sites = joined(num_sites)
    values = values_of(sites)
    # All are in the sum; the agreement of some arrives, and some, perhaps others, live long enough to open it.
    for shown, opening in itertools.product(itertools.combinations(sites, sites[0].needed), repeat=2):
        assert_array_equal(sum_over(sites, sites, values, shown=shown, opening=opening), sum_of(values.values()))


@pytest.mark.parametrize(("num_sites", "max_colluding"), [(3, 1), (5, 2), (6, 1), (8, 3)])
def test_one_site_fewer_than_the_threshold_opens_nothing(num_sites, max_colluding):
    sites = joined(num_sites, max_colluding=max_colluding)
    needed = sites[0].needed
    values = values_of(sites)
    assert_array_equal(sum_over(sites, sites[:needed], values), sum_of(values[site.name] for site in sites[:needed]))
    sites = joined(num_sites, max_colluding=max_colluding)
    with pytest.raises(ProtocolError, match=f"Expected {needed} sites to agree"):
        sum_over(sites, sites[: needed - 1], values)
    sites = joined(num_sites, max_colluding=max_colluding)
    with pytest.raises(ProtocolError, match=f"Expected at least {needed} shares of a seed, got {needed - 1}"):
        sum_over(sites, sites[:needed], values, opening=sites[: needed - 1])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_real_numbers_come_out_as_the_sum_of_what_each_site_rounded(data):
    num_sites = data.draw(st.integers(2, 5))
    sites = joined(num_sites)
    grid = Grid.covering(num_sites * 100.0)
    reals = {site.name: np.array(data.draw(st.lists(st.floats(-100, 100), min_size=4, max_size=4))) for site in sites}
    alive = sites[: data.draw(st.integers(sites[0].needed, num_sites))]
    found = grid.from_grid(sum_over(sites, alive, {name: grid.to_grid(each) for name, each in reals.items()}))
    # Sums of whole numbers of steps below 2^53 are exact in float64, so equality is bit for bit.
    assert_array_equal(found, sum(np.rint(reals[site.name] / grid.step) * grid.step for site in alive))


def test_a_participant_less_in_the_list_is_not_in_the_sum():
    sites = joined(5)
    values = values_of(sites)
    some = sites[1:]
    assert_array_equal(sum_over(some, some[:3], values), sum_of(values[site.name] for site in some[:3]))
