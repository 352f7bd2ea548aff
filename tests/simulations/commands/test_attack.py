import dataclasses
import json

import pytest

from client.training.gradient_methods import GradientMethod
from shared_model.config.choices import Aggregation
from shared_model.privacy.one_run_bound import OneRunAudit
from simulations.attacks import liar, membership, one_run
from simulations.attacks.faults import Fault
from simulations.attacks.liar import LiarCase, LiarRun, Lie
from simulations.attacks.membership import Audit, Bound
from simulations.commands.app import main
from tests.one_run_audits import AUDIT

STANDS = Audit(
    fault=Fault.NONE,
    gradient_method=GradientMethod.GHOST,
    sampling_rate=1.0,
    noise_multiplier=1.0,
    num_trials=4,
    bounds=(
        Bound(delta=1e-4, claimed_epsilon=8.0, least_epsilon=2.0),
        Bound(delta=0.3, claimed_epsilon=2.0, least_epsilon=1.5),
    ),
)
FALLS = dataclasses.replace(STANDS, bounds=(Bound(delta=0.3, claimed_epsilon=2.0, least_epsilon=2.5),))


def run_membership(monkeypatch, audits, *arguments):
    monkeypatch.setattr(membership, "audits", lambda **_: iter(audits))
    return main(["attack", "membership", *arguments])


def with_fault(audit):
    return dataclasses.replace(audit, fault=Fault.HALF_NOISE)


@pytest.mark.parametrize(
    ("audits", "status", "word"),
    [
        ([STANDS, with_fault(FALLS)], 0, "falls"),
        ([FALLS, with_fault(FALLS)], 1, "BROKEN"),
        ([STANDS, with_fault(STANDS)], 1, "MISSED"),
    ],
)
def test_exit_status_says_whether_claims_stand_and_faults_are_seen(monkeypatch, capsys, tmp_path, audits, status, word):
    out = tmp_path / "audit.json"
    assert run_membership(monkeypatch, audits, "--out", str(out)) == status
    said = capsys.readouterr()
    assert word in said.out
    assert ("error: " in said.err) == (status == 1)
    document = json.loads(out.read_bytes())
    assert [entry["is_violated"] for entry in document["audits"]] == [audit.is_violated for audit in audits]
    assert document["audits"][0]["bounds"][0]["delta"] == audits[0].bounds[0].delta


def test_the_table_shows_the_closest_delta(monkeypatch, capsys):
    run_membership(monkeypatch, [STANDS])
    row = next(line for line in capsys.readouterr().out.splitlines() if "ghost gradients" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["0.3", "1.50", "2.00"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["membership", "--trials", "3"],
        ["membership", "--epsilon", "0"],
        ["membership", "--epsilon", "inf"],
        ["one-run", "--canaries", "2"],
        ["one-run", "--epsilon", "0"],
        ["one-run", "--delta", "1"],
        ["one-run", "--delta", "x"],
        ["liar", "--seeds", "x"],
        ["inversion"],
        ["inversion", "--out", "pictures.jpg"],
        ["inversion", "--out", "pictures.png", "--images", "0"],
    ],
)
def test_bad_arguments(arguments, capsys):
    assert main(["attack", *arguments]) == 2
    assert "expected" in capsys.readouterr().err or arguments in ([], ["inversion"])


def test_inversion_writes_pictures_and_prints_likeness(tmp_path, capsys):
    out = tmp_path / "pictures.png"
    assert main(["attack", "inversion", "--images", "1", "--steps", "1", "--out", str(out)]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "image 1, small_cnn" in printed
    assert "1.00" in next(line for line in printed.splitlines() if "frozen features" in line)


def test_bounds_that_cannot_be_written_are_an_error_in_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("in use")
    assert run_membership(monkeypatch, [STANDS], "--out", str(tmp_path / "file" / "bounds.json")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: Expected to read and write what the command needs: ")


@pytest.mark.parametrize(("claimed", "status", "word"), [(8.0, 0, "stands"), (2.0, 1, "BROKEN")])
def test_one_run_fails_where_the_bound_exceeds_the_claim(monkeypatch, capsys, tmp_path, claimed, status, word):
    asked = {}
    found = dataclasses.replace(AUDIT, claimed_epsilon=claimed)
    monkeypatch.setattr(one_run, "audit_in_one_run", lambda **arguments: asked.update(arguments) or found)
    out = tmp_path / "audit.json"
    flags = ("--epsilon", "3", "--delta", "1e-5", "--seed", "7", "--canaries", "300", "--out", str(out))
    assert main(["attack", "one-run", *flags]) == status
    del asked["progress"]
    assert asked == {"target_epsilon": 3.0, "delta": 1e-5, "seed": 7, "num_canaries": 300}
    said = capsys.readouterr()
    row = next(line for line in said.out.splitlines() if word in line)
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["300", "100", "94", "2.02", f"{claimed:.2f}"]
    assert ("error: Expected epsilon of at most 2.00, as claimed: the guesses prove 2.02" in said.err) == bool(status)
    assert OneRunAudit.load(out) == found


def test_one_run_is_a_command_of_its_own(capsys):
    assert main(["attack", "one-run", "--canaries", "9", "--epsilon", "8"]) == 0
    assert "stands" in capsys.readouterr().out
    assert main(["attack", "one-run", "--canaries", "400"]) == 1
    assert "Expected canaries=400 in [3, 320]" in capsys.readouterr().err


@pytest.mark.parametrize(("auroc", "status", "word"), [(0.81, 0, "kept"), (0.75, 1, "LOST")])
def test_liar_fails_where_a_lie_costs_too_much(monkeypatch, capsys, tmp_path, auroc, status, word):
    honest = LiarCase(num_sites=3, aggregation=Aggregation.GUARDED, lie=Lie.NONE, liar="")
    lying = dataclasses.replace(honest, lie=Lie.FIVEFOLD, liar="WFU")
    asked = []

    def measure(overrides, seeds, *, progress):
        asked.append((list(overrides), list(seeds)))
        yield LiarRun(case=honest, seed=4, auroc=0.88, num_rounds_named=0)
        yield LiarRun(case=lying, seed=4, auroc=auroc, num_rounds_named=15)

    monkeypatch.setattr(liar, "measure", measure)
    out = tmp_path / "liar.json"
    assert main(["attack", "liar", "preset=phantom", "--seeds", "4", "--out", str(out)]) == status
    assert asked == [(["preset=phantom"], [4])]
    said = capsys.readouterr()
    row = next(line for line in said.out.splitlines() if "WFU" in line)
    assert [cell.strip() for cell in row.split("│")[5:10]] == [f"{auroc:.3f}", f"{auroc:.3f}", "0.880", "75%", word]
    assert ("error: Expected every lie to cost no more AUC" in said.err) == bool(status)
    document = json.loads(out.read_bytes())
    assert document["seeds"] == [4]
    assert [case["auroc"] for case in document["cases"]] == [0.88, auroc]
