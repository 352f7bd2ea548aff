"""One process at a time in a folder: the holder is named, and a killed one leaves nothing in the way."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from shared_model.errors import ConfigError
from shared_model.system.process_lock import ProcessLock, holder_of, is_this_process

ROOT = Path(__file__).parents[3]
HOLD = "import sys, time; from pathlib import Path; from shared_model.system.process_lock import ProcessLock; "
HOLD += "lock = ProcessLock.take(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.lock"


def test_the_second_is_told_who_is_there(path):
    lock = ProcessLock.take(path)
    since = r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00"
    who = rf"in {re.escape(str(path.parent))}: process {os.getpid()} on \S+ {since} works there"
    with pytest.raises(ConfigError, match=rf"Expected one process at a time {who}\. Wait until it ends, or stop it\."):
        ProcessLock.take(path)
    lock.release()


def test_it_is_free_and_gone_when_it_is_released(path):
    ProcessLock.take(path).release()
    assert not path.exists()
    lock = ProcessLock.take(path)
    assert path.exists()
    lock.release()
    lock.release()
    assert not path.exists()


def test_a_second_release_does_not_take_the_lock_of_another(path):
    first = ProcessLock.take(path)
    first.release()
    second = ProcessLock.take(path)
    first.release()
    with pytest.raises(ConfigError, match="one process at a time"):
        ProcessLock.take(path)
    second.release()


def test_a_killed_process_leaves_a_file_and_no_lock(path):
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(  # noqa: S603
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid} on"):
            ProcessLock.take(path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert path.exists()
    lock = ProcessLock.take(path)
    assert path.read_text().startswith(f"process {os.getpid()} on ")
    lock.release()


def test_of_many_threads_one_at_a_time_holds_it(path):
    inside, most, barrier = [], [], threading.Barrier(8)

    def work():
        barrier.wait()
        for _ in range(200):
            try:
                lock = ProcessLock.take(path)
            except ConfigError:
                continue
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_a_holder_that_left_no_name(path):
    lock = ProcessLock.take(path)
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="another process works there"):
        ProcessLock.take(path)
    lock.release()


def test_the_holder_is_known_without_taking_the_lock(path):
    assert holder_of(path) is None
    with ProcessLock.take(path):
        holder = holder_of(path)
        assert holder.startswith(f"process {os.getpid()} on ")
        assert is_this_process(holder)
        assert not is_this_process(holder.replace(f"process {os.getpid()} ", f"process {os.getpid()}1 "))
    assert holder_of(path) is None


def test_a_killed_holder_is_none(path):
    path.write_text("process 1 on somewhere since long ago\n")
    assert holder_of(path) is None


def test_the_folder_is_made_for_its_owner_alone(tmp_path):
    with ProcessLock.take(tmp_path / "state" / "lock"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
