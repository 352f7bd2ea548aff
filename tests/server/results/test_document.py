"""The results document: round trip, strictness in both directions, atomic files."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from server.results.document import (
    SCHEMA_VERSION,
    AurocSource,
    FinalResult,
    PrivacyResult,
    PrivacyUnit,
    ReferenceResult,
    Results,
    RoundResult,
    RunProvenance,
    SiteResult,
    ThresholdSource,
    read_results,
    write_results,
)
from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, Level, LevelResult
from shared_model.config.choices import NoiseSource
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.system import files as files_module

FINAL = FinalResult(
    auroc=0.77,
    auroc_interval=ConfidenceInterval(low=0.72, high=0.82),
    auroc_source=AurocSource.SERVER_HOLDOUT,
    auroc_site_histograms=0.769,
    auroc_site_histograms_error_bound=0.0004,
    auroc_site_histograms_noise_standard_error=0.0,
    sensitivity=0.9,
    sensitivity_interval=ConfidenceInterval(low=0.85, high=0.95),
    specificity=0.45,
    specificity_interval=ConfidenceInterval(low=0.4, high=0.5),
    threshold=0.312,
    threshold_source=ThresholdSource.PUBLIC_PATIENTS,
    target_sensitivity=0.9,
    num_lesions=378,
    num_patients=201,
    round=2,
)
ROUND = RoundResult(
    round=1,
    auroc=0.6,
    sensitivity=0.91,
    specificity=0.2,
    threshold=0.4,
    epsilon=3.5,
    num_sites=2,
    failures=1,
    warnings=(),
    outliers=(),
    seconds=1.25,
)
SITE = SiteResult(
    site="Universitätsklinikum",
    num_patients_declared=210,
    epsilon=7.9,
    delta=1e-4,
    noise_multiplier=2.5,
    epsilon_by_colluding=(7.9, 13.5),
    auroc=0.71,
    num_test_lesions=132,
)
PRIVACY = PrivacyResult(
    unit=PrivacyUnit.PATIENT,
    adjacency="add or remove one patient",
    mechanism="Gaussian",
    target_epsilon=8.0,
    noise_source=NoiseSource.SECURE,
    secure_sum=True,
    num_noise_shares=2,
    max_colluding=0,
    evaluation="not noised",
    statement="Every patient of a site is protected with epsilon 8 at delta 1e-4.",
)
PROVENANCE = RunProvenance(
    source_fingerprint="ab12",
    config_fingerprint="cd34",
    versions={"torch": "2.13.0", "flwr": "1.41.0"},
    python="3.11.9",
    platform="Linux",
    started="2025-01-02T03:04:05+00:00",
    finished="2025-01-02T03:14:05+00:00",
    seconds=600.0,
)
FIGURES = (
    Estimate(name="auroc", value=0.77, interval=ConfidenceInterval(low=0.72, high=0.82)),
    Estimate(name="ppv", value=None, interval=None),
)
EVIDENCE = Evidence(
    prevalence=0.006,
    levels=(
        LevelResult(
            level=Level.LESION,
            num_units=378,
            num_malignant=147,
            auroc_interval_delong=ConfidenceInterval(low=0.71, high=0.83),
            tp=140,
            fp=100,
            tn=131,
            fn=7,
            figures=FIGURES,
        ),
    ),
    groups=(
        GroupResult(
            attribute="view",
            value="CC",
            num_lesions=177,
            num_malignant=67,
            num_patients=162,
            is_small=False,
            figures=FIGURES[:1],
        ),
    ),
)
RESULTS = Results(
    preset="cbis_mass",
    seed=7,
    final=FINAL,
    evidence=EVIDENCE,
    rounds=(
        ROUND,
        dataclasses.replace(
            ROUND,
            round=2,
            auroc=None,
            sensitivity=None,
            specificity=None,
            threshold=None,
            warnings=("the ledger of WFU does not continue from what it showed before",),
        ),
    ),
    sites=(SITE, dataclasses.replace(SITE, site="WFU", auroc=None, num_test_lesions=None)),
    absent=(),
    privacy=PRIVACY,
    reference=ReferenceResult(
        data_set="CBIS-DDSM",
        sites=("WFU",),
        num_patients=397,
        licence="CC BY 3.0",
        citation="Sawyer-Lee et al. 2016",
        file_sha256="ab" * 32,
        has_head=True,
    ),
    provenance=PROVENANCE,
)
NO_PRIVACY = dataclasses.replace(
    RESULTS,
    evidence=None,
    reference=None,
    final=dataclasses.replace(
        FINAL,
        auroc_source=AurocSource.SITE_HISTOGRAMS,
        auroc_interval=None,
        sensitivity_interval=None,
        specificity_interval=None,
        num_patients=None,
    ),
    rounds=(dataclasses.replace(ROUND, epsilon=None),),
    sites=(dataclasses.replace(SITE, epsilon=None, delta=None, noise_multiplier=None, epsilon_by_colluding=()),),
    privacy=dataclasses.replace(
        PRIVACY,
        unit=PrivacyUnit.NONE,
        adjacency=None,
        mechanism=None,
        target_epsilon=None,
        noise_source=None,
        secure_sum=False,
        num_noise_shares=1,
    ),
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.json"


def change(path, *keys, value):
    """Write the valid document with one value changed."""
    write_results(RESULTS, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    holder = document
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = value
    path.write_text(json.dumps(document), encoding="utf-8")


@pytest.mark.parametrize("results", [RESULTS, NO_PRIVACY])
def test_round_trip(path, results):
    write_results(results, path)
    assert read_results(path) == results


def test_the_document_has_the_promised_keys(path):
    write_results(RESULTS, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert list(document) == [
        "schema_version", "preset", "seed", "final", "evidence", "rounds", "sites", "absent", "privacy", "reference",
        "provenance",
    ]  # fmt: skip
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["final"]["auroc_interval"] == [0.72, 0.82]
    assert document["final"]["auroc_source"] == "server_holdout"
    assert document["final"]["threshold_source"] == "public_patients"
    assert document["privacy"]["unit"] == "patient"
    assert document["provenance"]["versions"] == {"torch": "2.13.0", "flwr": "1.41.0"}
    assert document["rounds"][1]["auroc"] is None
    assert document["sites"][0]["site"] == "Universitätsklinikum"


def test_a_whole_number_is_read_as_the_float_it_stands_for(path):
    change(path, "privacy", "target_epsilon", value=8)
    target = read_results(path).privacy.target_epsilon
    assert (target, type(target)) == (8.0, float)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("schema_version",), 1, f"Expected schema_version=1 = {SCHEMA_VERSION}"),
        (("surprise",), 1, r"Unknown key results\.surprise\. Known here: schema_version, preset, "),
        (("final", "accuracy"), 0.5, r"Unknown key results\.final\.accuracy\."),
        (("final",), None, "results.final to be a mapping, got null"),
        (("final", "auroc"), "0.7", "results.final.auroc to be a number or null, got '0.7'"),
        (("final", "auroc"), True, "results.final.auroc to be a number or null, got True"),
        (("final", "auroc"), 1.2, r"results.final.auroc=1.2 in \[0, 1\]"),
        (("final", "auroc_interval"), [0.1], "results.final.auroc_interval=.0.1. to be a list of low and high"),
        (("final", "auroc_interval"), [0.9, 0.1], "results.final.auroc_interval: Expected finite low=0.9 <= high=0.1"),
        (("final", "auroc_interval"), [0.1, "0.9"], r"results.final.auroc_interval\[1\] to be a number, got '0.9'"),
        (("final", "auroc_interval"), {"low": 0.1, "high": 0.9}, "auroc_interval=.* to be a list of low and high"),
        (("final", "auroc_interval"), [-0.1, 0.9], r"auroc_interval=.* in \[0, 1\]"),
        (("final", "auroc_source"), "guess", "to be one of server_holdout, site_histograms, got 'guess'"),
        (("final", "auroc_source"), [], "to be one of server_holdout, site_histograms"),
        (("final", "target_sensitivity"), None, "results.final.target_sensitivity to be a number, got null"),
        (("final", "num_lesions"), 3.5, "num_lesions to be a whole number or null, got 3.5"),
        (("rounds",), {}, "results.rounds to be a list, got"),
        (("rounds", 0, "seconds"), None, r"results.rounds\[0\].seconds to be a number, got null"),
        (("rounds", 0, "round"), 2, r"results.rounds=\[2, 2\] to be ascending"),
        (("sites", 0, "site"), "WFU", r"results.sites=\['WFU', 'WFU'\] to have different names"),
        (("sites", 0, "delta"), None, "to agree with the epsilon of every round and site"),
        (("sites", 0, "epsilon"), None, r"epsilon_by_colluding=\[7\.9, 13\.5\] to begin with epsilon"),
        (("rounds", 0, "epsilon"), None, "to agree with the epsilon of every round and site"),
        (("privacy", "noise_source"), "dice", "to be one of secure, seeded, got 'dice'"),
        (("provenance", "versions", "torch"), 2, "results.provenance.versions.torch to be text, got 2"),
    ],
)
def test_reading_refuses_another_document(path, keys, value, message):
    change(path, *keys, value=value)
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_reading_names_file_and_version_and_missing_keys(path):
    write_results(RESULTS, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["final"]["threshold"]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"schema version 7 in .*results.json: Missing key results\.final\.threshold; "
    ):
        read_results(path)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_reading_refuses_what_is_not_a_finite_number(path, constant):
    write_results(RESULTS, path)
    path.write_text(path.read_text(encoding="utf-8").replace("0.77,", f"{constant},"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.final\.auroc=-?(nan|inf) to be finite"):
        read_results(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", r"Expected results to be a mapping, got \[\]"),
        ('{"seed": 1, "seed": 2}', "every key once, got seed more than once"),
        ("{", "Expecting property name"),
    ],
)
def test_reading_refuses_text_that_is_no_such_document(path, text, message):
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_results(path)


def test_a_missing_file_is_an_os_error(path):
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        read_results(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1])
@pytest.mark.parametrize("name", ["auroc", "sensitivity", "specificity", "threshold", "target_sensitivity"])
def test_shares_are_shares(name, value):
    expected = r"in [\[(]0, 1\]" if math.isfinite(value) else "to be finite"
    with pytest.raises(ValueError, match=rf"FinalResult.{name}={value} {expected}"):
        dataclasses.replace(FINAL, **{name: value})


@pytest.mark.parametrize(
    ("valid", "changes", "message"),
    [
        (FINAL, {"auroc": None}, "auroc_interval=.* only with auroc of a server holdout"),
        (FINAL, {"auroc_source": AurocSource.SITE_HISTOGRAMS}, "only with auroc of a server holdout"),
        (FINAL, {"auroc_interval": ConfidenceInterval(low=-0.1, high=0.5)}, r"auroc_interval=.* in \[0, 1\]"),
        (FINAL, {"auroc_site_histograms": None}, "exactly where auroc_site_histograms is given"),
        (FINAL, {"threshold": None}, "sensitivity=0.9 only with a threshold"),
        (FINAL, {"target_sensitivity": 0.0}, r"target_sensitivity=0.0 in \(0, 1\]"),
        (FINAL, {"num_lesions": -1}, "num_lesions=-1 >= 0"),
        (FINAL, {"round": 0}, "round=0 >= 1"),
        (ROUND, {"seconds": math.inf}, "seconds=inf to be finite"),
        (ROUND, {"epsilon": math.nan}, "epsilon=nan to be finite"),
        (ROUND, {"failures": -1}, "failures=-1 >= 0"),
        (SITE, {"site": ""}, "site='' not to be empty"),
        (SITE, {"delta": 2.0}, r"delta=2.0 in \[0, 1\]"),
        (SITE, {"noise_multiplier": -1.0}, "noise_multiplier=-1.0 >= 0"),
        (PRIVACY, {"target_epsilon": None}, "target_epsilon=null given exactly with unit=patient"),
        (PRIVACY, {"unit": PrivacyUnit.NONE}, "adjacency=.* given exactly with unit=patient"),
        (SITE, {"epsilon_by_colluding": ()}, r"epsilon_by_colluding=\[\] to begin with epsilon"),
        (SITE, {"epsilon_by_colluding": (7.8, 13.5)}, "to begin with epsilon"),
        (SITE, {"epsilon_by_colluding": (7.9, 7.8)}, "to be ascending"),
        (SITE, {"epsilon_by_colluding": (7.9, None, 9.0)}, "to be ascending"),
        (PRIVACY, {"num_noise_shares": 1}, "num_noise_shares=1 >= 2 with secure_sum=true"),
        (PRIVACY, {"secure_sum": False}, "num_noise_shares=2 == 1 with secure_sum=false"),
        (PRIVACY, {"secure_sum": False, "num_noise_shares": 1, "max_colluding": 1}, "max_colluding=1 == 0 without"),
        (RESULTS, {"privacy": dataclasses.replace(PRIVACY, num_noise_shares=3)}, "num_noise_shares=3 to agree with"),
        (PRIVACY, {"statement": ""}, "statement='' not to be empty"),
        (PROVENANCE, {"started": "2025-01-02T03:04:05"}, "started=.* with an offset from UTC"),
        (PROVENANCE, {"finished": "2025-01-02T03:04:04+00:00"}, "finished=.* >= started="),
        (PROVENANCE, {"started": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
        (PROVENANCE, {"python": ""}, "python='' not to be empty"),
        (RESULTS, {"schema_version": 0}, f"schema_version=0 = {SCHEMA_VERSION}"),
        (RESULTS, {"sites": (SITE, SITE)}, "to have different names"),
        (RESULTS, {"rounds": (ROUND, ROUND)}, "ascending"),
        (NO_PRIVACY, {"sites": (SITE,)}, "to agree with the epsilon"),
    ],
)
def test_an_impossible_result_does_not_exist(valid, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(valid, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": np.int64(7)}, r"Expected Results\.seed to be a whole number"),
        ({"seed": 7.0}, r"Expected Results\.seed to be a whole number, got 7\.0"),
        ({"preset": None}, r"Expected Results\.preset to be text, got null"),
        ({"preset": "\ud800"}, "Expected results that can be read back"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_results(dataclasses.replace(RESULTS, **changes), path)
    assert not path.exists()


@pytest.mark.parametrize(("name", "results"), [("private", RESULTS), ("not_private", NO_PRIVACY)])
def test_what_the_first_writer_of_this_schema_version_wrote_is_read_and_written_alike(path, name, results):
    """The files are of version 3 with the keys of version 7."""
    first = Path(__file__).with_name(f"schema_7_{name}.json")
    assert read_results(first) == results
    write_results(results, path)
    assert path.read_bytes() == first.read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    write_results(RESULTS, path)

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(files_module.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_results(NO_PRIVACY, path)
    monkeypatch.undo()
    assert read_results(path) == RESULTS
    assert list(path.parent.iterdir()) == [path]


def test_where_numbers_come_from_is_said_in_a_sentence():
    assert RESULTS.reference.statement == (
        "Feature constants and the head before training come from 397 public patients of WFU of CBIS-DDSM (CC BY 3.0), "
        "file abababababab: Sawyer-Lee et al. 2016."
    )
    alone = dataclasses.replace(RESULTS.reference, has_head=False, sites=())
    assert alone.statement.startswith("Feature constants come from 397 public patients of CBIS-DDSM (CC BY 3.0), ")
