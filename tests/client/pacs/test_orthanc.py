"""The whole loop against a real Orthanc, in a network namespace with loopback only."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulations.day import loopback, orthanc
from tests.pacs_films import PATIENT, STUDY, write_films

ROOT = Path(__file__).parents[3]
LOOP = Path(__file__).with_name("orthanc_loop.py")
MISSING = loopback.missing() or orthanc.missing()

pytestmark = [pytest.mark.pacs, pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING or "nothing")]


@pytest.fixture(scope="module")
def day(phantom_films, tmp_path_factory):
    """What the day with Orthanc said, by name."""
    folder = tmp_path_factory.mktemp("orthanc")
    films = write_films(phantom_films, folder / "films")
    words = [f"{view}={path}" for view, path in films.items()]
    done = subprocess.run(  # noqa: S603, our own script
        loopback.alone([sys.executable, "-P", str(LOOP), str(folder), *words]),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = {}
    for line in done.stdout.splitlines():
        said |= json.loads(line)
    return said


def test_films_are_found_and_fetched_as_they_were_sent(day):
    assert day["stored"] == ["0x0000", "0x0000"]
    assert day["found"] == [[STUDY], [STUDY]]
    assert day["nobody"] == 0
    assert day["fetched"] == [2, 2, 0]
    assert day["same pixels"] == [True, True]
    assert day["worklist"] == [[PATIENT, "ACC1", STUDY]]


def test_results_lie_in_the_films_study_once_however_often_they_are_sent(day):
    assert day["sent"] == [[None] * 6] * 3
    kinds = {name: day["in the study"].count(name) for name in day["in the study"]}
    assert kinds == {
        "Comprehensive 3D SR Storage": 1,
        "Grayscale Softcopy Presentation State Storage": 2,
        "Mammography CAD SR Storage": 1,
        # Two films of the phantom, and a picture of each.
        "Secondary Capture Image Storage": 4,
    }


def test_a_pacs_that_is_down_or_refuses_is_one_line(day):
    for line in (*day["down"], day["down again"], day["wrong title"], day["wrong password"], day["no such study"]):
        assert line.startswith("PacsError: Expected"), line
        assert "\n" not in line
    assert "rejected the association" in day["wrong title"]
    assert "status 401" in day["wrong password"]


def test_the_receiver_takes_films_and_nothing_else(day):
    assert day["pushed"] == [2, 0]
    assert day["report"] != 200, "reports are of a kind that is not taken in"
    assert day["again"] == "0x0000"
    assert day["stranger"] == ["rejected", "rejected"]
    assert day["items"] == day["path"] == day["control"] == "0xC000"
    assert day["huge unit"] == 0
    assert day["kept"].count(".dcm") == 2


def test_every_transfer_is_a_line_of_the_audit_log_without_patients(day):
    assert day["leaks"] == []
    assert {"pacs_fetched", "pacs_sent", "pacs_received", "pacs_rejected"} <= set(day["audit"])
