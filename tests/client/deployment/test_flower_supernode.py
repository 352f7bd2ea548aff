"""A SuperNode that drops a message exits; what it does with real coordinators stands in test_rehearsal.py."""

import inspect
import re

import pytest
from flwr.supernode import start_client_internal

from client.deployment.flower_supernode import end_on_dropped_message

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


def test_flower_uses_no_more_of_the_module_time():
    assert set(re.findall(r"\btime\.(\w+)\(", inspect.getsource(start_client_internal))) == {"sleep"}


def test_flower_still_calls_it_by_keywords():
    """An update of Flower that renames any of this must be noticed here and not at a hospital."""
    parameters = inspect.signature(start_client_internal._pull_and_store_message).parameters
    assert "receive" in parameters
    source = inspect.getsource(start_client_internal.start_client_internal)
    assert "run_id = _pull_and_store_message(" in source
    assert "receive=receive" in source
