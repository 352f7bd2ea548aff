"""The collector rests while libraries are imported, and no longer."""

import gc

import pytest

from shared_model.system.imports import collector_at_rest


@pytest.fixture(autouse=True)
def thawed():
    """Give the collector back what a test froze."""
    yield
    gc.unfreeze()
    gc.enable()


def test_it_rests_in_the_block_alone_and_leaves_alone_what_came_of_it():
    before = gc.get_freeze_count()
    with collector_at_rest():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_a_block_that_fails_ends_its_rest():
    with pytest.raises(ImportError, match="nothing"), collector_at_rest():
        raise ImportError("nothing")
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    with collector_at_rest():
        pass
    assert not gc.isenabled()
