"""The command that writes the phantom: what it says, and that it leaves nothing half written."""

import os
import signal

import pytest

from simulations.commands.app import main
from simulations.phantom import write


def test_it_is_written_as_asked(tmp_path, monkeypatch, capsys):
    asked = {}
    monkeypatch.setattr(write, "write_phantom", lambda root, **more: asked.update(root=root, **more))
    assert main(["phantom", "--out", str(tmp_path / "new"), "--num-patients", "13", "--seed", "2"]) == 0
    assert (asked["root"], asked["num_patients"], asked["seed"]) == (tmp_path / "new", 13, 2)
    said = capsys.readouterr()
    assert (said.out, said.err) == (f"13 patients in {tmp_path / 'new'}\n", "")


@pytest.fixture
def ctrl_c():
    """Ctrl-C interrupts, as in a terminal: a process that was started in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(tmp_path, monkeypatch, capsys, number):
    monkeypatch.setattr(write, "write_phantom", lambda *_, **__: os.kill(os.getpid(), number))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["phantom", "--out", str(tmp_path / "new")]) == 130
    assert capsys.readouterr().err.splitlines() == ["interrupted: nothing was written"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_too_few_patients(tmp_path, capsys):
    assert main(["phantom", "--out", str(tmp_path / "new"), "--num-patients", "11"]) == 2
    assert "expected 11 >= 12" in capsys.readouterr().err
