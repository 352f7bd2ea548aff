"""A deadline passes when its seconds are over, by the clock that it is given."""

import pytest

from shared_model.errors import TimeLimitError
from shared_model.system.deadline import Deadline


def test_it_passes_after_its_seconds():
    time = [100.0]
    deadline = Deadline(5.0, now=lambda: time[0])
    for time[0] in (100.0, 104.9, 105.0):
        deadline.require()
    time[0] = 105.1
    with pytest.raises(TimeLimitError, match=r"at most 5 s"):
        deadline.require("done", 3)


def test_without_a_limit_it_never_passes():
    time = [0.0]
    deadline = Deadline(None, now=lambda: time[0])
    time[0] = 1e300
    deadline.require()
