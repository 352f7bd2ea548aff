"""Pauses between two looks for a message."""

from itertools import pairwise

from client.deployment.pauses import Pauses


def test_pauses_grow_up_to_what_flower_asks_for_and_begin_again_with_a_message():
    waited = []
    pauses = Pauses(waited.append)
    for _ in range(40):
        pauses.sleep(3)
    assert waited[0] == 0.05
    assert all(later == min(3, 1.25 * before) for before, later in pairwise(waited))
    assert waited[-1] == 3
    # A message that comes after some time waits for a quarter of it at most.
    assert all(pause <= 0.25 * sum(waited[:number]) + 0.05 for number, pause in enumerate(waited))
    pauses.shorten()
    pauses.sleep(0.5)
    assert waited[-1] == 0.05
