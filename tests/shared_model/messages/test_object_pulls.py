"""A part of a message that is still on its way is looked for again soon."""

import inspect
import threading

import pytest
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectUnavailableError, pull_objects
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.supernode.runtime.run_clientapp import pull_task_input
from flwr.supernode.start_client_internal import _pull_and_store_message

from shared_model.messages.object_pulls import pull_soon

PULLS = (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree)


@pytest.fixture
def waits(monkeypatch):
    """Pull soon, and return the list of all waits, without waiting."""
    for pull in PULLS:
        monkeypatch.setattr(pull, "__kwdefaults__", dict(pull.__kwdefaults__))
    waited = []
    monkeypatch.setattr(threading.Event, "wait", lambda self, seconds=None: waited.append(seconds))
    monkeypatch.setattr(inflatable_utils.random, "uniform", lambda low, high: 0.0)
    pull_soon()
    return waited


def test_waits_begin_short_and_double_up_to_flowers_own(waits):
    missing = iter([True] * 10)

    def pull(_):
        if next(missing, False):
            raise ObjectUnavailableError("0" * 64)
        return b"content"

    assert pull_objects(["0" * 64], pull) == {"0" * 64: b"content"}
    # The pool of threads waits too, with no bound.
    assert [wait for wait in waits if wait is not None] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]


def test_both_ways_to_pull_begin_alike(waits):
    assert [inspect.signature(pull).parameters["initial_backoff"].default for pull in PULLS] == [0.05, 0.05]


@pytest.mark.parametrize("caller", [_pull_and_store_message, HttpGrid.pull_messages, pull_task_input])
def test_flower_names_no_wait_where_it_pulls(caller):
    source = inspect.getsource(caller)
    assert "pull_objects(" in source or "pull_and_inflate_object_from_tree(" in source
    assert "backoff" not in source
