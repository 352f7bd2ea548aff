"""Named streams: reproducible, distinct, and independent of each other's draws."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared_model.system.seeding import derive_seed, numpy_generator

SEEDS = st.integers(0, 2**63 - 1)
NAMES = st.lists(st.text(max_size=4) | st.integers(0, 9), max_size=3).map(tuple)


def test_seed_is_the_head_of_the_digest_that_the_docstring_describes():
    digest = hashlib.sha256(b"7" + b"\0\0\0\2ab" + b"\0\0\0\x011").hexdigest()
    assert derive_seed(7, "ab", 1) == int(digest[:16], 16) // 2


@given(SEEDS, NAMES)
def test_seed_fits_63_bits_and_repeats(seed, names):
    derived = derive_seed(seed, *names)
    assert 0 <= derived < 2**63
    assert derived == derive_seed(seed, *names)


@given(SEEDS, SEEDS, NAMES, NAMES)
def test_other_roots_and_other_names_are_other_streams(seed, other_seed, names, other_names):
    is_same = (seed, tuple(map(str, names))) == (other_seed, tuple(map(str, other_names)))
    assert (derive_seed(seed, *names) == derive_seed(other_seed, *other_names)) == is_same


def test_names_do_not_run_together():
    streams = [("ab",), ("a", "b"), ("a", "b", ""), ("", "ab"), ("ba",), ()]
    assert len({derive_seed(0, *names) for names in streams}) == len(streams)
    assert derive_seed(1, "1") != derive_seed(11)


def test_generators_repeat_by_name_and_differ_between_names():
    def draws(*names):
        return numpy_generator(3, *names).random(8).tolist()

    assert draws("site", 1) == draws("site", 1)
    assert all(one != other for one, other in zip(draws("site", 1), draws("site", 2), strict=True))


def test_drawing_from_one_stream_moves_no_other():
    first = numpy_generator(0, "a")
    first.random(1000)
    assert numpy_generator(0, "b").random() == numpy_generator(0, "b").random()


def test_generators_leave_the_global_state_alone():
    np.random.seed(5)  # noqa: NPY002, the global state is what must stay
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    numpy_generator(0, "a").random()
    assert np.random.random() == expected  # noqa: NPY002
