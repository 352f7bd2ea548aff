"""The ledger on a real disk: what it grants, what it refuses, what it notices, and what survives kill -9."""

import ctypes
import dataclasses
import math
import os
import shutil
import signal
import sqlite3
import stat
import sys
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy import ledger as ledger_module
from client.privacy import ledger_database
from client.privacy.ledger import Ledger, Reservation, StoredReply
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Purpose, Reserved, Unprotected
from client.privacy.ledger_history import Limits, composed_epsilon
from shared_model.config.choices import NoiseSource
from shared_model.errors import BudgetError, LedgerError, ProtocolError
from shared_model.privacy.mechanism import Mechanism

PATIENTS = [f"ZQXCANARYQXZ-{number}" for number in range(30)]
NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-4)
PARTS = [slice(0, 30), slice(0, 15), slice(15, 30), slice(10, 20)]
STEP = Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1)


def release_of(cohort, *, request="request", run="run", target_epsilon=8.0, mechanism=STEP):
    return Reserved(
        purpose=Purpose.TRAINING,
        run=run,
        server_round=1,
        request=request,
        cohort=cohort.fingerprint,
        num_patients_declared=30,
        mechanism=mechanism,
        delta=1e-4,
        target_epsilon=target_epsilon,
        max_grad_norm=0.5,
        noise=NoiseSource.SECURE,
    )


def answer(ledger, request, *, patients=PATIENTS, limits=NO_LIMIT, run="run", reply=None):
    cohort = ledger.cohort(patients)
    granted = ledger.reserve(release_of(cohort, request=request, run=run), cohort, limits)
    if isinstance(granted, Reservation):
        ledger.commit(granted, reply or request.encode())
    return granted


def reserved(history):
    return [entry.content for entry in history.entries if isinstance(entry.content, Reserved)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site" / "ledger.sqlite"


class TestGrants:
    def test_twenty_rounds_cost_what_twenty_steps_cost(self, path):
        ledger = Ledger(path)
        granted = [answer(ledger, f"round {number}") for number in range(20)]
        assert [g.epsilon for g in granted] == sorted(g.epsilon for g in granted)
        whole = Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=20)
        history = read_history(path)
        assert granted[-1].epsilon == pytest.approx(
            composed_epsilon([release_of(ledger.cohort([]), mechanism=whole)], 1e-4)
        )
        assert len(reserved(history)) == 20
        assert sum(isinstance(entry.content, Committed) for entry in history.entries) == 20

    def test_run_promise_holds_whatever_rounds_are_asked(self, path):
        ledger = Ledger(path)
        for number in range(20):
            answer(ledger, f"any {number}")
        with pytest.raises(BudgetError, match=r"promise of epsilon 8: it would reach 8\.\d+ with 21 releases"):
            answer(ledger, "one more")
        assert len(reserved(ledger.history())) == 20

    def test_cap_holds_over_runs_and_restarts_and_says_what_is_left(self, path):
        limits = Limits(max_epsilon=4.0, max_delta=1e-4)
        for month in range(6):
            answer(Ledger(path), f"request {month}", run=f"month {month}", limits=limits)
        with pytest.raises(BudgetError, match=r"Expected epsilon 4\.\d+ <= 4 .* have spent 3\.\d+, 0\.\d+ is left"):
            answer(Ledger(path), "one more", run="month 6", limits=limits)
        assert 3.5 < composed_epsilon(reserved(read_history(path)), 1e-4) <= 4.0
        assert len(reserved(read_history(path))) == 6

    def test_the_same_request_gets_the_same_bytes_for_nothing(self, path):
        first = answer(Ledger(path), "again", reply=b"\x00update")
        assert isinstance(first, Reservation)
        for _ in range(3):
            second = answer(Ledger(path), "again", reply=b"other noise")
            assert second == StoredReply(content=b"\x00update")
        assert len(reserved(read_history(path))) == 1

    def test_a_crash_counts_as_spent(self, path):
        ledger = Ledger(path)
        cohort = ledger.cohort(PATIENTS)
        before = ledger.reserve(release_of(cohort), cohort, NO_LIMIT)
        after = Ledger(path).reserve(release_of(cohort), cohort, NO_LIMIT)
        assert isinstance(after, Reservation)
        assert after.epsilon > before.epsilon

    def test_old_replies_are_dropped_and_never_made_anew(self, path, monkeypatch):
        monkeypatch.setattr(ledger_database, "MAX_REPLY_BYTES", 50)
        ledger = Ledger(path)
        for number in range(3):
            answer(ledger, f"r{number}", reply=bytes(40))
        with pytest.raises(ProtocolError, match="no longer kept"):
            answer(ledger, "r0")
        assert answer(ledger, "r2") == StoredReply(content=bytes(40))
        assert len(reserved(ledger.history())) == 3

    @pytest.mark.parametrize(
        ("patients", "inherits"),
        [
            ([*PATIENTS, "new"], True),
            (PATIENTS[:3], True),
            (["a", "b", PATIENTS[-1]], True),
            (["a", "b"], False),
        ],
    )
    def test_overlapping_cohorts_inherit(self, path, patients, inherits):
        ledger = Ledger(path)
        alone = answer(ledger, "first").epsilon
        second = answer(ledger, "second", patients=patients, run="another").epsilon
        assert (second > alone) == inherits

    def test_unprotected_release_is_recorded_once_and_leaves_nothing(self, path):
        ledger = Ledger(path)
        cohort = ledger.cohort(PATIENTS)
        release = Unprotected(
            purpose=Purpose.EVALUATION, run="run", cohort=cohort.fingerprint, num_patients_declared=30
        )
        for _ in range(3):
            ledger.note_unprotected(release, cohort, NO_LIMIT)
        assert sum(isinstance(entry.content, Unprotected) for entry in ledger.history().entries) == 1
        assert answer(ledger, "private", run="other").epsilon == math.inf
        with pytest.raises(BudgetError, match="Expected epsilon inf <= 100"):
            answer(ledger, "capped", run="other", limits=Limits(max_epsilon=100.0, max_delta=1e-4))
        with pytest.raises(BudgetError, match="Expected a private release"):
            ledger.note_unprotected(release, cohort, Limits(max_epsilon=100.0, max_delta=1e-4))


class TestDisk:
    def test_files_are_the_owners_and_name_no_patient(self, path):
        answer(Ledger(path), "request")
        for file in path.parent.iterdir():
            assert b"ZQXCANARYQXZ" not in file.read_bytes()
            if file.suffix != ".sqlite-journal":
                assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file

    def test_fingerprints_differ_between_sites(self, tmp_path):
        first, second = (Ledger(tmp_path / name).cohort(PATIENTS).fingerprint for name in ("a", "b"))
        assert first != second

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE entries SET body = replace(body, '2.431', '9.431') WHERE sequence = 3",
            "DELETE FROM entries WHERE sequence = 3",
            "DELETE FROM entries WHERE sequence > 4",
            "UPDATE entries SET sequence = 99 WHERE sequence = 3",
            "UPDATE entries SET time = '2020-01-01T00:00:00.000+00:00' WHERE sequence = 2",
            "DELETE FROM members WHERE pseudonym = (SELECT MIN(pseudonym) FROM members)",
            "INSERT INTO members VALUES ('x', x'00')",
            "DELETE FROM entries",
            "DROP TABLE entries",
        ],
    )
    def test_changes_are_noticed_and_stop_training(self, path, statement):
        ledger = Ledger(path)
        for number in range(3):
            answer(ledger, f"request {number}")
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(LedgerError, match="Expected"):
            answer(ledger, "next")
        with pytest.raises(LedgerError, match="Expected"):
            Ledger(path)
        with pytest.raises(LedgerError, match="Expected"):
            read_history(path)

    def test_a_changed_reply_is_not_sent(self, path):
        answer(Ledger(path), "request")
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE replies SET content = x'00'")
        connection.close()
        with pytest.raises(LedgerError, match="the reply of ledger entry 3 as it was written"):
            answer(Ledger(path), "request")

    @pytest.mark.parametrize("lost", ["ledger.sqlite", "ledger.sqlite.key", "ledger.sqlite.head"])
    def test_a_lost_file_stops_training(self, path, lost):
        answer(Ledger(path), "request")
        (path.parent / lost).unlink()
        with pytest.raises(LedgerError, match="Expected"):
            answer(Ledger(path), "next")

    def test_an_older_copy_is_noticed(self, path):
        ledger = Ledger(path)
        answer(ledger, "first")
        copy = path.with_suffix(".copy")
        shutil.copy(path, copy)
        answer(ledger, "second")
        shutil.copy(copy, path)
        with pytest.raises(LedgerError, match="cut short or replaced"):
            answer(ledger, "third")

    def test_older_copies_of_all_files_are_noticed_by_a_process_that_knew_more(self, path, tmp_path):
        ledger = Ledger(path)
        answer(ledger, "first")
        shutil.copytree(path.parent, tmp_path / "backup")
        answer(ledger, "second")
        shutil.copytree(tmp_path / "backup", path.parent, dirs_exist_ok=True)
        with pytest.raises(LedgerError, match="it was replaced"):
            answer(ledger, "third")

    def test_what_nobody_touched_is_not_verified_again(self, path, monkeypatch):
        ledger = Ledger(path)
        answer(ledger, "first")
        calls = []
        monkeypatch.setattr(ledger_database, "verified_history", lambda *_: calls.append(1))
        answer(ledger, "second")
        ledger.history()
        assert calls == []
        monkeypatch.undo()
        assert read_history(path) == ledger.history()

    def test_entries_of_another_process_count_even_where_the_files_clock_stands_still(self, path, monkeypatch):
        monkeypatch.setattr(ledger_database, "file_state", lambda _: (0,))
        limits, ledgers = Limits(max_epsilon=4.0, max_delta=1e-4), [Ledger(path), Ledger(path)]
        for number in range(6):
            answer(ledgers[number % 2], str(number), run=str(number), limits=limits)
        for ledger in ledgers:
            with pytest.raises(BudgetError, match="is left"):
                answer(ledger, "one more", run="one more", limits=limits)

    def test_a_clock_that_goes_back_changes_nothing_but_the_times(self, path, monkeypatch):
        class Clock(datetime):
            times = iter(datetime(2030 - year, 1, 1, tzinfo=UTC) for year in range(100))

            @classmethod
            def now(cls, tz=None):
                return next(cls.times)

        monkeypatch.setattr(ledger_module, "datetime", Clock)
        spent = [answer(Ledger(path), str(number), run=str(number)).epsilon for number in range(3)]
        assert spent == sorted(set(spent))
        entries = Ledger(path).history().entries
        assert [entry.time.year for entry in entries] == [2030 - number for number in range(len(entries))]
        with pytest.raises(BudgetError, match="is left"):
            answer(Ledger(path), "more", run="more", limits=Limits(max_epsilon=spent[-1], max_delta=1e-4))

    def test_another_sites_key_is_noticed(self, path):
        answer(Ledger(path), "request")
        Ledger(path.with_name("other"))
        shutil.copy(path.with_name("other.key"), path.with_name(path.name + ".key"))
        with pytest.raises(LedgerError, match="found another"):
            Ledger(path)

    def test_no_ledger_to_read(self, path):
        with pytest.raises(LedgerError, match="Expected a ledger at"):
            read_history(path)

    def test_a_folder_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(LedgerError, match="that can be read and written"):
            Ledger(tmp_path / "file" / "ledger.sqlite")


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 6),
            st.sampled_from([slice(0, 30), slice(0, 15), slice(15, 30), slice(10, 20)]),
            st.booleans(),
        ),
        max_size=15,
    )
)
def test_any_sequence_of_requests_and_crashes_stays_below_the_cap(tmp_path_factory, steps):
    """Requests may repeat, cohorts may overlap, replies may never come: nothing is lost, nothing passes the cap."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"
    limits, num_granted = Limits(max_epsilon=4.0, max_delta=1e-4), 0
    for request, patients, crashes in steps:
        ledger = Ledger(path)
        cohort = ledger.cohort(PATIENTS[patients])
        try:
            granted = ledger.reserve(release_of(cohort, request=str(request), run=str(request)), cohort, limits)
        except BudgetError:
            continue
        if isinstance(granted, Reservation):
            num_granted += 1
            if not crashes:
                ledger.commit(granted, b"reply")
    history = Ledger(path).history()
    assert len(reserved(history)) == num_granted
    for members in history.members.values():
        of_patient = [r for r in reserved(history) if not history.members[r.cohort].isdisjoint(members)]
        of_all_members = [r for r in of_patient if history.members[r.cohort] >= members]
        assert composed_epsilon(of_all_members, 1e-4) <= 4.0


# Faults. A forked child works on the ledger and is killed, or its disk fails, at every call of a round in turn.


def round_in(path, request, told):
    """Play one round, telling the parent through the pipe ``told`` what has happened."""
    ledger = Ledger(path)
    cohort = ledger.cohort(PATIENTS)
    granted = ledger.reserve(release_of(cohort, request=request, run=request), cohort, NO_LIMIT)
    if isinstance(granted, Reservation):
        os.write(told, b"reserved\n")
        ledger.commit(granted, os.urandom(8))
        os.write(told, b"committed\n")


def start_child(path, request, prepare):
    """Fork a child that calls ``prepare`` and then plays a round; return it and the pipe on which it tells."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        try:
            prepare()
            round_in(path, request, tell)
        except BaseException as error:  # noqa: BLE001, the child must not come back into pytest
            os.write(tell, f"{type(error).__name__}\n".encode())
        os._exit(0)
    os.close(tell)
    return child, hear


def told_on(hear):
    with os.fdopen(hear) as pipe:
        return pipe.read().split()


LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_TRACEME, PTRACE_SYSCALL = 0, 24


def ptrace(request, process):
    if LIBC.ptrace(ctypes.c_long(request), ctypes.c_long(process), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def wait_to_be_traced():
    ptrace(PTRACE_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_at(number, path, request):
    """Kill a child as it enters its ``number``-th system call; return what it told and whether it came so far.

    Only system calls change a disk, so these are all the states that a killed process can leave.
    """
    child, hear = start_child(path, request, wait_to_be_traced)
    _, status = os.waitpid(child, 0)
    # Every call stops the child twice, as it enters and as it leaves.
    for _ in range(2 * number - 1):
        ptrace(PTRACE_SYSCALL, child)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            return told_on(hear), False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return told_on(hear), True


def check(path, told, *, earlier):
    """The parent's view after the fault: everything that was told is there, nothing earlier is gone."""
    entries = Ledger(path).history().entries
    assert [entry.digest for entry in entries[: len(earlier)]] == earlier
    later = [entry.content for entry in entries[len(earlier) :]]
    assert sum(isinstance(content, Reserved) for content in later) >= told.count("reserved")
    assert sum(isinstance(content, Committed) for content in later) >= told.count("committed")
    return [entry.digest for entry in entries]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's ptrace")
@pytest.mark.parametrize("kind", ["creation and first round", "later round"])
def test_kill_at_every_system_call_of_a_round(tmp_path, capsys, kind):
    template = tmp_path / "template"
    template.mkdir()
    if kind == "later round":
        answer(Ledger(template / "ledger.sqlite"), "before", run="before")
    outcomes, was_killed, number = [], True, 0
    while was_killed:
        number += 1
        folder = tmp_path / f"call {number}"
        shutil.copytree(template, folder)
        path = folder / "ledger.sqlite"
        earlier = [entry.digest for entry in read_history(path).entries] if path.exists() else []
        told, was_killed = kill_at(number, path, "request")
        check(path, told, earlier=earlier)
        outcomes.append(tuple(told))
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\n{kind}: killed with SIGKILL at each of {number - 1} system calls")  # noqa: T201, counted
    assert number > 200
    assert set(outcomes) == {(), ("reserved",), ("reserved", "committed")}
    assert outcomes == sorted(outcomes)


def failing_call(number, error):
    """Return a preparation that lets the ``number``-th fsync, rename or database statement fail."""

    def prepare():
        count = 0

        def fails(original):
            def call(*arguments, **keywords):
                nonlocal count
                count += 1
                if count == number:
                    raise error
                return original(*arguments, **keywords)

            return call

        os.fsync, os.replace, os.open = fails(os.fsync), fails(os.replace), fails(os.open)

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("code", [28, 5, 30], ids=["ENOSPC", "EIO", "EROFS"])
def test_the_disk_fails_at_every_call(tmp_path, code):
    path, earlier = tmp_path / "ledger.sqlite", []
    for number in range(1, 25):
        fault = failing_call(number, OSError(code, os.strerror(code)))
        child, hear = start_child(path, f"request {number}", fault)
        told = told_on(hear)
        os.waitpid(child, 0)
        assert set(told) <= {"reserved", "committed", "LedgerError"}
        earlier = check(path, told, earlier=earlier)


@pytest.mark.slow
def test_two_clients_racing_never_spend_the_same_budget_twice(tmp_path):
    path = tmp_path / "ledger.sqlite"
    Ledger(path)
    limits, pipes = Limits(max_epsilon=4.0, max_delta=1e-4), []
    for worker in range(4):
        hear, tell = os.pipe()
        if os.fork() == 0:
            granted = 0
            for number in range(8):
                try:
                    answer(Ledger(path), f"{worker} {number}", run=f"{worker} {number}", limits=limits)
                    granted += 1
                except BudgetError:
                    pass
            os.write(tell, str(granted).encode())
            os._exit(0)
        os.close(tell)
        pipes.append(hear)
    total = sum(int(os.read(hear, 100)) for hear in pipes)
    for _ in pipes:
        os.wait()
    history = read_history(path)
    assert len(reserved(history)) == total
    assert 3.5 < composed_epsilon(reserved(history), 1e-4) <= 4.0


def test_flipped_bits_are_noticed_or_change_nothing(path):
    ledger = Ledger(path)
    for number in range(2):
        answer(ledger, f"request {number}")
    digests = [entry.digest for entry in read_history(path).entries]
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            assert [entry.digest for entry in read_history(path).entries] == digests
        except LedgerError:
            continue
    path.write_bytes(whole)
    assert dataclasses.asdict(read_history(path).entries[0])
