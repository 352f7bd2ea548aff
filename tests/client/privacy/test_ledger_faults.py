"""A ledger whose process is killed, or whose disk fails or fills: nothing is lost, and nothing is paid twice.

A forked child works on the ledger and meets the fault; the parent then looks at what is left and asks the same again.
"""

import ctypes
import dataclasses
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import pytest

from client.privacy import ledger_database, ledger_files
from client.privacy.ledger import Ledger
from client.privacy.ledger_creation import is_begun
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Agreed, Committed, Purpose, Reserved
from client.privacy.ledger_history import Limits
from client.privacy.ledger_reservation import Reservation, StoredReply
from client.privacy.ledger_sums import SumRound
from shared_model.config.choices import NoiseSource
from shared_model.errors import LedgerError, ProtocolError
from shared_model.privacy.mechanism import Mechanism

PATIENTS = [f"patient {number}" for number in range(30)]
NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-4)
REPLY = b"the update of this round, whatever the noise: " + bytes(range(256))
STRIDE = 1 if "EVERY_SYSTEM_CALL" in os.environ else 5
"""From one system call that is tried to the next; the nightly target tries every one."""
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's ptrace or mounts")


def reserve(ledger, request, *, reply_bytes=1000):
    cohort = ledger.cohort(PATIENTS)
    release = Reserved(
        purpose=Purpose.TRAINING,
        run=request,
        server_round=1,
        request=request,
        cohort=cohort.fingerprint,
        num_patients_declared=30,
        mechanism=Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1),
        delta=1e-4,
        target_epsilon=8.0,
        max_grad_norm=0.5,
        noise=NoiseSource.SECURE,
    )
    return ledger.reserve(release, cohort, NO_LIMIT, reply_bytes=reply_bytes)


def opened(path):
    """The ledger at ``path``; a creation that was cut short is finished."""
    return Ledger(path) if is_begun(path) else Ledger.create(path)


def reply_of(granted):
    """What training would make of a reservation: the noise decides it."""
    return REPLY + granted.noise_key[::-1]


def answer(ledger, request):
    granted = reserve(ledger, request)
    if isinstance(granted, StoredReply):
        return granted.content
    ledger.commit(granted, reply_of(granted))
    return reply_of(granted)


def reserved(path, request):
    contents = (entry.content for entry in read_history(path).entries)
    return [content for content in contents if isinstance(content, Reserved) and content.request == request]


def digests(path):
    return [entry.digest for entry in read_history(path).entries]


def bytes_on_disk(path):
    return b"".join(file.read_bytes() for file in path.parent.iterdir())


def round_in(path, request, told):
    """Play one round, telling the parent through the pipe ``told`` what has happened."""
    ledger = opened(path)
    granted = reserve(ledger, request)
    if isinstance(granted, Reservation):
        os.write(told, f"reserved {granted.noise_key.hex()} {granted.epsilon!r}\n".encode())
        ledger.commit(granted, reply_of(granted))
        os.write(told, b"committed\n")


def start_child(prepare, work):
    """Fork a child that calls ``prepare``, then ``work`` with a pipe to tell on; return it and the end to hear."""
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hear)
        try:
            prepare()
            work(tell)
        except BaseException as error:  # noqa: BLE001, the child must not come back into pytest
            os.write(tell, f"{type(error).__name__}\n".encode())
        os._exit(0)
    os.close(tell)
    return child, hear


def told_on(hear):
    with os.fdopen(hear) as pipe:
        return [line.split() for line in pipe]


def in_child(prepare, work):
    """Return the lines that a child told before it ended by itself."""
    child, hear = start_child(prepare, work)
    told = told_on(hear)
    os.waitpid(child, 0)
    return told


def check(path, request, told, *, earlier):
    """The parent's view after the fault: all that was told is there, and the same request gets the same for nothing."""
    said = {words[0]: words[1:] for words in told}
    ledger = opened(path)
    assert digests(path)[: len(earlier)] == earlier
    assert len(reserved(path, request)) in ({1} if "reserved" in said else {0, 1})
    again = reserve(ledger, request)
    if "committed" in said:
        assert isinstance(again, StoredReply)
    if "reserved" in said:
        noise_key, epsilon = bytes.fromhex(said["reserved"][0]), float(said["reserved"][1])
        expected = REPLY + noise_key[::-1]
        if isinstance(again, Reservation):
            assert (again.noise_key, again.epsilon) == (noise_key, epsilon)
        assert answer(ledger, request) == expected
        assert noise_key not in bytes_on_disk(path)
    else:
        answer(ledger, request)
    assert answer(opened(path), request) == answer(ledger, request)
    assert len(reserved(path, request)) == 1
    assert sum(isinstance(entry.content, Committed) for entry in read_history(path).entries) == len(
        [entry for entry in read_history(path).entries if isinstance(entry.content, Reserved)]
    )


LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_TRACEME, PTRACE_SYSCALL = 0, 24


def ptrace(request, process):
    if LIBC.ptrace(ctypes.c_long(request), ctypes.c_long(process), None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def wait_to_be_traced():
    ptrace(PTRACE_TRACEME, 0)
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_at(number, work):
    """Kill a child as it enters the ``number``-th system call of ``work``; return what it told, and if it came so far.

    Only system calls change a disk, so these are all the states that a killed process can leave.
    """
    child, hear = start_child(wait_to_be_traced, work)
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


@linux
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [("creation and first round", 1), ("later round", 2), ("the round after a crash", 3)]
)
def test_kill_at_the_system_calls_of_a_round(tmp_path, capsys, kind, first):
    """The calls from ``first``, or at night from the first of all, to the end of the process."""
    template = tmp_path / "template"
    template.mkdir()
    if kind != "creation and first round":
        answer(Ledger.create(template / "ledger.sqlite"), "before")
    if kind == "the round after a crash":
        reserve(Ledger(template / "ledger.sqlite"), "request")
    outcomes, was_killed, number = [], True, min(first, STRIDE) - STRIDE
    while was_killed:
        number += STRIDE
        folder = tmp_path / f"call {number}"
        shutil.copytree(template, folder)
        path = folder / "ledger.sqlite"
        earlier = digests(path) if path.exists() else []
        told, was_killed = kill_at(number, lambda tell, path=path: round_in(path, "request", tell))
        check(path, "request", told, earlier=earlier)
        outcomes.append(tuple(words[0] for words in told))
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\n{kind}: killed with SIGKILL at {len(outcomes) - 1} system calls")  # noqa: T201, counted
    assert number > 150
    assert set(outcomes) == {(), ("reserved",), ("reserved", "committed")}
    assert outcomes == sorted(outcomes)


OFFERED = SumRound(roster=b"roster", seeds=b"seeds", offer=b"offer", participants=b"list", request="request")
LISTS = (b"\x01" * 32, b"\x02" * 32)


def sign_list(path, survivors, tell=None):
    """Settle, as ``client.secure_sum.answers`` does, which list a site signs in a round; tell once it may be sent."""

    def decide(known):
        kept = known.get(1, OFFERED)
        if kept.survivors not in {None, survivors}:
            raise ProtocolError("another list")
        return dataclasses.replace(kept, survivors=survivors, seeds=None)

    Ledger(path).settle_sum("run", 1, decide)
    if tell is not None:
        os.write(tell, b"signed\n")


@linux
@pytest.mark.slow
def test_kill_at_the_system_calls_of_an_agreement_leaves_one_list_at_most(tmp_path, capsys):
    template = tmp_path / "template"
    template.mkdir()
    answer(Ledger.create(template / "ledger.sqlite"), "before")
    outcomes, was_killed, number = [], True, 1 - STRIDE
    while was_killed:
        number += STRIDE
        folder = tmp_path / f"call {number}"
        shutil.copytree(template, folder)
        path = folder / "ledger.sqlite"
        told, was_killed = kill_at(number, lambda tell, path=path: sign_list(path, LISTS[0], tell))
        has_signed = Ledger(path).history().agreed("run", 1) is not None
        assert has_signed or not told
        if has_signed:
            with pytest.raises(ProtocolError, match="another list"):
                sign_list(path, LISTS[1])
        sign_list(path, LISTS[0] if has_signed else LISTS[1])
        agreed = [entry.content for entry in read_history(path).entries if isinstance(entry.content, Agreed)]
        assert [each.survivors for each in agreed] == [LISTS[0 if has_signed else 1].hex()]
        outcomes.append((has_signed, bool(told)))
        shutil.rmtree(folder)
    with capsys.disabled():
        print(f"\nagreement: killed with SIGKILL at {len(outcomes) - 1} system calls")  # noqa: T201, counted
    assert number > 100
    assert set(outcomes) == {(False, False), (True, False), (True, True)}
    assert outcomes == sorted(outcomes)


def failing_call(number, error):
    """Return a preparation that lets the ``number``-th call that Python itself makes to change a disk fail."""

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

        for name in ("fsync", "replace", "open", "posix_fallocate"):
            setattr(os, name, fails(getattr(os, name)))

    return prepare


@pytest.mark.slow
@pytest.mark.parametrize("code", [28, 5, 30], ids=["ENOSPC", "EIO", "EROFS"])
def test_the_disk_fails_at_every_call(tmp_path, code):
    path, earlier, outcomes = tmp_path / "ledger.sqlite", [], set()
    for number in range(1, 25):
        fault = failing_call(number, OSError(code, os.strerror(code)))
        request = f"request {number}"
        told = in_child(fault, lambda tell, request=request: round_in(path, request, tell))
        outcomes |= {words[0] for words in told}
        check(path, request, told, earlier=earlier)
        earlier = digests(path)
    assert outcomes == {"reserved", "committed", "LedgerError"}


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def tells_whether_it_reserves(path, request, reply_bytes):
    def work(tell):
        reserve(Ledger(path), request, reply_bytes=reply_bytes)
        os.write(tell, b"reserved\n")

    return work


class TestNoSpace:
    def test_nothing_is_spent_where_the_reply_has_no_space(self, tmp_path):
        """Before, five of five reservations succeeded on a full disk, and five of five commits failed."""
        path = tmp_path / "ledger.sqlite"
        Ledger.create(path)
        before = digests(path)
        assert in_child(limit_file_size, tells_whether_it_reserves(path, "large", 2**20)) == [["LedgerError"]]
        assert digests(path) == before
        assert not ledger_files.space_path(path).exists()
        assert in_child(limit_file_size, tells_whether_it_reserves(path, "small", 1000)) == [["reserved"]]

    def test_a_stored_reply_needs_no_space(self, tmp_path):
        path = tmp_path / "ledger.sqlite"
        reply = answer(Ledger.create(path), "request")
        told = in_child(
            limit_file_size,
            lambda tell: os.write(tell, reserve(Ledger(path), "request", reply_bytes=2**30).content.hex().encode()),
        )
        assert told == [[reply.hex()]]

    def test_what_was_taken_is_given_back_by_the_commit_or_a_refusal(self, tmp_path, monkeypatch):
        path = tmp_path / "ledger.sqlite"
        ledger = Ledger.create(path)
        granted = reserve(ledger, "request", reply_bytes=10**6)
        assert ledger_files.space_path(path).stat().st_size > 10**6
        assert ledger_files.space_path(path).stat().st_blocks * 512 > 10**6
        ledger.commit(granted, bytes(10**6))
        assert not ledger_files.space_path(path).exists()
        monkeypatch.setattr(ledger_database, "insert_noise_key", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError, match="division"):
            reserve(ledger, "another")
        assert not ledger_files.space_path(path).exists()
        assert reserved(path, "another") == []

    @linux
    def test_a_disk_that_fills_after_the_reservation_still_takes_the_reply(self, tmp_path):
        """Also when storing the newest reply means that the oldest must go, which passes through the journal."""
        disk = tmp_path / "disk"
        disk.mkdir()
        told = in_child(lambda: mount_small_disk(disk), lambda tell: fill_between_reservation_and_commit(disk, tell))
        if told == [["PermissionError"]]:
            pytest.skip("this system lets nobody mount a disk of their own")
        assert told == [["committed"]] * 5 + [["full"]]


SMALL_DISK, LARGE_REPLY = 3 * 2**20, 500_000
CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000


def mount_small_disk(folder):
    """Mount a disk of three MiB that only this process sees, and that goes with it."""
    user, group = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0:
        raise PermissionError
    for name, line in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        Path("/proc/self", name).write_text(line)
    if LIBC.mount(b"none", os.fsencode(folder), b"tmpfs", 0, f"size={SMALL_DISK}".encode()) != 0:
        raise PermissionError


def fill_between_reservation_and_commit(disk, tell):
    path, filler = disk / "ledger.sqlite", disk / "filler"
    ledger_database.MAX_REPLY_BYTES = LARGE_REPLY
    ledger = Ledger.create(path)
    for number in range(5):
        granted = reserve(ledger, str(number), reply_bytes=LARGE_REPLY)
        fill(filler)
        ledger.commit(granted, os.urandom(LARGE_REPLY))
        os.write(tell, b"committed\n")
        filler.unlink()
    fill(filler)
    try:
        reserve(ledger, "one more", reply_bytes=LARGE_REPLY)
    except LedgerError:
        if not reserved(path, "one more"):
            os.write(tell, b"full\n")


def fill(path):
    with path.open("wb", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
