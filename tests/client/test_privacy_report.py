"""The privacy report: the same figures in every format, none where the ledger cannot be trusted."""

import csv
import json
import math
import re
import sqlite3

import dp_accounting
import pytest

from client.__main__ import main
from client.ledger import Ledger, Limits
from client.ledger_entries import Purpose, Reserved, Unprotected
from shared_model.accounting import Mechanism
from shared_model.choices import NoiseSource

NO_LIMIT = Limits(max_epsilon=None, max_delta=1e-4)
PATIENTS = [f"ZQXCANARYQXZ-{number}" for number in range(30)]


def spend(ledger, *, noise_multiplier, run, count, noise=NoiseSource.SECURE, commits=True):
    cohort = ledger.cohort(PATIENTS)
    for number in range(count):
        release = Reserved(
            purpose=Purpose.TRAINING,
            run=run,
            server_round=number + 1,
            request=f"{run} {number}",
            cohort=cohort.fingerprint,
            num_patients_declared=30,
            mechanism=Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1),
            delta=1e-4,
            target_epsilon=8.0,
            max_grad_norm=0.5,
            noise=noise,
        )
        granted = ledger.reserve(release, cohort, NO_LIMIT)
        if commits:
            ledger.commit(granted, b"reply")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    spend(ledger, noise_multiplier=4.0, run="first", count=10)
    spend(ledger, noise_multiplier=8.0, run="second", count=5, commits=False)
    return path


def report(path, tmp_path, *options):
    out = {suffix: tmp_path / f"report.{suffix}" for suffix in ("html", "json", "csv")}
    arguments = [part for file in out.values() for part in ("--out", str(file))]
    code = main(["privacy-report", "--ledger", str(path), *arguments, *options])
    return code, json.loads(out["json"].read_text()), out["html"].read_text(), out["csv"].read_text()


def test_figures_equal_an_independent_computation(path, tmp_path, capsys):
    code, document, html, table = report(path, tmp_path, "--max-epsilon", "8")
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(4.0), 10)
    accountant.compose(dp_accounting.GaussianDpEvent(8.0), 5)
    expected = accountant.get_epsilon(1e-4)
    assert code == 0
    (cohort,) = document["cohorts"]
    assert document["epsilon"] == pytest.approx(expected, abs=2e-3)
    assert cohort["accountants_agree"] is True
    assert cohort["epsilon_renyi"] >= cohort["epsilon"]
    assert [run["num_unanswered"] for run in cohort["runs"]] == [0, 5]
    assert cohort["course"] == sorted(cohort["course"])
    assert f"epsilon {math.ceil(100 * document['epsilon']) / 100:.2f}" in html
    rows = list(csv.DictReader(table.splitlines()))
    assert [row["run"] for row in rows] == ["first", "second"]
    assert float(rows[0]["cohort_epsilon"]) == document["epsilon"]
    assert f"{document['epsilon']:.3f}" in capsys.readouterr().out


def test_rounds_left_are_the_last_that_fit(path, tmp_path):
    _, document, _, _ = report(path, tmp_path, "--max-epsilon", "8")
    left = document["cohorts"][0]["rounds_left"]

    def total(more):
        precision = 10 / 4.0**2 + (5 + more) / 8.0**2
        return dp_accounting.get_epsilon_gaussian(1 / math.sqrt(precision), 1e-4)

    assert total(left) <= 8 < total(left + 1)


def test_nothing_is_fetched_and_no_patient_is_named(path, tmp_path, capsys):
    _, document, html, table = report(path, tmp_path)
    assert not re.search(r"https?://|src=|<script|<link|@import|url\(", html)
    assert "ZQXCANARYQXZ" not in json.dumps(document) + html + table + capsys.readouterr().out


def test_a_changed_ledger_gives_no_figure(path, tmp_path, capsys):
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM entries WHERE sequence = 5")
    connection.close()
    code, document, html, _ = report(path, tmp_path)
    assert code == 1
    assert "NOT VERIFIED" in html
    assert "NOT VERIFIED" in capsys.readouterr().err
    assert document["epsilon"] is None
    assert document["cohorts"] == []
    assert "epsilon" not in re.sub(r"<style>.*</style>", "", html, flags=re.DOTALL)


def test_a_signed_head_must_still_be_there(path, tmp_path):
    _, document, _, _ = report(path, tmp_path)
    spend(Ledger(path), noise_multiplier=9.0, run="third", count=1)
    assert report(path, tmp_path, "--expect-head", document["head"])[0] == 0
    assert report(path, tmp_path, "--expect-head", "f" * 64)[0] == 1


def test_seeded_noise_is_called_what_it_is(tmp_path, capsys):
    spend(Ledger(tmp_path / "l"), noise_multiplier=4.0, run="rehearsal", count=1, noise=NoiseSource.SEEDED)
    _, _, html, _ = report(tmp_path / "l", tmp_path)
    assert "protected nobody" in html
    assert "SEEDED" in capsys.readouterr().out


def test_unprotected_releases_are_unbounded(path, tmp_path, capsys):
    ledger = Ledger(path)
    cohort = ledger.cohort(PATIENTS[:1])
    release = Unprotected(purpose=Purpose.EVALUATION, run="x", cohort=cohort.fingerprint, num_patients_declared=0)
    ledger.note_unprotected(release, cohort, NO_LIMIT)
    code, document, html, _ = report(path, tmp_path)
    assert code == 0
    assert document["epsilon"] is None
    assert "Nothing bounds" in html
    assert "unbounded" in capsys.readouterr().out


@pytest.mark.parametrize(("option", "value"), [("--out", "report.pdf"), ("--delta", "2")])
def test_wrong_options(path, option, value, capsys):
    assert main(["privacy-report", "--ledger", str(path), option, value]) == 2
    assert f"error: Expected {option}={value}" in capsys.readouterr().err
