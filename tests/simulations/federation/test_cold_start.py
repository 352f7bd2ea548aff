"""What a process that simulates a federation loads: libraries that no run needs, or few, stay out."""

import json
import subprocess
import sys

import pytest

LOADED = """
import json, sys
import server.report.html_report, server.report.run_display, simulations.federation.simulation
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("library", ["torch._dynamo", "sklearn", "captum", "highdicom", "ray"])
def test_a_run_needs_no(library, loaded):
    assert library not in loaded


def test_a_run_needs(loaded):
    assert {"torch", "opacus", "flwr", "client.app", "matplotlib.figure"} <= loaded


@pytest.fixture(scope="module")
def loaded():
    command = [sys.executable, "-P", "-c", LOADED]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603, our own
    return set(json.loads(done.stdout))
