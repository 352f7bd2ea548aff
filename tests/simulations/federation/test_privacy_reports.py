"""Reports of a federation: the largest site, the sum over sites, and when neither may be stated."""

import dataclasses
import json
import math

import pytest
from scipy.optimize import brentq
from scipy.stats import norm

from client.privacy.ledger import Ledger
from client.privacy.ledger_entries import Purpose, Reserved, Unprotected
from client.privacy.ledger_history import Limits
from client.privacy.report.figures import report_on
from shared_model.config.choices import NoiseSource
from shared_model.privacy.mechanism import Mechanism
from simulations.federation.privacy_reports import write_privacy_reports

RELEASE = Reserved(
    purpose=Purpose.TRAINING,
    run="a" * 64,
    server_round=1,
    request="",
    cohort="",
    num_patients_declared=10,
    mechanism=Mechanism(noise_multiplier=2.431, sampling_rate=1.0, num_steps=1),
    delta=1e-4,
    target_epsilon=100.0,
    max_grad_norm=0.5,
    noise=NoiseSource.SECURE,
)


@pytest.fixture
def site(tmp_path):
    def make(name, *, count=0, patients=("P", "Q"), **changes):
        path = tmp_path / name / "ledger.sqlite"
        ledger = Ledger(path) if path.exists() else Ledger.create(path)
        cohort = ledger.cohort(patients)
        for number in range(count):
            release = dataclasses.replace(RELEASE, request=f"{patients} {number}", cohort=cohort.fingerprint, **changes)
            limits = Limits(max_epsilon=None, max_delta=1e-3)
            ledger.commit(ledger.reserve(release, cohort, limits, reply_bytes=100), b"reply")
        return ledger.path

    return make


@pytest.fixture
def written(tmp_path):
    def write(ledgers):
        write_privacy_reports(ledgers, tmp_path / "out")
        assert {path.name for path in (tmp_path / "out").iterdir()} == {
            f"{name}.{suffix}" for name in (*ledgers, "federation") for suffix in ("html", "json")
        }
        return json.loads((tmp_path / "out/federation.json").read_text()), (
            tmp_path / "out/federation.html"
        ).read_text()

    return write


def test_one_site_counts_the_largest_and_every_site_the_sum(site, written):
    ledgers = {"A": site("A", count=2), "B": site("B", count=5), "C": site("C")}
    document, html = written(ledgers)
    first, second = (report_on(ledgers[name]).epsilon for name in "AB")
    assert document["training_patients"]["epsilon_at_one_site"] == second
    assert document["training_patients"]["epsilon_at_every_site"] == first + second
    assert (document["delta"], document["delta_at_every_site"]) == (1e-4, pytest.approx(3e-4))
    assert "epsilon 3." in html


def test_mu_stands_beside_epsilon_and_its_squares_add_up(site, written):
    document, html = written({"A": site("A", count=2), "B": site("B", count=5), "C": site("C")})
    mus = [math.sqrt(count) / 2.431 for count in (2, 5, 0)]
    assert [document["sites"][name]["training_mu"] for name in "ABC"] == pytest.approx(mus)
    assert document["training_patients"]["mu_at_one_site"] == pytest.approx(mus[1])
    assert document["training_patients"]["mu_at_every_site"] == pytest.approx(math.sqrt(7) / 2.431)
    assert f"mu {math.ceil(100 * mus[1]) / 100:.2f} (Gaussian" in html


def test_sampled_patients_have_no_mu_and_the_page_says_nothing_of_one(site, written):
    sampled = Mechanism(noise_multiplier=2.431, sampling_rate=0.5, num_steps=1)
    document, html = written({"A": site("A", count=1), "B": site("B", count=1, mechanism=sampled)})
    assert document["sites"]["B"]["mu"] is None
    assert document["all_patients"]["mu_at_one_site"] is document["all_patients"]["mu_at_every_site"] is None
    assert document["all_patients"]["epsilon_at_every_site"] > 0
    assert "Gaussian" not in html


def test_training_and_evaluation_patients_are_told_apart(site, written):
    path = site("A", count=1)
    site("A", count=6, patients=("X", "Y"), purpose=Purpose.EVALUATION)
    document, _ = written({"A": path})
    assert document["training_patients"]["epsilon_at_one_site"] == report_on(path).cohorts[0].epsilon
    assert document["all_patients"]["epsilon_at_one_site"] == report_on(path).cohorts[1].epsilon
    assert report_on(path).cohorts[0].epsilon < report_on(path).cohorts[1].epsilon


def gaussian_epsilon(count, delta):
    """Return the epsilon of ``count`` releases of ``RELEASE`` at ``delta``: Balle & Wang 2018, Theorem 8, inverted."""
    separation = math.sqrt(count) / RELEASE.mechanism.noise_multiplier

    def excess(epsilon):
        half, ratio = separation / 2, epsilon / separation
        return norm.cdf(half - ratio) - math.exp(epsilon) * norm.cdf(-half - ratio) - delta

    return brentq(excess, 0, 100)


def test_totals_by_the_closed_form_of_the_gaussian_mechanism(site, written):
    counts = {"A": 2, "B": 5, "C": 1}
    document, _ = written({name: site(name, count=count) for name, count in counts.items()})
    expected = {name: gaussian_epsilon(count, 1e-4) for name, count in counts.items()}
    for name in counts:
        assert document["sites"][name]["training_epsilon"] == pytest.approx(expected[name], rel=1e-3)
    for patients in ("training_patients", "all_patients"):
        assert document[patients]["epsilon_at_one_site"] == pytest.approx(max(expected.values()), rel=1e-3)
        assert document[patients]["epsilon_at_every_site"] == pytest.approx(sum(expected.values()), rel=1e-3)


def test_secure_sums_have_both_prices_of_the_federation(site, written):
    share = dataclasses.replace(RELEASE.mechanism, noise_multiplier=RELEASE.mechanism.noise_multiplier / 2)
    ledgers = {"A": site("A", count=2, own_share=share), "B": site("B", count=5), "C": site("C")}
    document, html = written(ledgers)
    # Half the noise is four releases for one.
    alone = [gaussian_epsilon(8, 1e-4), gaussian_epsilon(5, 1e-4), 0.0]
    assert [document["sites"][name]["training_epsilon_alone"] for name in "ABC"] == pytest.approx(alone, rel=1e-3)
    found = document["training_patients"]
    assert found["epsilon_at_one_site"] == pytest.approx(gaussian_epsilon(5, 1e-4), rel=1e-3)
    assert found["epsilon_alone_at_one_site"] == pytest.approx(alone[0], rel=1e-3)
    assert found["epsilon_alone_at_every_site"] == pytest.approx(alone[0] + alone[1], rel=1e-3)
    assert f"epsilon {math.ceil(1000 * found['epsilon_alone_at_one_site']) / 1000:.3f}</strong>" in html
    assert "to whoever breaks the sums" in html


def test_without_secure_sums_the_page_says_nothing_of_them(site, written):
    document, html = written({"A": site("A", count=2)})
    assert document["num_secure_sums"] == 0
    assert "breaks" not in html


def test_a_release_without_noise_leaves_no_bound(site, written):
    ledgers = {"A": site("A", count=1), "B": site("B", count=1)}
    ledger = Ledger(ledgers["A"])
    cohort = ledger.cohort(("P", "Q"))
    exact = Unprotected(purpose=Purpose.EVALUATION, run="b" * 64, cohort=cohort.fingerprint, num_patients_declared=2)
    ledger.note_unprotected(exact, cohort, Limits(max_epsilon=None, max_delta=1e-3))
    document, html = written(ledgers)
    assert document["sites"]["A"]["epsilon"] is None
    assert document["sites"]["B"]["epsilon"] is not None
    assert document["all_patients"] == dict.fromkeys(document["training_patients"])
    assert "unbounded" in html


def test_sites_that_released_nothing_have_spent_nothing(site, written):
    document, _ = written({"A": site("A"), "B": site("B")})
    assert (document["delta"], document["delta_at_every_site"]) == (None, None)
    assert set(document["training_patients"].values()) == {0.0}


def test_every_site_has_its_own_report(site, written, tmp_path):
    ledgers = {"A": site("A", count=2), "B": site("B", count=3)}
    written(ledgers)
    for name, path in ledgers.items():
        document = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert document["epsilon"] == report_on(path).epsilon
        assert name in (tmp_path / "out" / f"{name}.html").read_text()


def test_all_sites_are_priced_at_one_delta(site, written):
    document, _ = written({"A": site("A", count=2, delta=1e-6), "B": site("B", count=2)})
    assert document["sites"]["A"] == document["sites"]["B"]


def test_seeded_noise_is_flagged(site, written):
    document, html = written({"A": site("A", count=1, noise=NoiseSource.SEEDED), "B": site("B", count=1)})
    assert document["is_noise_secret"] is False
    assert "SEEDED" in html


def test_one_site_that_is_not_verified_leaves_no_figure_of_the_federation(site, written):
    ledgers = {"A": site("A", count=2), "B": site("B", count=2)}
    ledgers["A"].with_name("ledger.sqlite.head").unlink()
    document, html = written(ledgers)
    assert document["not_verified"] == ["A"]
    assert set(document["training_patients"].values()) == {None}
    assert "NOT VERIFIED: A" in html
    assert "unbounded" not in html
    assert 'class="figure"' not in html


@pytest.mark.parametrize("name", ["federation", "../A", ""])
def test_site_that_cannot_name_its_files(name, site, tmp_path):
    with pytest.raises(ValueError, match="to be a file's name other than 'federation'"):
        write_privacy_reports({name: site("A", count=1)}, tmp_path / "out")


def test_no_site(tmp_path):
    with pytest.raises(ValueError, match="at least one site"):
        write_privacy_reports({}, tmp_path / "out")


def test_the_page_says_what_it_does_not_cover_before_any_figure(site, written):
    _, html = written({"A": site("A", count=1)})
    assert html.index("does not cover exact histograms, time") < html.index('class="figure"')
