"""The grid: exact steps and wrapping; what rounding costs, against exact distributions of small cases."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.special import ndtr

from shared_model.errors import ProtocolError
from shared_model.secure_sum.grid import Grid, aliasing_bound, log10_aliasing, require_fine, require_sum

FINITE = st.floats(allow_nan=False, allow_infinity=False)
STEPS = st.integers(-1022, 1023).map(lambda exponent: 2.0**exponent)
STDS = (0.3, 0.5, 0.7, 1.0, 1.5)
REACH = 40
WHOLE = np.arange(-REACH, REACH + 1)


def share_pmf(value, std):
    """Of rint(value + N(0, std^2)) on WHOLE."""
    return ndtr((WHOLE + 0.5 - value) / std) - ndtr((WHOLE - 0.5 - value) / std)


def sum_pmf(values, std):
    """Of the sum of the rounded shares, on WHOLE, by convolution."""
    found = share_pmf(values[0], std)
    for value in values[1:]:
        found = np.convolve(found, share_pmf(value, std))[REACH : 3 * REACH + 1]
    return found


def gaussian_pmf(values, std):
    """Of rint(X + N(0, N std^2) + N - 1 uniforms) on WHOLE, by Gauss-Legendre quadrature over the uniforms."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    grids = itertools.repeat((nodes / 2, weights / 2), len(values) - 1)
    centres, masses = np.array([sum(values)]), np.array([1.0])
    for node, weight in grids:
        centres, masses = np.add.outer(centres, node).ravel(), np.multiply.outer(masses, weight).ravel()
    wide, found = std * math.sqrt(len(values)), np.empty(WHOLE.size)
    for position, whole in enumerate(WHOLE):
        found[position] = masses @ (ndtr((whole + 0.5 - centres) / wide) - ndtr((whole - 0.5 - centres) / wide))
    return found


def total_variation(values, std):
    return np.abs(sum_pmf(values, std) - gaussian_pmf(values, std)).sum() / 2


def hockey_stick(first, second, epsilon):
    return np.maximum(first - math.exp(epsilon) * second, 0).sum()


def gaussian_divergence(shift, std, epsilon):
    """Balle and Wang 2018, Theorem 8."""
    ratio = shift / std
    return ndtr(ratio / 2 - epsilon / ratio) - math.exp(epsilon) * ndtr(-ratio / 2 - epsilon / ratio)


@pytest.mark.parametrize(("largest", "step"), [(2.0**30, 1.0), (2.0**30 + 1, 2.0), (1.0, 2.0**-30), (3.0, 2.0**-28)])
def test_the_finest_step_that_covers(largest, step):
    assert Grid.covering(largest).step == step


@given(st.floats(min_value=1e-290, max_value=1e290))
def test_a_grid_covers_with_a_bit_to_spare_and_no_finer_one_does(largest):
    step = Grid.covering(largest).step
    assert largest / step <= 2**30 < 2 * largest / step


@pytest.mark.parametrize("largest", [0.0, -1.0, math.inf, math.nan, 5e-324])
def test_what_no_grid_covers_is_refused(largest):
    with pytest.raises(ValueError, match="Expected"):
        Grid.covering(largest)


@pytest.mark.parametrize("step", [0.0, -1.0, 3.0, 0.75, math.inf, math.nan, 2.0**-1040])
def test_a_step_is_a_power_of_two(step):
    with pytest.raises(ValueError, match="power of two"):
        Grid(step=step)


def test_values_are_rounded_to_even_and_wrap():
    values = np.array([0.0, 0.25, 0.75, -0.25, -0.5, 2.0**31, -(2.0**31), 2.0**30])
    found = Grid(step=0.5).to_grid(values)
    assert_array_equal(found, np.array([0, 0, 2, 0, 2**32 - 1, 0, 0, 2**31], np.uint32))
    assert found.dtype == np.uint32
    assert_array_equal(Grid(step=0.5).from_grid(found), [0, 0, 1, 0, -0.5, 0, 0, -(2.0**30)])


@given(FINITE, STEPS)
def test_any_finite_value_is_rounded_as_exact_arithmetic_does(value, step):
    numerator, denominator = value.as_integer_ratio()
    up, down = step.as_integer_ratio()
    exact, divisor = numerator * down, denominator * up
    whole, rest = divmod(exact, divisor)
    nearest = whole + (2 * rest > divisor or (2 * rest == divisor and whole % 2 == 1))
    assert Grid(step=step).to_grid(np.array([value]))[0] == nearest % 2**32


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1), st.integers(-900, 900))
def test_what_is_on_the_grid_comes_back(steps, exponent):
    grid = Grid(step=2.0**exponent)
    values = np.array(steps, np.float64) * grid.step
    assert_array_equal(grid.from_grid(grid.to_grid(values)), values)


@given(st.lists(st.floats(-1000, 1000), min_size=2, max_size=30))
def test_a_sum_modulo_the_grid_is_the_sum_of_rounded_values(values):
    grid = Grid.covering(1000.0 * len(values))
    total = np.zeros(1, np.uint32)
    for value in values:
        total += grid.to_grid(np.array([value]))
    assert abs(grid.from_grid(total)[0] - math.fsum(values)) <= len(values) * grid.step / 2


@pytest.mark.parametrize("values", [np.array([np.nan]), np.array([np.inf]), np.zeros(2, np.float32), np.zeros((1, 1))])
def test_what_is_no_vector_of_finite_numbers_is_refused(values):
    with pytest.raises(ValueError, match="vector of finite float64"):
        Grid(step=1.0).to_grid(values)


@pytest.mark.parametrize("steps", [np.zeros(2), np.zeros((1, 1), np.uint32), np.zeros(2, np.int64)])
def test_what_is_no_vector_of_words_is_refused(steps):
    with pytest.raises(ValueError, match="vector of uint32"):
        Grid(step=1.0).from_grid(steps)


def test_a_share_of_noise_spans_sixteen_steps():
    require_fine(0.5, 8.0)
    for std in (7.999, 0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="add more noise or take a finer grid"):
            require_fine(0.5, std)


def test_a_sum_that_a_grid_covers_is_told_from_what_a_wrong_seed_leaves():
    grid = Grid.covering(16.0)
    require_sum(grid.to_grid(np.array([-16.0, 16.0, 0.0, 23.9, -23.9])))
    for far in (24.1, -24.1, 32.0):
        with pytest.raises(ProtocolError, match="Expected a sum that its grid covers, got 1 of 2 numbers beyond"):
            require_sum(grid.to_grid(np.array([0.0, far])))
    with pytest.raises(ProtocolError, match="a site sent a wrong vector or a wrong share of a seed"):
        require_sum(np.random.default_rng(0).integers(0, 2**32, 200, dtype=np.uint32))


@pytest.mark.parametrize("std", STDS)
@pytest.mark.parametrize("values", [(0.0, 0.0), (0.5, 0.5), (0.3, -0.8), (0.5, 0.5, 0.5), (0.1, 0.7, -2.4), (0.5,) * 4])
def test_the_bound_holds_for_exact_distributions(values, std):
    assert total_variation(values, std) <= aliasing_bound(std, len(values), 1) + 1e-12


@pytest.mark.parametrize(("std", "num_shares", "num_values"), [(0.5, 2, 1), (0.4, 5, 3), (1.5, 30, 1000), (3.0, 3, 7)])
def test_the_bound_is_what_the_derivation_says(std, num_shares, num_values):
    p, r = math.exp(-((math.pi * std) ** 2)), math.exp(-2 * (math.pi * std) ** 2)
    others = (1 + 2 * r / (1 - r)) ** (num_shares - 2)
    largest = (num_shares - 1) * others * p / ((1 - p) * math.sqrt(math.pi) * std)
    radius = num_shares / 2 + math.pi * std**2 * math.sqrt(2 * num_shares)
    expected = num_values * ((radius + 0.5) * largest + p)
    assert 10 ** log10_aliasing(std, num_shares, num_values) == pytest.approx(expected, rel=1e-9)


def test_the_bound_is_not_idle():
    # With shares this narrow aliasing is there to be seen, and the bound is within a factor of it.
    for std in (0.7, 1.0):
        worst = max(total_variation((shift, other), std) for shift in (0.0, 0.25, 0.5) for other in (0.0, 0.25, 0.5))
        assert worst > 1e-5
        assert worst <= aliasing_bound(std, 2, 1) <= 40 * worst


def test_one_share_is_exact():
    assert log10_aliasing(0.3, 1, 10**9) == -math.inf
    assert aliasing_bound(0.3, 1, 10**9) == 0.0
    assert total_variation((0.37,), 0.3) < 1e-15


@pytest.mark.parametrize("num_shares", [1, 2, 3, 5])
@pytest.mark.parametrize("std", STDS)
def test_the_price_of_rounded_shares_is_that_of_the_gaussian_mechanism(std, num_shares):
    generator = np.random.default_rng(num_shares)
    bound = aliasing_bound(std, num_shares, 1)
    for shift, epsilon in itertools.product((0.1, 0.5, 1.0, 1.7, 3.0), (0.0, 0.3, 1.0, 3.0)):
        for _ in range(4):
            values = generator.uniform(-1, 1, num_shares)
            neighbour = values + np.eye(num_shares)[0] * shift
            plain = gaussian_divergence(shift, std * math.sqrt(num_shares), epsilon)
            for pair in ((values, neighbour), (neighbour, values)):
                found = hockey_stick(*(sum_pmf(each, std) for each in pair), epsilon)
                assert found <= plain + (1 + math.exp(epsilon)) * bound + 1e-12


def test_without_the_bound_the_price_would_be_wrong():
    # Shares of 0.3 steps: one step more is told apart more often than the plain Gaussian mechanism allows.
    found = hockey_stick(sum_pmf((0.3, 0.3), 0.3), sum_pmf((1.3, 0.3), 0.3), 3.0)
    assert found > gaussian_divergence(1.0, 0.3 * math.sqrt(2), 3.0) + 0.1


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_two_coordinates_cost_what_the_length_of_the_shift_costs(epsilon):
    std, values, moved = 1.0, ((0.2, 0.4), (-0.3, 0.1)), ((0.2 + 0.9, 0.4), (-0.3 - 1.2, 0.1))
    first, second = (np.multiply.outer(*(sum_pmf(each, std) for each in pair)) for pair in (values, moved))
    plain = gaussian_divergence(1.5, math.sqrt(2) * std, epsilon)
    found = hockey_stick(first, second, epsilon)
    assert 0.8 * plain < found <= plain + (1 + math.exp(epsilon)) * aliasing_bound(std, 2, 2)


def test_the_fewest_steps_make_it_nil_for_any_federation():
    assert log10_aliasing(16, 1000, 10**12) < -1000
    assert aliasing_bound(16, 1000, 10**12) == 0.0


def test_the_bound_grows_with_shares_and_coordinates_and_falls_with_noise():
    assert log10_aliasing(2, 5, 100) == pytest.approx(log10_aliasing(2, 5, 1) + 2)
    assert log10_aliasing(2, 6, 1) > log10_aliasing(2, 5, 1)
    assert log10_aliasing(2.1, 5, 1) < log10_aliasing(2, 5, 1)
    assert aliasing_bound(0.01, 10**6, 1) == 1.0


@pytest.mark.parametrize("arguments", [(0.0, 2, 1), (math.nan, 2, 1), (math.inf, 2, 1), (1.0, 0, 1), (1.0, 2, 0)])
def test_arguments_of_the_bound_are_checked(arguments):
    with pytest.raises(ValueError, match="Expected std_steps"):
        log10_aliasing(*arguments)
