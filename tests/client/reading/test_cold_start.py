"""What a process that reads one lesion loads: libraries that take as long as the reading itself stay out."""

import json
import subprocess
import sys

import pytest

_LOADED = "import json, sys, client.reading.reader, client.reading.shown; print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize(
    "library", ["pandas", "pandera", "sklearn", "scipy.stats", "captum", "matplotlib", "highdicom"]
)
def test_a_reading_needs_no(library, loaded):
    assert library not in loaded


def test_a_reading_needs(loaded):
    assert {"torch", "pydicom", "client.reading.answering"} <= loaded


@pytest.fixture(scope="module")
def loaded():
    command = [sys.executable, "-P", "-c", _LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603, our own
    return set(json.loads(done.stdout))
