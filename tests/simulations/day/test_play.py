"""A whole day by the command: with the phantom, killed half-way and begun again, and with the four real films."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from simulations.commands.app import main
from simulations.day.play import PICTURE, PROTOCOL, missing
from simulations.federation.rehearsal import FEDMAMMO, environment
from tests.real_data import CBIS_DDSM, needs_cbis_ddsm

LACKS = missing(None)
pytestmark = [pytest.mark.pacs, pytest.mark.browser, pytest.mark.slow]
needs_a_day = pytest.mark.skipif(bool(LACKS), reason=LACKS or "nothing")
_PLENTY_SECONDS = 1800


def command(folder, *more):
    return [*FEDMAMMO, "rehearse-day", "--out", str(folder), *map(str, more)]


def played(folder, *more):
    """Play a day to its end and return its protocol."""
    done = subprocess.run(  # noqa: S603, our own command
        command(folder, *more), env=environment(), capture_output=True, text=True, timeout=_PLENTY_SECONDS, check=False
    )
    said = (folder / PROTOCOL).read_text() if (folder / PROTOCOL).exists() else ""
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{said[-3000:]}"
    return said


def require_whole(said):
    assert "**not as expected**" not in said
    assert "all as expected." in said
    for words in (
        "one view missing", "one film a negative", "one film FOR PROCESSING", "a localisation grid",
        "the results of its reading are sent", "The audit log is verified", "0 identifiers",
    ):  # fmt: skip
        assert words in said


def running_in(folder):
    """Processes that were given this folder and still run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


def wait_until(is_so, process):
    deadline = time.monotonic() + _PLENTY_SECONDS
    while not is_so():
        assert process is None or process.poll() is None, "the day ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)


@needs_a_day
def test_a_day_that_is_killed_leaves_nothing_running_and_can_be_played_again(tmp_path):
    folder = tmp_path / "day"
    half = folder / PROTOCOL
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen(command(folder), env=environment(), stdout=nowhere, stderr=nowhere)  # noqa: S603, likewise
    try:
        # The PACS, the receiver's films, the page and the browser are all there by then.
        wait_until(lambda: half.exists() and "she marks the lesion" in half.read_text(), process)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_until(lambda: not running_in(folder), None)
    assert "all as expected." not in half.read_text()
    require_whole(played(folder))
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG")


@needs_a_day
@needs_cbis_ddsm
def test_a_day_with_the_four_real_films(tmp_path):
    said = played(tmp_path / "day", "--films", CBIS_DDSM)
    require_whole(said)
    assert "rehearsal release, never to be used" in said
    assert "StudyInstanceUID, SeriesInstanceUID and SOPInstanceUID were rewritten" in said


def test_films_that_are_not_there_are_one_line(tmp_path, capsys, monkeypatch):
    for module in ("loopback", "orthanc", "browser"):
        monkeypatch.setattr(f"simulations.day.play.{module}.missing", lambda: "")
    monkeypatch.setattr("simulations.day.play.loopback.is_alone", lambda: False)
    assert main(["rehearse-day", "--out", str(tmp_path / "day"), "--films", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "the four films of CBIS-DDSM are not in" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "day").exists()
