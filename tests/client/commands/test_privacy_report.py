"""The cap in a hospital's report is the one of its policy, whatever is typed."""

import dataclasses
import json

import pytest
import yaml

from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Purpose, Reserved
from client.privacy.ledger_history import Limits
from client.privacy.policy import OPEN_POLICY
from shared_model.config.choices import NoiseSource
from shared_model.config.fingerprints import source_fingerprint
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.documents import to_json
from simulations.commands.app import main
from tests.one_run_audits import AUDIT

MAX_EPSILON, MAX_DELTA = 6.0, 1e-4


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A hospital's folder, in which the command runs: three releases at epsilon 4.2 in all."""
    limits = {"max_epsilon": MAX_EPSILON, "max_delta": MAX_DELTA}
    limits |= {"privacy": ["patient"], "evaluation": ["none", "dp"], "noise": ["secure"]}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(yaml.safe_load(OPEN_POLICY.read_text()) | limits))
    settings = {"site": "MGH", "server": "localhost:1", "data_root": "data", "data_source": "cbis_ddsm"}
    settings |= {"roster": None, "ledger": "ledger.sqlite", "policy": "policy.yaml", "state_dir": "state"}
    (tmp_path / "site.yaml").write_text(yaml.safe_dump(settings))
    ledger = Ledger.create(tmp_path / "ledger.sqlite")
    cohort = ledger.cohort([f"patient-{number}" for number in range(30)])
    for number in range(3):
        release = Reserved(
            purpose=Purpose.TRAINING,
            run="a" * 64,
            server_round=number + 1,
            request=str(number),
            cohort=cohort.fingerprint,
            num_patients_declared=30,
            mechanism=Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1),
            delta=1e-5,
            target_epsilon=9.0,
            max_grad_norm=0.5,
            noise=NoiseSource.SECURE,
        )
        reservation = ledger.reserve(release, cohort, Limits(max_epsilon=None, max_delta=MAX_DELTA), reply_bytes=100)
        ledger.commit(reservation, b"reply")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def report(site, *arguments):
    assert main(["site", "privacy-report", "--out", "report.json", "--out", "report.html", *arguments]) == 0
    return json.loads((site / "report.json").read_text()), (site / "report.html").read_text()


def cap(site, max_epsilon):
    path = site / "policy.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"max_epsilon": max_epsilon}))


def test_site_yaml_of_the_working_folder_and_its_policy_are_read(site):
    found, html = report(site)
    assert (found["max_epsilon"], found["max_delta"], found["delta"]) == (MAX_EPSILON, MAX_DELTA, MAX_DELTA)
    assert found["cohorts"][0]["rounds_left"] > 0
    assert "grants epsilon 6 at delta 0.0001" in html


def test_the_cap_holds_at_the_policys_delta_whatever_delta_the_figures_have(site):
    at_cap, _ = report(site)
    other, html = report(site, "--delta", "1e-9")
    assert other["epsilon"] > at_cap["epsilon"]
    assert (other["max_epsilon"], other["max_delta"]) == (MAX_EPSILON, MAX_DELTA)
    assert other["cohorts"][0]["rounds_left"] == at_cap["cohorts"][0]["rounds_left"]
    assert other["is_over_cap"] is False
    # The cap is of another delta than the curve.
    assert "granted 6" not in html


@pytest.mark.parametrize(("max_epsilon", "is_over"), [(1.0, True), (6.0, False), (None, False)])
def test_more_than_was_granted_is_said(site, capsys, max_epsilon, is_over):
    cap(site, max_epsilon)
    found, html = report(site)
    assert found["is_over_cap"] is is_over
    assert ("More than that was spent." in html) is is_over
    assert ("More was spent than this site's policy grants." in capsys.readouterr().out) is is_over


@pytest.mark.parametrize("flag", ["--max-epsilon=100", "--max-delta=0.1", "--ledger=ledger.sqlite", "--policy=x"])
def test_nobody_types_another_cap_or_ledger(site, capsys, flag):
    assert main(["site", "privacy-report", flag]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: No such option '{flag.split('=')[0]}'.")
    assert line.endswith("See fedmammo site privacy-report --help.")


@pytest.mark.parametrize("name", ["site.yaml", "policy.yaml"])
def test_a_file_that_is_missing_is_named(site, capsys, name):
    (site / name).unlink()
    assert main(["site", "privacy-report"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert name in line


def test_a_report_that_cannot_be_written_is_one_line(site, capsys):
    (site / "file").write_text("")
    assert main(["site", "privacy-report", "--out", "file/report.json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "file" in line


def audit_file(site, **changes):
    found = dataclasses.replace(AUDIT, **({"source": source_fingerprint()} | changes))
    (site / "audit.json").write_text(to_json(found))


def test_an_audit_is_shown_if_asked(site, capsys):
    audit_file(site)
    found, html = report(site)
    assert found["one_run"] is None
    assert "An audit of the mechanism" not in html
    capsys.readouterr()
    found, html = report(site, "--audit", "audit.json")
    assert found["one_run"]["num_right"] == 94
    assert "epsilon is at least <strong>2.02</strong> at delta 0.0001" in html
    assert "claimed was 8.000. The claim stands." in html
    assert "the version that is installed here" in html
    assert "Audit in one run: at least epsilon 2.02, claimed 8.00, at delta 0.0001." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claimed_epsilon": 2.0}, "The claim is broken."),
        ({"source": "b" * 64}, "another version than the one installed here"),
        ({"fault": "no_clipping"}, "A mistake was planted in it on purpose: no_clipping."),
    ],
)
def test_what_spoils_an_audit_is_said(site, capsys, change, said):
    audit_file(site, **change)
    _, html = report(site, "--audit", "audit.json")
    assert said in html
    is_broken = "proves more than was claimed" in capsys.readouterr().out
    assert is_broken == ("claimed_epsilon" in change)


def test_an_audit_whose_figure_does_not_follow_is_one_line(site, capsys):
    audit_file(site)
    text = (site / "audit.json").read_text().replace("2.021", "0.021")
    (site / "audit.json").write_text(text)
    assert main(["site", "privacy-report", "--audit", "audit.json"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "follows from the guesses" in line
