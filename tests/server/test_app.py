"""The server's app: what it leaves behind when a run succeeds, fails, or is begun with the wrong overrides."""

import dataclasses
import errno
import json
import logging
import os
import shlex

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from server import app
from server.app import AUDIT_FILE
from server.federation import checkpoints
from server.federation.witnesses import WITNESSES_FILE, read_witnesses
from server.report.run_folder import CONFIG_FILE, FAILURE_FILE, LOCK_FILE, RunFolder
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.composition import compose
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint
from shared_model.errors import ConfigError, DataError, RoundError
from shared_model.system.audit_log import verify
from tests.reference_prices import gaussian_epsilon
from tests.scripted_federation import OVERRIDES, SITES, Ledgers, SiteGrid


def context(**run_config):
    return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config)


def overrides_of(federation, folder):
    lesions = (f"evaluation.holdout={federation.holdout}", f"evaluation.public={federation.public}")
    return [*OVERRIDES, *lesions, f"run.dir={folder}"]


@pytest.fixture
def overrides(federation, tmp_path):
    return overrides_of(federation, tmp_path / "run")


@pytest.fixture(scope="module")
def finished(shared_federation):
    """The overrides and folder of a run that succeeded; no test changes them."""
    folder = shared_federation.folder / "run"
    overrides = overrides_of(shared_federation, folder)
    run(overrides, SiteGrid())
    return overrides, folder


def run(overrides, grid):
    app.main(grid, context(overrides=shlex.join(overrides)))


def audit_of(folder):
    """Event and facts of every line of the audit log."""
    lines = [json.loads(line) for line in (folder / AUDIT_FILE).read_text().splitlines()]
    return [{"event": line["event"], **line["facts"]} for line in lines]


def events_of(folder):
    return [entry["event"] for entry in audit_of(folder)]


def test_flower_finds_the_app_under_its_name():
    assert type(app.app).__name__ == "ServerApp"


def test_a_run_leaves_its_results_and_an_audit_of_every_round(finished, shared_federation):
    _, folder = finished
    assert read_results(folder / RESULTS_FILE).final.round == 4
    assert not (folder / FAILURE_FILE).exists()
    entries = audit_of(folder)
    assert events_of(folder) == ["begun", *["round"] * 4, "finished"]
    config = shared_federation.config(run_dir=folder)
    assert (entries[0]["config"], entries[0]["source"]) == (config_fingerprint(config), source_fingerprint())
    assert [entry["sites"] for entry in entries[1:5]] == [3] * 4
    noise_multiplier = read_results(folder / RESULTS_FILE).sites[0].noise_multiplier
    expected = [gaussian_epsilon(number, noise_multiplier, 1e-4) for number in (1, 2, 3, 4)]
    assert [entry["epsilon"] for entry in entries[1:5]] == pytest.approx(expected)


def test_the_audit_log_is_a_chain(finished):
    _, folder = finished
    # A line for the beginning, for each round and for the end.
    assert verify(folder / AUDIT_FILE) == 6


def test_refusals_stand_before_the_round_that_they_belong_to(overrides, tmp_path):
    run(overrides, SiteGrid(refusals=[(2, 13)]))
    entries = [entry for entry in audit_of(tmp_path / "run") if entry["event"] in {"round", "refused"}]
    assert [(entry["event"], entry["round"]) for entry in entries][:4] == [
        ("round", 1),
        ("refused", 2),
        # It refused to train and to evaluate.
        ("refused", 2),
        ("round", 2),
    ]
    assert entries[1]["reason"] == "node 13: refused"
    assert entries[3]["sites"] == 2


def test_a_site_that_stands_out_is_in_the_audit_log_and_the_results(overrides, tmp_path):
    def negate(site, server_round, update):
        return {name: array * np.float32(-0.2 if site == "WFU" else 0.2) for name, array in update.items()}

    run(overrides, SiteGrid(change_update=negate))
    said = [entry["reason"] for entry in audit_of(tmp_path / "run") if entry["event"] == "outlier"]
    assert "WFU points away from the other sites and did not count" in said
    assert all(line.startswith("WFU ") for line in said)
    assert set(read_results(tmp_path / "run" / RESULTS_FILE).rounds_by_outlier()) == set(said)


def test_a_run_that_fails_says_why_and_raises(overrides, tmp_path):
    with pytest.raises(RoundError, match="Expected at least 2 valid replies in round 3"):
        run(overrides, SiteGrid(refusals=[(3, 11), (3, 13)]))
    folder = tmp_path / "run"
    assert (folder / FAILURE_FILE).read_text().startswith("Expected at least 2 valid replies in round 3, got 1")
    assert not (folder / RESULTS_FILE).exists()
    assert events_of(folder) == ["begun", "round", "round", "failed"]
    assert audit_of(folder)[-1]["reason"].startswith("Expected at least 2 valid replies in round 3")


def test_a_second_attempt_goes_on_in_the_same_folder_and_log(overrides, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(RoundError, match="round 3"):
        run(overrides, SiteGrid(refusals=[(3, 11), (3, 13)]))
    grid = SiteGrid()
    run(overrides, grid)
    assert min(grid.asked("train")) == 3
    assert not (folder / FAILURE_FILE).exists()
    assert events_of(folder) == ["begun", "round", "round", "failed", "begun", "round", "round", "finished"]


def test_what_a_site_says_cannot_break_the_log(overrides, tmp_path):
    run(overrides, SiteGrid(refusals=[(2, 13)], reason="red:\x1b[31m bell:\x07 " + "x" * 1000))
    (first, _) = (entry for entry in audit_of(tmp_path / "run") if entry["event"] == "refused")
    assert first["reason"].startswith("node 13: red: [31m bell: xxx")
    assert len(first["reason"]) <= 200


def test_an_error_of_many_lines_is_one_line_of_the_log(overrides, tmp_path, monkeypatch):
    def federate(grid, config, *, on_round, witnesses):
        raise RoundError("node 11: first line\nsecond\tline \x1b[31m" + "x" * 1000)

    monkeypatch.setattr(app, "federate", federate)
    with pytest.raises(RoundError, match="node 11"):
        run(overrides, SiteGrid())
    reason = audit_of(tmp_path / "run")[-1]["reason"]
    assert reason.startswith("node 11: first line second line [31mx")
    assert len(reason) == 200
    assert reason.isprintable()


def test_a_run_whose_results_cannot_be_made_says_why_too(overrides, federation, tmp_path):
    federation.holdout.with_suffix(".csv").write_text("view\nCC\n")
    with pytest.raises(DataError, match="Expected 120 rows in"):
        run(overrides, SiteGrid())
    assert "Expected 120 rows in" in (tmp_path / "run" / FAILURE_FILE).read_text()
    assert events_of(tmp_path / "run") == ["begun", *["round"] * 4, "failed"]


def test_an_error_that_is_no_fact_of_the_federation_is_not_hidden(overrides, tmp_path, monkeypatch):
    def federate(grid, config, *, on_round, witnesses):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(app, "federate", federate)
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        run(overrides, SiteGrid())
    assert not (tmp_path / "run" / FAILURE_FILE).exists()
    assert events_of(tmp_path / "run") == ["begun"]


def test_overrides_may_hold_blanks_and_quotes(overrides, tmp_path):
    folder = tmp_path / "J\u00f6rg's study"
    run([*overrides[:-1], f"run.dir='{folder}'".replace("J\u00f6rg's", "J\u00f6rg\\'s")], SiteGrid())
    assert (folder / RESULTS_FILE).exists()


def test_a_folder_with_results_is_not_run_again(finished):
    overrides, folder = finished
    before = (folder / RESULTS_FILE).read_bytes()
    grid = SiteGrid()
    with pytest.raises(ConfigError, match="without the results of another run"):
        run(overrides, grid)
    assert grid.requests == []
    assert (folder / RESULTS_FILE).read_bytes() == before


@pytest.mark.parametrize("value", [3, 1.5, True])
def test_overrides_must_be_text(value):
    with pytest.raises(ConfigError, match=rf"Expected run configuration overrides={value} to be a string"):
        app.main(SiteGrid(), context(overrides=value))


def test_a_wrong_override_begins_nothing(overrides, tmp_path):
    with pytest.raises(ConfigError, match="num_round"):
        run([*overrides, "training.num_round=3"], SiteGrid())
    assert not (tmp_path / "run").exists()


def test_the_log_has_a_line_for_every_round(overrides, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="server.app"):
        run(overrides, SiteGrid())
    lines = [record.getMessage() for record in caplog.records if record.name == "server.app"]
    assert [line.split(":")[0] for line in lines[:4]] == [f"Round {number}" for number in (1, 2, 3, 4)]
    spent = read_results(tmp_path / "run" / RESULTS_FILE).rounds[0].epsilon
    assert lines[0].endswith(f"{len(SITES)} sites, epsilon {spent}")
    assert lines[-1] == f"Results in {tmp_path / 'run'}"


def test_the_configuration_of_the_folder_is_the_one_of_the_overrides(finished, shared_federation):
    _, folder = finished
    assert f"holdout: {shared_federation.holdout}" in (folder / CONFIG_FILE).read_text()


@pytest.fixture
def run_in(federation, tmp_path):
    """Run the app in a folder of this name, without evaluation at the sites, and return the folder."""

    def start(name, grid, *more):
        run([*overrides_of(federation, tmp_path / name), "evaluation.privacy=none", *more], grid)
        return tmp_path / name

    return start


def test_what_sites_show_is_kept_beside_the_run_folders(run_in, tmp_path):
    run_in("first", SiteGrid(change_reply=Ledgers().show))
    seen = read_witnesses(tmp_path / WITNESSES_FILE)
    assert {site: len(links) for site, links in seen.items()} == dict.fromkeys(SITES, 4)
    run_in("second", SiteGrid(change_reply=Ledgers().show), "seed=1")


def test_a_ledger_restored_between_two_runs_is_a_line_of_the_audit_and_of_the_results(run_in):
    ledgers = Ledgers()
    run_in("first", SiteGrid(change_reply=ledgers.show))
    ledgers.restore("WFU", 2)
    folder = run_in("second", SiteGrid(change_reply=ledgers.show), "seed=1")
    (line,) = (entry for entry in audit_of(folder) if entry["event"] == "warning")
    expected = "the ledger of WFU does not continue from what it showed before: it was restored or copied"
    # Rounds 1 and 2 it had answered already.
    assert line == {"event": "warning", "round": 3, "reason": expected}
    assert [entry.warnings for entry in read_results(folder / RESULTS_FILE).rounds] == [(), (), (expected,), ()]


def test_the_ledgers_of_another_federation_beside_it_are_others(run_in):
    ledgers, enrolled_anew = Ledgers(), "federation.node_ids=[11,12,13]"
    run_in("first", SiteGrid(change_reply=ledgers.show))
    ledgers.restore("WFU", 2)
    folder = run_in("second", SiteGrid(change_reply=ledgers.show), "seed=1", enrolled_anew)
    assert not [entry for entry in audit_of(folder) if entry["event"] == "warning"]
    ledgers.restore("WFU", 1)
    folder = run_in("third", SiteGrid(change_reply=ledgers.show), "seed=2", enrolled_anew)
    assert [entry["round"] for entry in audit_of(folder) if entry["event"] == "warning"]


def test_a_claim_that_cannot_be_so_is_a_line_of_the_audit(run_in):
    def lie(reply):
        is_meant = (reply.site, reply.server_round) == ("WFU", 2)
        return dataclasses.replace(reply, num_patients_declared=11) if is_meant else reply

    folder = run_in("run", SiteGrid(change_reply=lie))
    (line,) = (entry for entry in audit_of(folder) if entry["event"] == "refused")
    assert line["round"] == 2
    assert line["reason"].startswith("node 12: Expected site WFU to declare 10 patients as before, got 11; the size is")


def test_a_damaged_file_of_witnesses_is_an_error_before_the_first_round(run_in, tmp_path):
    (tmp_path / WITNESSES_FILE).write_text("{}")
    grid = SiteGrid()
    with pytest.raises(ConfigError, match=r"Expected the witnesses of the sites' ledgers in .*witnesses\.json"):
        run_in("run", grid)
    assert grid.requests == []
    assert "witnesses.json" in (tmp_path / "run" / FAILURE_FILE).read_text()


def test_a_disk_that_is_full_is_told_to_who_follows(run_in, tmp_path, monkeypatch):
    write = checkpoints.write_atomically

    def fail(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoints, "write_atomically", fail)
    with pytest.raises(OSError, match="No space left on device"):
        run_in("run", SiteGrid())
    said = (tmp_path / "run" / FAILURE_FILE).read_text()
    assert said.startswith("[Errno 28] No space left on device: ")
    assert str(tmp_path / "run") in said
    # What has failed can be resumed once there is space.
    monkeypatch.setattr(checkpoints, "write_atomically", write)
    assert (run_in("run", SiteGrid()) / RESULTS_FILE).exists()


class TestOneRunAFolder:
    def test_a_second_is_refused_and_touches_nothing(self, run_in, tmp_path):
        config = compose([*OVERRIDES, f"run.dir={tmp_path / 'run'}"])
        grid = SiteGrid()
        with (
            RunFolder.open(config) as folder,
            pytest.raises(ConfigError, match=r"one process at a time in .*/run: "),
        ):
            run_in("run", grid)
        assert grid.requests == []
        assert not (folder.path / AUDIT_FILE).exists()

    def test_it_is_free_again_after_success_failure_and_mistake(self, run_in, tmp_path, monkeypatch):
        with pytest.raises(RoundError, match="in round 2"):
            run_in("run", SiteGrid(refusals=[(2, 11), (2, 12)]))
        assert not (tmp_path / "run" / LOCK_FILE).exists()

        def fail(*_, **__):
            raise ZeroDivisionError("a mistake of ours")

        with monkeypatch.context() as patch:
            patch.setattr(app, "federate", fail)
            with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
                run_in("run", SiteGrid())
        assert not (tmp_path / "run" / LOCK_FILE).exists()
        folder = run_in("run", SiteGrid())
        assert (folder / RESULTS_FILE).exists()
        assert not (folder / LOCK_FILE).exists()
