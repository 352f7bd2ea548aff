"""The privacy report of a real ledger: its figures, what it refuses to say, and what never stands in it."""

import csv
import dataclasses
import json
import math
import re
import sqlite3
from datetime import datetime
from pathlib import Path
from statistics import NormalDist

import pytest
import yaml
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq

from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Purpose, Reserved, Retired, Unprotected
from client.privacy.ledger_history import Limits
from client.privacy.ledger_store import LedgerStore
from client.privacy.policy import OPEN_POLICY
from client.privacy.report.figures import report_on
from client.privacy.report.formats import to_json
from client.privacy.report.web_page import to_html
from shared_model.config.choices import NoiseSource
from shared_model.privacy.mechanism import Mechanism
from shared_model.system.audit_log import AuditLog
from simulations.commands.app import main

CANARY = "ZQXCANARYQXZ"
PATIENTS = [f"{CANARY}-{number}" for number in range(30)]
NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-4)
STEP = Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1)
SAMPLED = Mechanism(noise_multiplier=1.5, sampling_rate=0.2, num_steps=5)


def release(ledger, *, run="a" * 64, count=1, patients=PATIENTS, answered=True, **changes):
    cohort = ledger.cohort(patients)
    for number in range(1, count + 1):
        asked = Reserved(
            purpose=Purpose.TRAINING,
            run=run,
            server_round=number,
            request=f"{run}-{number}-{answered}-{len(patients)}",
            cohort=cohort.fingerprint,
            num_patients_declared=30,
            mechanism=STEP,
            delta=1e-4,
            target_epsilon=1e9,
            max_grad_norm=0.5,
            noise=NoiseSource.SECURE,
        )
        asked = dataclasses.replace(asked, **changes)
        reservation = ledger.reserve(asked, cohort, NO_LIMIT, reply_bytes=100)
        if answered:
            ledger.commit(reservation, b"reply")


def unprotected(ledger, *, patients=PATIENTS, run="e" * 64):
    cohort = ledger.cohort(patients)
    found = Unprotected(
        purpose=Purpose.EVALUATION, run=run, cohort=cohort.fingerprint, num_patients_declared=len(patients)
    )
    ledger.note_unprotected(found, cohort, NO_LIMIT)


class PastClock:
    @staticmethod
    def now(zone):
        return datetime(2001, 1, 1, tzinfo=zone)


def independent_epsilon(mechanisms, delta):
    accountant = PLDAccountant()
    for part in mechanisms:
        event = GaussianDpEvent(part.noise_multiplier)
        accountant.compose(PoissonSampledDpEvent(part.sampling_rate, event), part.num_steps)
    return accountant.get_epsilon(delta)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def ledger(path):
    return Ledger.create(path)


def site_file(path, *, max_epsilon=None):
    """Write the settings of a hospital with this ledger and a policy with this cap."""
    policy = yaml.safe_load(OPEN_POLICY.read_text()) | {"max_epsilon": max_epsilon, "max_delta": 1e-4}
    policy |= {"privacy": ["patient"], "evaluation": ["none", "dp"], "noise": ["secure"]}
    settings = {
        "site": "MGH",
        "server": "localhost:1",
        "data_root": "data",
        "data_source": "cbis_ddsm",
        "roster": None,
        "ledger": path.name,
        "policy": "policy.yaml",
        "state_dir": "state",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / "policy.yaml").write_text(yaml.safe_dump(policy))
    (path.parent / "site.yaml").write_text(yaml.safe_dump(settings))
    return path.parent / "site.yaml"


def run_report(path, folder, *more, max_epsilon=None):
    site = site_file(path, max_epsilon=max_epsilon)
    outs = [folder / f"report{suffix}" for suffix in (".html", ".json", ".csv")]
    code = main(["site", "privacy-report", "--site", str(site), *(f"--out={out}" for out in outs), *more])
    return code, *(out.read_text() for out in outs)


def test_figures_are_those_of_an_independent_computation(ledger, path, tmp_path):
    release(ledger, count=3)
    release(ledger, run="b" * 64, count=2, mechanism=SAMPLED)
    release(ledger, run="c" * 64, patients=PATIENTS[:20], answered=False)
    code, _, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    everything = [STEP] * 4 + [SAMPLED] * 2
    assert code == 0
    assert found["delta"] == 1e-4
    assert found["epsilon"] == pytest.approx(independent_epsilon(everything, 1e-4), rel=2e-3)
    for cohort in found["cohorts"]:
        assert cohort["epsilon"] == pytest.approx(independent_epsilon(everything, 1e-4), rel=2e-3)
        assert cohort["num_overlapping"] == 1
        assert cohort["accountants_agree"] is True
        assert cohort["epsilon"] <= cohort["epsilon_renyi"]
    runs = [run for cohort in found["cohorts"] for run in cohort["runs"]]
    assert [(run["run"], run["num_releases"], run["num_unanswered"]) for run in runs] == [
        ("a" * 12, 3, 0),
        ("b" * 12, 2, 0),
        ("c" * 12, 1, 1),
    ]
    expected = [independent_epsilon(part, 1e-4) for part in ([STEP] * 3, [SAMPLED] * 2, [STEP])]
    assert [run["epsilon"] for run in runs] == pytest.approx(expected, rel=2e-3)


SHARE = dataclasses.replace(STEP, noise_multiplier=STEP.noise_multiplier / math.sqrt(3))


def test_secure_sums_have_both_prices_of_every_run_and_of_the_patient_who_spent_most(ledger, path):
    """By either price it may be another patient: of a few releases with small shares, or of many plain ones."""
    release(ledger, count=2, patients=["X"], own_share=SHARE)
    release(ledger, run="b" * 64, count=4, patients=["Y"])
    report = report_on(path, limits=Limits(max_epsilon=8.0, max_epsilon_alone=9.0, max_delta=1e-4))
    sums, plain = report.cohorts
    prices = [independent_epsilon(part, 1e-4) for part in ([STEP] * 2, [SHARE] * 2, [STEP] * 4)]
    assert [sums.epsilon, sums.epsilon_alone, plain.epsilon] == pytest.approx(prices, rel=2e-3)
    assert plain.epsilon_alone == plain.epsilon
    assert (report.epsilon, report.epsilon_alone) == (plain.epsilon, sums.epsilon_alone)
    assert sums.epsilon < report.epsilon < report.epsilon_alone
    (first,), (second,) = sums.runs, plain.runs
    assert (first.epsilon, first.epsilon_alone) == (sums.epsilon, sums.epsilon_alone)
    assert (first.noise_multiplier, first.noise_multiplier_alone) == (2.431, SHARE.noise_multiplier)
    assert (second.epsilon_alone, second.noise_multiplier_alone) == (second.epsilon, 2.431)
    assert (first.num_secure_sums, second.num_secure_sums, report.num_secure_sums) == (2, 0, 2)
    assert (report.max_epsilon, report.max_epsilon_alone, report.is_over_cap) == (8.0, 9.0, False)


@pytest.mark.parametrize(("alone", "is_over"), [(3.9, False), (3.8, True), (None, True)])
def test_more_than_was_granted_to_whoever_breaks_the_sums_is_too_much(ledger, path, alone, is_over):
    release(ledger, count=2, own_share=SHARE)
    assert independent_epsilon([SHARE] * 2, 1e-4) == pytest.approx(3.839, abs=0.01)
    limits = Limits(max_epsilon=3.0, max_epsilon_alone=alone, max_delta=1e-4)
    assert report_on(path, limits=limits).is_over_cap is is_over


def test_rounds_left_are_those_that_both_limits_grant(ledger, path):
    release(ledger, count=3, own_share=SHARE)
    limits = Limits(max_epsilon=6.0, max_epsilon_alone=9.0, max_delta=1e-4)
    left = report_on(path, limits=limits).cohorts[0].rounds_left
    assert independent_epsilon([SHARE] * (3 + left), 1e-4) <= 9.0 < independent_epsilon([SHARE] * (4 + left), 1e-4)
    assert left < report_on(path, limits=dataclasses.replace(limits, max_epsilon_alone=99.0)).cohorts[0].rounds_left


def test_disjoint_cohorts_do_not_inherit(ledger, path):
    release(ledger, count=2)
    release(ledger, run="b" * 64, patients=["X", "Y"])
    first, second = report_on(path).cohorts
    assert first.epsilon == pytest.approx(independent_epsilon([STEP] * 2, 1e-4), rel=2e-3)
    assert second.epsilon == pytest.approx(independent_epsilon([STEP], 1e-4), rel=2e-3)


def test_delta_is_the_largest_recorded_unless_given(ledger, path):
    release(ledger, delta=1e-6)
    release(ledger, run="b" * 64, delta=1e-5)
    assert report_on(path).delta == 1e-5
    assert report_on(path, delta=1e-3).epsilon < report_on(path).epsilon


def test_rounds_left_are_the_most_that_the_ledger_itself_grants(ledger, path):
    release(ledger, count=3)
    left = report_on(path, limits=Limits(max_epsilon=6.0, max_delta=1e-4)).cohorts[0].rounds_left
    assert 0 < left < 100
    assert independent_epsilon([STEP] * (3 + left), 1e-4) <= 6.0 < independent_epsilon([STEP] * (4 + left), 1e-4)


def test_rounds_left_are_at_the_cohorts_own_noise(ledger, path):
    release(ledger, count=3)
    release(ledger, run="b" * 64, patients=PATIENTS[:2], mechanism=dataclasses.replace(STEP, noise_multiplier=50.0))
    left = report_on(path, limits=Limits(max_epsilon=6.0, max_delta=1e-4)).cohorts[0].rounds_left
    assert left < 100


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entries SET body = replace(body, '2.431', '9.431') WHERE sequence = 3",
        "UPDATE entries SET body = x'00' WHERE sequence = 3",
        "DELETE FROM entries WHERE sequence = (SELECT MAX(sequence) FROM entries)",
        "DELETE FROM members WHERE pseudonym = (SELECT MIN(pseudonym) FROM members)",
    ],
)
def test_tampered_ledger_gives_no_figures(damage, ledger, path, tmp_path, capsys):
    release(ledger, count=3)
    figure = f"{report_on(path).epsilon:.2f}"
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    code, html, text, table = run_report(path, tmp_path)
    captured = capsys.readouterr()
    assert code == 1
    assert "NOT VERIFIED" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert "NOT VERIFIED" in html
    assert json.loads(text)["problem"]
    assert json.loads(text)["cohorts"] == []
    assert all(figure not in output for output in (html, text, table, captured.out, captured.err))
    assert json.loads(text)["epsilon"] is None


def test_head_of_an_earlier_report_must_be_in_the_chain(ledger, path, tmp_path):
    release(ledger)
    head = report_on(path).head
    release(ledger, run="b" * 64)
    assert main(["site", "privacy-report", f"--site={site_file(path)}", f"--expect-head={head}"]) == 0
    for other in path.parent.iterdir():
        other.unlink()
    release(Ledger.create(path), count=2)
    code, html, _, _ = run_report(path, tmp_path, f"--expect-head={head}")
    assert code == 1
    assert "NOT VERIFIED" in html


def test_nothing_points_outside(ledger, path, tmp_path):
    release(ledger, count=2)
    _, html, _, _ = run_report(path, tmp_path, max_epsilon=9.0)
    assert "<svg" in html
    assert not re.search(r"https?:|//|\bsrc=|\bhref=|<script|<link|@import|url\(", html)


def test_identifiers_stand_nowhere(ledger, path, tmp_path, capsys):
    release(ledger, count=2)
    unprotected(ledger)
    outputs = run_report(path, tmp_path)[1:]
    captured = capsys.readouterr()
    pseudonyms = [member.hex() for members in read_history(path).members.values() for member in members]
    for output in (*outputs, captured.out, captured.err):
        assert CANARY not in output
        assert not any(pseudonym in output for pseudonym in pseudonyms)


def test_hostile_run_name_is_escaped(ledger, path, tmp_path):
    release(ledger, run="<b>[/x]&")
    code, html, _, _ = run_report(path, tmp_path)
    assert code == 0
    assert "<b>" not in html


def test_seeded_noise_is_no_claim(ledger, path, tmp_path, capsys):
    release(ledger, noise=NoiseSource.SEEDED)
    _, html, _, _ = run_report(path, tmp_path)
    assert "SEEDED" in html
    assert "SEEDED" in capsys.readouterr().out
    assert "be right" not in html


def test_bound_on_an_attacker_is_that_of_the_gaussian_mechanism(ledger, path):
    release(ledger, count=4)
    threshold_test = NormalDist().cdf(2 / 2.431 / 2)
    assert report_on(path).attack_success == pytest.approx(threshold_test)


def test_inherited_spending_is_explained(ledger, path, tmp_path):
    release(ledger, count=2)
    _, html, _, _ = run_report(path, tmp_path)
    assert "inherited" not in html
    release(ledger, run="b" * 64, patients=PATIENTS[:2])
    _, html, _, _ = run_report(path, tmp_path)
    assert "inherited" in html


def test_unprotected_release_is_said_plainly_and_listed(ledger, path, tmp_path):
    release(ledger)
    unprotected(ledger)
    code, html, text, table = run_report(path, tmp_path)
    assert code == 0
    assert json.loads(text)["epsilon"] is None
    assert not re.search(r"\binf(inity)?\b|\bnan\b", (html + text + table).lower())
    assert all("e" * 12 in output for output in (html, text, table))


@pytest.mark.parametrize("noise", [1e-4, 0.05, 1e7])
def test_extreme_noise_still_gives_a_report(noise, ledger, path, tmp_path):
    release(ledger, count=2, mechanism=dataclasses.replace(STEP, noise_multiplier=noise))
    code, html, text, _ = run_report(path, tmp_path)
    assert code == 0
    assert json.loads(text)
    assert "0 runs released" not in html


def test_printed_epsilon_is_never_below_the_true_one(ledger, path, tmp_path, capsys):
    release(ledger, count=2)
    run_report(path, tmp_path)
    total = report_on(path).cohorts[0].epsilon
    html = (tmp_path / "report.html").read_text()
    printed = re.findall(r"epsilon (\d+\.\d+)", html)
    assert printed
    assert all(float(value) >= total for value in printed)
    shown = [float(value) for value in re.findall(r"\b\d+\.\d{3}\b", capsys.readouterr().out)]
    assert shown
    assert all(value >= total for value in shown)


def test_clock_that_went_back_is_flagged(ledger, path, monkeypatch):
    release(ledger)
    assert not report_on(path).clock_went_back
    monkeypatch.setattr("client.privacy.ledger_store.datetime", PastClock)
    release(ledger, run="b" * 64)
    assert report_on(path).clock_went_back


def test_empty_ledger(ledger, path, tmp_path):
    code, html, text, _ = run_report(path, tmp_path)
    assert code == 0
    assert "Nothing was released" in html
    assert json.loads(text)["cohorts"] == []


@pytest.mark.parametrize(
    "argument",
    [
        "--out=report.pdf",
        "--out=report",
        "--delta=0",
        "--delta=1",
        "--delta=nan",
        "--max-epsilon=-1",
        "--max-epsilon=nan",
        "--max-epsilon=inf",
        "--expect-head=12",
    ],
)
def test_wrong_argument_is_one_line(argument, ledger, path, tmp_path, capsys):
    release(ledger)
    arguments = [f"--site={site_file(path)}", f"--out={tmp_path / 'x.json'}", argument]
    assert main(["site", "privacy-report", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["none.sqlite", "[red]none", "[/x]none"])
def test_missing_ledger_is_named(name, tmp_path, capsys):
    assert main(["site", "privacy-report", "--site", str(site_file(tmp_path / name))]) == 1
    assert Path(name).name in capsys.readouterr().err


def test_csv_has_a_row_per_run(ledger, path, tmp_path):
    release(ledger, count=2)
    release(ledger, run="b" * 64)
    _, _, _, table = run_report(path, tmp_path)
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["run"] for row in rows] == ["a" * 12, "b" * 12]


def test_files_do_not_name_folders_of_the_site(ledger, path, tmp_path):
    release(ledger)
    path.with_name("ledger.sqlite.head").unlink()
    found = report_on(path)
    assert found.problem
    assert str(tmp_path) not in to_html(found) + to_json(found)


def gaussian_epsilon(mu, delta):
    """Dong, Roth and Su 2022, Corollary 2.13, inverted: the epsilon at which mu-GDP has this delta."""
    phi = NormalDist().cdf
    return brentq(lambda eps: phi(mu / 2 - eps / mu) - math.exp(eps) * phi(-mu / 2 - eps / mu) - delta, 0, 100)


def test_mu_of_whole_cohort_plans_gives_the_epsilon_of_record(ledger, path, tmp_path, capsys):
    release(ledger, count=3)
    release(ledger, run="b" * 64, count=2, mechanism=dataclasses.replace(STEP, noise_multiplier=4.0))
    _, html, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    first, second = found["cohorts"][0]["runs"]
    assert first["mu"] == pytest.approx(math.sqrt(3) / 2.431)
    assert second["mu"] == pytest.approx(math.sqrt(2) / 4)
    assert found["mu"] == found["cohorts"][0]["mu"] == pytest.approx(math.sqrt(3 / 2.431**2 + 2 / 16))
    for priced in (first, second, found["cohorts"][0]):
        assert gaussian_epsilon(priced["mu"], 1e-4) == pytest.approx(priced["epsilon"], abs=1e-6)
    printed = capsys.readouterr().out
    for shown in ("0.72", "0.36"):
        assert shown in html
        assert shown in printed
    assert "mu 0.80" in html


def test_mu_is_null_where_patients_are_sampled(ledger, path, tmp_path):
    release(ledger)
    release(ledger, run="b" * 64, mechanism=SAMPLED)
    _, html, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    assert [run["mu"] for run in found["cohorts"][0]["runs"]] == [pytest.approx(1 / 2.431), None]
    assert found["mu"] is None
    assert found["cohorts"][0]["mu"] is None
    assert "curve around mu" not in html


def test_a_runs_price_and_the_patients_total_are_two_columns(ledger, path, tmp_path, capsys):
    release(ledger, count=3)
    release(ledger, run="b" * 64, count=1)
    _, html, text, _ = run_report(path, tmp_path)
    (cohort,) = json.loads(text)["cohorts"]
    assert cohort["runs"][1]["epsilon"] == pytest.approx(independent_epsilon([STEP], 1e-4), rel=2e-3)
    assert cohort["epsilon"] == pytest.approx(independent_epsilon([STEP] * 4, 1e-4), rel=2e-3)
    assert "<th>Epsilon of this run alone</th>" in html
    assert "<th>Patients' total epsilon, all runs, at delta 0.0001</th>" in html
    header = next(line for line in capsys.readouterr().out.splitlines() if "patients" in line and "run" in line)
    assert "this run" in header
    assert "all runs" in header


def test_a_runs_price_is_that_of_all_its_releases_whoever_took_part(ledger, path):
    """A patient who leaves during a run begins a new cohort; the coordinator is told one price."""
    release(ledger, count=2)
    release(ledger, count=2, patients=PATIENTS[1:])
    first, second = report_on(path).cohorts
    assert first.runs[0].epsilon == second.runs[0].epsilon
    assert first.runs[0].epsilon == pytest.approx(independent_epsilon([STEP] * 4, 1e-4), rel=2e-3)
    assert (first.runs[0].num_releases, second.runs[0].num_releases) == (2, 2)


def test_nobody_is_over_the_cap_for_what_others_spent(ledger, path):
    """Three cohorts in a chain: each patient took part in two of three runs at most."""
    release(ledger, count=2, patients=PATIENTS[:20])
    release(ledger, run="b" * 64, count=2, patients=PATIENTS[10:])
    release(ledger, run="c" * 64, count=2, patients=PATIENTS[20:])
    two = independent_epsilon([STEP] * 4, 1e-4)
    found = report_on(path, limits=Limits(max_epsilon=two * 1.01, max_delta=1e-4))
    assert [cohort.epsilon for cohort in found.cohorts] == pytest.approx([two] * 3, rel=2e-3)
    assert not found.is_over_cap
    assert report_on(path, limits=Limits(max_epsilon=two * 0.99, max_delta=1e-4)).is_over_cap


def test_what_is_counted_beside_the_releases(ledger, path, tmp_path, capsys):
    release(ledger, count=2)
    release(ledger, run="b" * 64, count=3, answered=False)
    for patient in PATIENTS[:2]:
        assert ledger.forget(patient)
    code, html, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    assert code == 0
    assert (found["num_unanswered"], found["num_forgotten"], found["successor"]) == (3, 2, None)
    assert found["cohorts"][0]["num_patients"] == 30
    printed = capsys.readouterr().out
    for output in (html, printed):
        assert "2 patients take part no longer; what they have spent stays spent" in output
    assert "3 reservations never got a reply" in html
    assert "Reservations without a reply: 3" in printed


def test_patients_without_budget_are_those_whom_the_next_release_leaves_out(ledger, path, tmp_path):
    release(ledger, count=2, patients=PATIENTS[:12])
    release(ledger, run="b" * 64, count=2)
    cap = independent_epsilon([STEP] * 4, 1e-4) * 1.01
    ledger.forget(PATIENTS[0])
    found = report_on(path, limits=Limits(max_epsilon=cap, max_delta=1e-4))
    assert found.num_without_budget == 11
    _, html, text, _ = run_report(path, tmp_path, max_epsilon=cap)
    assert json.loads(text)["num_without_budget"] == 11
    assert "For 11 patients too little is left" in html
    assert report_on(path, limits=Limits(max_epsilon=2 * cap, max_delta=1e-4)).num_without_budget == 0


def test_a_retired_ledger_says_where_it_went(ledger, path, tmp_path, capsys):
    release(ledger)
    with LedgerStore(path).transaction() as transaction:
        transaction.append(Retired(successor="the <new> machine"))
    code, html, text, _ = run_report(path, tmp_path)
    assert code == 0
    assert json.loads(text)["successor"] == "the <new> machine"
    assert "This copy is retired: the ledger went on to the &lt;new&gt; machine." in html
    assert "This copy is retired: the ledger went on to the <new> machine." in capsys.readouterr().out


def test_what_is_not_covered_comes_first(ledger, path, tmp_path, capsys):
    release(ledger)
    _, html, _, _ = run_report(path, tmp_path)
    assert html.index("What it does not cover") < html.index('class="figure"')
    assert "This ledger recorded none." in html
    assert "all that ever left" not in html
    first = capsys.readouterr().out.splitlines()[0]
    for output in (html, first):
        for what in ("histograms", "ime", "count of refused requests", "mages", "publish"):
            assert what in output
    unprotected(ledger)
    _, html, text, _ = run_report(path, tmp_path)
    assert "1 run made such releases" in html
    assert json.loads(text)["num_unprotected"] == 1
    assert json.loads(text)["cohorts"][0]["num_unprotected"] == 1


def test_refusals_are_counted_from_the_audit_log(ledger, path, tmp_path, capsys):
    release(ledger)
    log = AuditLog(path.parent / "state" / "audit.jsonl")
    log.record("reply", outcome="answered")
    for key in ("seed", "seed", "data.views"):
        log.record("reply", outcome="the policy forbids it", refused_key=key, configuration=key * 3)
    _, html, text, _ = run_report(path, tmp_path)
    refusals = json.loads(text)["refusals"]
    assert refusals["total"] == 3
    assert refusals["by_reason"] == [["the policy forbids it", 3]]
    assert refusals["by_key"] == [["seed", 2], ["data.views", 1]]
    assert "3 requests were refused in all" in html
    assert "for 2 different configurations" in html
    assert "Refused requests: 3, today" in capsys.readouterr().out


def test_an_audit_log_that_was_changed_is_not_counted(ledger, path, tmp_path, capsys):
    release(ledger)
    log = AuditLog(path.parent / "state" / "audit.jsonl")
    log.record("reply", outcome="refused <x>")
    log.path.write_text(log.path.read_text().replace("refused", "answered"))
    code, html, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    assert code == 0
    assert found["refusals"] is None
    assert "line 1 of audit.jsonl as it was written" in found["audit_problem"]
    assert str(tmp_path) not in html + text
    assert "It is not known" in html
    assert "Refusals are not counted" in capsys.readouterr().out


def test_lost_releases_and_alarms_of_the_audit_log_are_said(ledger, path, tmp_path, capsys):
    release(ledger)
    log = AuditLog(path.parent / "state" / "audit.jsonl")
    log.record("ledger_recovered", num_releases=3)
    log.record("alarm", reason="fewer training patients than declared")
    _, html, text, _ = run_report(path, tmp_path)
    found = json.loads(text)
    assert (found["num_recovered"], found["num_alarms"]) == (3, 1)
    assert "3 releases had been lost with an older copy of the ledger" in html
    assert "In 1 answer the site had fewer training patients than it declares" in html
    printed = capsys.readouterr().out
    assert "entered again as spent: 3" in printed
    assert "Answers with fewer training patients than the site declares: 1" in printed
