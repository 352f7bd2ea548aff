import math
from itertools import pairwise

import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from client.training.noise import NoiseGenerator
from tests.noise_scale import scale_p_value

NUM_DRAWS = 20_000
LEVEL = 1e-3


def test_uniform_is_the_aes_keystream_of_the_counter_from_zero():
    key = bytes(range(32))
    counters = b"".join(block.to_bytes(16, "big") for block in range(4))
    encryptor = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()  # noqa: S305
    keystream = encryptor.update(counters)
    words = [int.from_bytes(keystream[start : start + 8], "little") for start in range(0, 64, 8)]

    generator = NoiseGenerator(key)
    drawn = torch.cat([generator.uniform(3), generator.uniform(5)])

    assert drawn.dtype == torch.float64
    assert drawn.tolist() == [(word >> 11) / 2**53 for word in words]


def test_uniform_is_uniform_below_one():
    values = NoiseGenerator.from_seed(0).uniform(NUM_DRAWS).numpy()
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > LEVEL


def test_normal_follows_the_normal_distribution():
    values = NoiseGenerator.from_seed(1).normal((NUM_DRAWS,), std=1, dtype=torch.float64).numpy()
    assert stats.kstest(values, "norm").pvalue > LEVEL
    # The tails matter most, and Kolmogorov and Smirnov hardly see them.
    assert stats.binomtest(int((abs(values) > 3).sum()), NUM_DRAWS, 2 * stats.norm.sf(3)).pvalue > LEVEL


@pytest.mark.parametrize("std", [1e-3, 0.7, 40.0])
def test_normal_has_the_scale_asked_for_and_no_other(std):
    values = NoiseGenerator.from_seed(2).normal((NUM_DRAWS,), std=std).double().numpy()
    assert scale_p_value(values, std) > LEVEL
    assert scale_p_value(values, std * 2 / 3) < LEVEL
    assert scale_p_value(values, std * 3 / 2) < LEVEL


def test_calls_are_independent_of_each_other():
    generator = NoiseGenerator.from_seed(3)
    calls = [generator.normal((NUM_DRAWS,), std=1).numpy() for _ in range(4)]
    for first, second in pairwise(calls):
        assert stats.pearsonr(first, second).pvalue > LEVEL
        # The two halves of one call share their radii.
    halves = calls[0][: NUM_DRAWS // 2], calls[0][NUM_DRAWS // 2 :]
    assert stats.pearsonr(*halves).pvalue > LEVEL
    assert stats.spearmanr(abs(halves[0]), abs(halves[1])).pvalue > LEVEL


def test_seeded_repeats_and_seeds_differ():
    first, again, other = (NoiseGenerator.from_seed(seed).normal((5,), std=1) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_secure_never_repeats():
    first, second = (NoiseGenerator.from_system_entropy().uniform(5) for _ in range(2))
    assert not torch.isclose(first, second).any()


@given(shape=st.lists(st.integers(0, 5), max_size=3), std=st.floats(0, 1e3))
def test_normal_has_the_shape_and_type_asked_for(shape, std):
    values = NoiseGenerator.from_seed(0).normal(shape, std=std)
    assert values.shape == tuple(shape)
    assert values.dtype == torch.float32
    assert values.abs().max() <= 8.6 * std if values.numel() else True


def test_normal_takes_the_shape_of_a_tensor():
    assert NoiseGenerator.from_seed(0).normal(torch.zeros(2, 3).shape, std=0).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("std", [-1.0, math.inf, math.nan])
def test_normal_refuses_an_impossible_scale(std):
    with pytest.raises(ValueError, match=f"Expected std={std} >= 0 and finite"):
        NoiseGenerator.from_seed(0).normal((1,), std=std)


def test_uniform_refuses_a_negative_count():
    with pytest.raises(ValueError, match="Expected count=-1 >= 0"):
        NoiseGenerator.from_seed(0).uniform(-1)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="length=16 == 32"):
        NoiseGenerator(bytes(16))


class TestBoundToData:
    def numbers(self, key, *contents):
        return NoiseGenerator.bound_to(key, contents).normal((1000,), std=1.0)

    def test_the_same_data_have_the_same_noise(self):
        assert torch.equal(self.numbers(bytes(32), b"a", b"b"), self.numbers(bytes(32), b"a", b"b"))

    @pytest.mark.parametrize(
        ("key", "contents"),
        [(bytes(31) + b"1", [b"a", b"b"]), (bytes(32), [b"a"]), (bytes(32), [b"ab"]), (bytes(32), [b"b", b"a"])],
    )
    def test_another_key_or_other_data_have_another(self, key, contents):
        first, second = self.numbers(bytes(32), b"a", b"b"), self.numbers(key, *contents)
        assert (first != second).all()
        assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.2

    def test_the_key_itself_starts_another_stream(self):
        assert not torch.equal(self.numbers(bytes(32)), NoiseGenerator(bytes(32)).normal((1000,), std=1.0))

    def test_a_key_of_another_length(self):
        with pytest.raises(ValueError, match="Expected a key of length=31 == 32"):
            NoiseGenerator.bound_to(bytes(31), [])
