"""A SuperNode that drops a message exits; what it does with real coordinators stands in test_rehearsal.py."""

import inspect
import re
from itertools import pairwise

import pytest
from flwr.supernode import start_client_internal

from client.deployment.flower_supernode import Pauses, end_on_dropped_message

MESSAGE = object()


def pull(*, receive, keeps):
    return 7 if receive() is not None and keeps else None


def test_a_stored_message_and_silence_change_nothing():
    wrapped = end_on_dropped_message(pull)
    assert wrapped(receive=lambda: MESSAGE, keeps=True) == 7
    assert wrapped(receive=lambda: None, keeps=True) is None


def test_a_dropped_message_is_the_end():
    with pytest.raises(SystemExit, match="A message was dropped"):
        end_on_dropped_message(pull)(receive=lambda: MESSAGE, keeps=False)


def test_every_message_is_told():
    told = []
    wrapped = end_on_dropped_message(pull, on_message=lambda: told.append(True))
    wrapped(receive=lambda: None, keeps=True)
    assert told == []
    wrapped(receive=lambda: MESSAGE, keeps=True)
    assert told == [True]


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


def test_flower_uses_no_more_of_the_module_time():
    assert set(re.findall(r"\btime\.(\w+)\(", inspect.getsource(start_client_internal))) == {"sleep"}


def test_flower_still_calls_it_by_keywords():
    """An update of Flower that renames any of this must be noticed here and not at a hospital."""
    parameters = inspect.signature(start_client_internal._pull_and_store_message).parameters
    assert "receive" in parameters
    source = inspect.getsource(start_client_internal.start_client_internal)
    assert "run_id = _pull_and_store_message(" in source
    assert "receive=receive" in source
