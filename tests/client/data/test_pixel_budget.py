"""How much is at work at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import pytest

from client.data.pixel_budget import PixelBudget


@pytest.mark.parametrize("needs", [[1] * 40, [5, 9, 2, 10, 1, 7] * 10, [1000, 3, 10] * 10, [0] * 20])
def test_no_more_than_all_is_at_work(needs):
    budget, lock, at_work, most = PixelBudget(10), Lock(), [], []

    def work(num_pixels):
        with budget.taking(num_pixels):
            with lock:
                at_work.append(min(num_pixels, 10))
                most.append(sum(at_work))
            with lock:
                at_work.remove(min(num_pixels, 10))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, needs))
    assert len(most) == len(needs)
    assert max(most) <= 10


def test_what_fits_is_at_work_at_once():
    budget, both = PixelBudget(10), Barrier(2)

    def work(num_pixels):
        with budget.taking(num_pixels):
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(work, [5, 5])) == [None, None]


def test_a_failure_gives_back_what_it_took():
    budget = PixelBudget(10)
    for _ in range(3):
        with pytest.raises(ValueError, match="broken"), budget.taking(10):
            raise ValueError("broken")
