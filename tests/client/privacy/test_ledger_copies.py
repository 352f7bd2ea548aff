"""Copies of a ledger are whole and of one moment; a ledger that moved grants nothing in its old place."""

import fcntl
import stat
from pathlib import Path

import pytest

from client.privacy import ledger_files
from client.privacy.audited_releases import LostRelease
from client.privacy.ledger import Ledger
from client.privacy.ledger_copies import copy_ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Purpose, Reserved, Retired, Unprotected
from client.privacy.ledger_history import Limits, composed_epsilon
from client.privacy.ledger_reservation import StoredReply
from shared_model.config.choices import NoiseSource
from shared_model.errors import BudgetError, LedgerError, ProtocolError
from shared_model.privacy.mechanism import Mechanism

LIMITS = Limits(max_epsilon=8.0, max_delta=1e-4)
PATIENTS = [f"patient {number}" for number in range(20)]


def release_of(request, **changes):
    values = {
        "purpose": Purpose.TRAINING,
        "run": "run",
        "server_round": 1,
        "request": request,
        "cohort": "",
        "num_patients_declared": 20,
        "mechanism": Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1),
        "delta": 1e-4,
        "target_epsilon": 8.0,
        "max_grad_norm": 0.5,
        "noise": NoiseSource.SECURE,
    }
    return Reserved(**(values | changes))


def reserve(ledger, request, **changes):
    return ledger.reserve(release_of(request, **changes), ledger.cohort(PATIENTS), LIMITS, reply_bytes=10)


@pytest.fixture
def ledger(tmp_path):
    """A ledger with one answered request, and one that a crash left unanswered."""
    made = Ledger.create(tmp_path / "site" / "ledger.sqlite")
    made.commit(reserve(made, "answered"), b"reply")
    reserve(made, "unanswered")
    return made


class TestBackup:
    def test_a_copy_is_a_whole_ledger(self, ledger, tmp_path):
        copy = Ledger(ledger.back_up(tmp_path / "backup"))
        assert copy.path == tmp_path / "backup" / "ledger.sqlite"
        assert copy.history() == ledger.history()
        assert (copy.name, copy.pseudonym("x")) == (ledger.name, ledger.pseudonym("x"))
        assert reserve(copy, "answered") == StoredReply(content=b"reply")
        assert reserve(copy, "unanswered") == reserve(ledger, "unanswered")

    def test_it_is_its_owners_alone(self, ledger, tmp_path):
        folder = ledger.back_up(tmp_path / "backup").parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
            ["ledger.sqlite", "ledger.sqlite.head", "ledger.sqlite.key"], 0o600
        )

    def test_the_ledger_goes_on(self, ledger, tmp_path):
        before = ledger.history()
        ledger.back_up(tmp_path / "backup")
        assert ledger.history() == before
        reserve(ledger, "another")

    @pytest.mark.parametrize("is_folder", [True, False])
    def test_a_folder_in_use_stays_as_it_is(self, ledger, tmp_path, is_folder):
        target = tmp_path / "used"
        if is_folder:
            target.mkdir()
            (target / "file").write_text("mine")
        else:
            target.write_text("mine")
        with pytest.raises(LedgerError, match=r"Expected .* to be a new or empty folder"):
            ledger.back_up(target)
        assert (target / "file" if is_folder else target).read_text() == "mine"

    def test_an_empty_folder_will_do(self, ledger, tmp_path):
        (tmp_path / "empty").mkdir()
        assert Ledger(ledger.back_up(tmp_path / "empty")).history() == ledger.history()

    def test_a_ledger_that_was_changed_is_not_copied(self, ledger, tmp_path):
        ledger_files.head_path(ledger.path).unlink()
        with pytest.raises(LedgerError, match=r"Expected the file .* beside the ledger"):
            ledger.back_up(tmp_path / "backup")
        assert not (tmp_path / "backup").exists()

    def test_what_fails_half_way_leaves_nothing(self, ledger, tmp_path):
        ledger_files.key_path(ledger.path).unlink()
        with pytest.raises(LedgerError, match="that can be read and written"):
            copy_ledger(ledger.path, tmp_path / "backup")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]

    def test_nobody_writes_meanwhile(self, ledger, tmp_path, monkeypatch):
        seen = []

        def try_lock(path, folder):
            with ledger_files.lock_path(path).open("r+") as file:
                with pytest.raises(BlockingIOError, match="temporarily unavailable"):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append(path)
            return copy_ledger(path, folder)

        monkeypatch.setattr("client.privacy.ledger.copy_ledger", try_lock)
        ledger.back_up(tmp_path / "backup")
        assert seen == [ledger.path]


class TestMove:
    def test_it_goes_on_in_the_new_place_and_nowhere_else(self, ledger, tmp_path):
        before = ledger.history().entries
        moved = Ledger(ledger.move_to(tmp_path / "elsewhere"))
        assert moved.history().entries == before
        assert ledger.history().entries[:-1] == before
        assert ledger.history().entries[-1].content == Retired(successor=str(moved.path))
        reserve(moved, "another")
        for opened in (ledger, Ledger(ledger.path)):
            with pytest.raises(LedgerError, match="Expected a ledger in force"):
                reserve(opened, "another")
            with pytest.raises(LedgerError, match="Expected a ledger in force"):
                opened.forget("patient 1")

    def test_a_crash_at_any_point_leaves_one_in_force_and_is_made_good(self, ledger, tmp_path, monkeypatch):
        """Two at once would grant everything twice."""
        before, folder, rename = ledger.history().entries, tmp_path / "elsewhere", Path.replace

        def crash_when_published(path, target):
            return 1 / 0 if path.suffix == ".moving" else rename(path, target)

        crashes = {
            "client.privacy.ledger_copies.copy_ledger": lambda *_: 1 / 0,
            "client.privacy.ledger_store.files.write_head": lambda *_: 1 / 0,
            "pathlib.Path.replace": crash_when_published,
        }
        for place, crash in crashes.items():
            with monkeypatch.context() as patch:
                patch.setattr(place, crash)
                with pytest.raises(ZeroDivisionError, match="division"):
                    Ledger(ledger.path).move_to(folder)
            assert not folder.exists()
        with pytest.raises(LedgerError, match="was retired when it moved elsewhere"):
            ledger.move_to(tmp_path / "another")
        moved = Ledger(Ledger(ledger.path).move_to(folder))
        assert moved.history().entries == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "site"]

    def test_only_once(self, ledger, tmp_path):
        ledger.move_to(tmp_path / "elsewhere")
        with pytest.raises(LedgerError, match="was retired when it moved elsewhere"):
            ledger.move_to(tmp_path / "again")
        assert not (tmp_path / "again").exists()

    def test_a_failure_leaves_it_in_force(self, ledger, tmp_path):
        (tmp_path / "used").write_text("")
        with pytest.raises(LedgerError, match=r"Expected .* to be a new or empty folder"):
            ledger.move_to(tmp_path / "used")
        reserve(ledger, "another")


class TestEnteringWhatWasLost:
    def test_all_who_are_known_and_all_of_today_spend_it(self, ledger):
        today = ["patient 3", "newcomer"]
        ledger.enter_lost([LostRelease(release=release_of("lost"), reply="d" * 64)], forgotten=[], patients=today)
        history = ledger.history()
        number = history.reserved(Purpose.TRAINING, "lost")
        assert history.members[history.entries[number - 1].content.cohort] == ledger.cohort([*PATIENTS, *today]).members
        assert history.committed(number).reply == "d" * 64

    def test_its_request_is_not_answered_again(self, ledger):
        ledger.enter_lost([LostRelease(release=release_of("lost"), reply="d" * 64)], forgotten=[], patients=PATIENTS)
        with pytest.raises(ProtocolError, match="the reply to this one is no longer kept"):
            reserve(ledger, "lost")

    def test_it_counts_against_the_limits(self, ledger):
        spent = composed_epsilon(ledger.history().releases_for(Purpose.TRAINING), 1e-4)
        lost = [LostRelease(release=release_of(f"lost {n}", run="other"), reply="d" * 64) for n in range(25)]
        ledger.enter_lost(lost, forgotten=[], patients=PATIENTS)
        assert composed_epsilon(ledger.history().releases_for(Purpose.TRAINING), 1e-4) > 8.0 > spent
        with pytest.raises(BudgetError, match="Expected epsilon"):
            reserve(ledger, "another")

    def test_withdrawals_and_releases_without_noise(self, ledger):
        exact = Unprotected(purpose=Purpose.EVALUATION, run="run", cohort="", num_patients_declared=20)
        gone = ledger.pseudonym("patient 1")
        for _ in range(2):
            ledger.enter_lost([LostRelease(release=exact, reply=None)], forgotten=[gone], patients=PATIENTS)
        assert ledger.history().forgotten == {gone}
        assert sum(isinstance(entry.content, Unprotected) for entry in ledger.history().entries) == 2
        assert read_history(ledger.path).entries == ledger.history().entries
