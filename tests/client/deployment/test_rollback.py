"""A ledger that is restored from an earlier day is noticed by the audit log, and what it lost is entered as spent."""

import shutil

import pytest

from client import site as site_module
from client.deployment.initialisation import initialise
from client.deployment.ledger_checks import check_rollback
from client.deployment.rollback import require_no_rollback, verify_ledger
from client.deployment.withdrawal import withdraw
from client.privacy.audited_releases import lost_release
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Forgotten, Purpose, Reserved
from client.privacy.ledger_history import composed_epsilon
from shared_model.errors import BudgetError, ConfigError, LedgerError
from shared_model.system.audit_log import read
from simulations.commands.app import main
from tests.hospital_kits import rows_of


def answered(kit, *overrides, **question):
    reply = kit.ask(*overrides, **question)
    assert not reply.has_error(), reply.error
    return reply


def snapshot(kit):
    """Copy the ledger and the files beside it, as a backup of the folder does."""
    folder = kit.folder.parent / "snapshot"
    folder.mkdir()
    for path in kit.folder.glob("ledger*"):
        shutil.copy(path, folder)
    return folder


def restore(kit, folder):
    """Put an earlier ledger in its place, and begin a new process, as the one that runs notices at once."""
    for path in folder.iterdir():
        shutil.copy(path, kit.folder)
    site_module._open_ledger.cache_clear()


def releases_of(kit):
    contents = [entry.content for entry in read_history(kit.site.ledger).entries]
    return [content for content in contents if isinstance(content, Reserved)]


def recover(kit):
    return main(["site", "ledger", "recover", "--site", str(kit.path)])


class TestAuditLine:
    def test_a_release_is_written_down_with_its_mechanism(self, begun):
        answered(begun)
        (release,) = releases_of(begun)
        (facts,) = [line.facts for line in read(begun.site.audit_log) if line.event == "reply"]
        assert {name: facts[name] for name in ("noise_multiplier", "sampling_rate", "num_steps")} == {
            "noise_multiplier": release.mechanism.noise_multiplier,
            "sampling_rate": release.mechanism.sampling_rate,
            "num_steps": release.mechanism.num_steps,
        }
        assert (facts["purpose"], facts["delta"], facts["configuration"]) == ("training", release.delta, release.run)
        assert facts["request"] == release.request
        assert facts["ledger_head"] == read_history(begun.site.ledger).entries[-1].digest
        assert "cohort" not in facts

    @pytest.mark.parametrize(
        ("override", "key"),
        [("privacy.noise=seeded", "privacy.noise"), ("training.num_rounds=201", "training.num_rounds")],
    )
    def test_a_refusal_names_the_key(self, begun, override, key):
        assert begun.ask(override).has_error()
        (facts,) = [line.facts for line in read(begun.site.audit_log) if line.event == "reply"]
        assert facts["refused_key"] == key
        assert "purpose" not in facts

    def test_a_refusal_for_lack_of_budget_names_its_class(self, begun):
        assert begun.ask(server_round=7).has_error()
        for number in (1, 2, 3):
            answered(begun, server_round=number)
        assert begun.ask("seed=5").has_error()
        keys = [line.facts.get("refused_key") for line in read(begun.site.audit_log) if line.event == "reply"]
        assert keys == ["ProtocolError", None, None, None, BudgetError.__name__]


class TestRollback:
    def test_nothing_was_rolled_back(self, begun):
        answered(begun)
        answered(begun, kind="evaluate")
        assert check_rollback(begun.site) == "all 3 heads of the audit log are in the ledger"

    def test_an_earlier_ledger_is_noticed(self, begun):
        answered(begun)
        before = snapshot(begun)
        answered(begun, server_round=2)
        restore(begun, before)
        # By itself it is whole.
        Ledger(begun.site.ledger)
        with pytest.raises(LedgerError, match=r"it was rolled back.*fedmammo site ledger recover"):
            check_rollback(begun.site)

    def test_going_on_with_it_hides_nothing(self, begun):
        before = snapshot(begun)
        answered(begun)
        restore(begun, before)
        withdraw(begun.site, "P00007")
        with pytest.raises(LedgerError, match="it was rolled back"):
            verify_ledger(begun.site)

    def test_what_was_lost_is_entered_as_spent(self, begun, capsys):
        before = snapshot(begun)
        answered(begun)
        answered(begun, kind="evaluate")
        spent = releases_of(begun)
        restore(begun, before)
        assert releases_of(begun) == []
        # A patient who came since takes part in what was lost, as nobody can tell.
        begun.write_table(rows_of([f"P{number:05d}" for number in range(49)], num_test=5))
        assert recover(begun) == 0
        assert "2 lost releases are entered as spent" in capsys.readouterr().out
        history = read_history(begun.site.ledger)
        entered = releases_of(begun)
        assert [(e.purpose, e.request, e.run, e.mechanism) for e in entered] == [
            (s.purpose, s.request, s.run, s.mechanism) for s in spent
        ]
        everybody = Ledger(begun.site.ledger).cohort([f"P{number:05d}" for number in range(49)])
        assert {history.members[release.cohort] for release in entered} == {everybody.members}
        assert composed_epsilon(entered, 1e-4) == pytest.approx(composed_epsilon(spent, 1e-4))
        verify_ledger(begun.site)

    def test_the_lost_request_is_not_answered_anew(self, begun):
        before = snapshot(begun)
        answered(begun)
        restore(begun, before)
        assert recover(begun) == 0
        assert begun.ask().error.reason == "the site could not accept the request"
        assert len(releases_of(begun)) == 1
        # The run goes on where it is.
        answered(begun, server_round=2)
        answered(begun, server_round=3)
        assert begun.ask("seed=5").has_error()

    def test_what_the_ledger_still_has_is_not_entered_twice(self, begun):
        answered(begun)
        before = snapshot(begun)
        answered(begun, server_round=2)
        restore(begun, before)
        for _ in range(2):
            assert recover(begun) == 0
        assert [release.server_round for release in releases_of(begun)] == [1, 2]
        contents = [entry.content for entry in read_history(begun.site.ledger).entries]
        assert sum(isinstance(content, Committed) for content in contents) == 2

    def test_a_withdrawal_outlives_the_ledger_that_had_it(self, begun):
        before = snapshot(begun)
        withdraw(begun.site, "P00007")
        restore(begun, before)
        with pytest.raises(LedgerError, match="it was rolled back"):
            check_rollback(begun.site)
        assert recover(begun) == 0
        ledger = Ledger(begun.site.ledger)
        assert ledger.history().forgotten == {ledger.pseudonym("p 7")}
        assert sum(isinstance(entry.content, Forgotten) for entry in ledger.history().entries) == 1

    def test_releases_without_noise_are_entered_too(self, kit):
        kit.change_policy(max_epsilon=None, evaluation=["exact"], max_bins=1000)
        initialise(kit.site)
        before = snapshot(kit)
        answered(kit, "evaluation.privacy=exact", kind="evaluate")
        restore(kit, before)
        assert recover(kit) == 0
        (release,) = Ledger(kit.site.ledger).history().releases_for(Purpose.EVALUATION)
        assert not isinstance(release, Reserved)

    def test_an_audit_log_that_was_changed_vouches_for_nothing(self, begun):
        answered(begun)
        text = begun.site.audit_log.read_text()
        begun.site.audit_log.write_text(text.replace('"outcome": "answered"', '"outcome": "refused!"'))
        assert recover(begun) == 1

    def test_without_an_audit_log_there_is_nothing_to_compare(self, begun):
        begun.site.audit_log.unlink()
        assert check_rollback(begun.site) == "the audit log names none yet"
        assert require_no_rollback([], read_history(begun.site.ledger)) == 0

    def test_a_running_process_notices_by_itself(self, begun):
        before = snapshot(begun)
        answered(begun)
        for path in before.iterdir():
            shutil.copy(path, begun.folder)
        assert begun.ask(server_round=2).error.reason == LedgerError.public_reason


class TestIdentity:
    def test_a_nameless_ledger_is_adopted(self, begun):
        begun.site.ledger_identity.unlink()
        with pytest.raises(LedgerError, match="fedmammo site ledger recover"):
            verify_ledger(begun.site)
        assert recover(begun) == 0
        verify_ledger(begun.site)

    def test_another_ledger_is_not(self, begun, capsys):
        Ledger.create(begun.folder / "other.sqlite")
        begun.change(ledger="other.sqlite")
        assert recover(begun) == 1
        assert "correct the path of the ledger in site.yaml" in capsys.readouterr().err

    def test_a_damaged_release_in_the_log_is_an_error(self, begun):
        with pytest.raises(ConfigError, match="Expected the fact 'num_patients_declared' of a release"):
            lost_release({"purpose": "training", "unprotected": True, "configuration": "c"})


def test_a_ledger_that_is_lost_for_good_is_begun_anew_with_all_that_was_spent(begun, capsys):
    answered(begun)
    answered(begun, kind="evaluate")
    withdraw(begun.site, "P00007")
    spent = [(release.purpose, release.request) for release in releases_of(begun)]
    for path in begun.folder.glob("ledger*"):
        path.unlink()
    site_module._open_ledger.cache_clear()
    assert main(["site", "init", "--site", str(begun.path)]) == 1
    assert f"move {begun.site.ledger_identity} away" in capsys.readouterr().err
    begun.site.ledger_identity.unlink()
    assert main(["site", "init", "--site", str(begun.path)]) == 0
    # A new ledger does not have what the audit log names, so that the site does not start.
    with pytest.raises(LedgerError, match="it was rolled back"):
        check_rollback(begun.site)
    assert recover(begun) == 0
    # Her pseudonym was made with the key that is lost.
    assert "1 patients withdrew under an earlier ledger" in capsys.readouterr().out
    assert [(release.purpose, release.request) for release in releases_of(begun)] == spent
    verify_ledger(begun.site)
