"""The trial that tells position-sensitive kernels from others."""

import pytest
import torch

from shared_model.network import row_independence
from shared_model.network.row_independence import found_once, positions_agree


def rows(num_rows, width, dtype=torch.float32):
    return torch.empty((num_rows, width), dtype=dtype)


def added_up(values):
    """Return the sums of rows, one column after the other, in float32."""
    total = torch.zeros(len(values))
    for column in values.T:
        total = total + column
    return total


def test_elementwise_results_agree():
    assert positions_agree(lambda batch: [torch.tanh(batch[0])], [rows(64, 5)])


@pytest.mark.parametrize("position", [0, 17, 63])
def test_one_last_bit_at_one_position_is_seen(position):
    def compute(batch):
        values = batch[0].clone()
        values[position, 2] = torch.nextafter(values[position, 2], torch.tensor(torch.inf))
        return [values]

    assert not positions_agree(compute, [rows(64, 5)])


def test_another_order_of_summation_is_seen():
    def compute(batch):
        return [torch.cat((added_up(batch[0][:-1]), added_up(batch[0][-1:].flip(-1))))]

    assert not positions_agree(compute, [rows(64, 200)])


def test_one_of_several_results_is_enough():
    def compute(batch):
        return [batch[0], torch.arange(len(batch[0]))]

    assert not positions_agree(compute, [rows(4, 2)])


def test_presence_is_kept_as_such():
    seen = []

    def compute(batch):
        seen.append(batch[0])
        return [batch[0]]

    assert positions_agree(compute, [rows(3, 1, torch.bool)])
    assert all(values.dtype == torch.bool and values.all() for values in seen)


def test_global_generators_are_left_alone():
    before = torch.random.get_rng_state()
    positions_agree(lambda batch: batch, [rows(2, 2)])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_trial_is_made_once_and_again_with_another_number_of_threads(monkeypatch):
    """With them a library may cut a product elsewhere."""
    monkeypatch.setattr(row_independence, "_VERDICTS", {})
    made = []

    def find(verdict):
        return lambda: made.append(verdict) or verdict

    assert found_once("one", find(True))
    assert found_once("one", find(False))
    assert not found_once("another", find(False))
    assert made == [True, False]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 17)
    assert not found_once("one", find(False))
    assert made == [True, False, False]


def test_verdicts_fill_no_memory(monkeypatch):
    monkeypatch.setattr(row_independence, "_VERDICTS", {})
    for number in range(1000):
        assert found_once(number, lambda: True)
    assert len(row_independence._VERDICTS) <= 64
