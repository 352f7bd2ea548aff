"""The utility table: means, deviations and intervals by a second way, and what stands in the README."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from server.evaluation.predictions import Predictions
from server.results.estimate import Estimate
from server.results.evidence import Evidence, GroupResult, LevelResult
from shared_model.config.choices import PrivacyMode
from shared_model.config.composition import compose
from shared_model.metrics.intervals import ConfidenceInterval
from simulations.federation.prepare import prepare
from simulations.studies import privacy_utility as utility
from simulations.studies.privacy_utility import (
    INPUTS,
    PROMISES,
    UTILITY,
    Entry,
    comparison_cells,
    comparisons,
    entries,
    table_cells,
    to_text,
    write_utility,
)
from simulations.studies.protocols import Ground
from simulations.studies.study import Study
from simulations.studies.tables import Row

REPOSITORY = Path(__file__).resolve().parents[3]
LABELS = np.array([0, 1, 0, 1, 0, 1, 0, 1])
PATIENTS = np.array([0, 0, 1, 1, 2, 3, 4, 5])


def _run(cell, seed, scores, *, epsilon, labels=LABELS, by_site=()):
    auroc = Estimate(name="auroc", value=float(roc_auc_score(labels, scores)), interval=None)
    lesions = LevelResult(
        level="lesion",
        num_units=len(labels),
        num_malignant=int(sum(labels)),
        auroc_interval_delong=None,
        tp=None,
        fp=None,
        tn=None,
        fn=None,
        figures=(auroc,),
    )
    groups = tuple(
        GroupResult(
            attribute="site",
            value=site,
            num_lesions=4,
            num_malignant=2,
            num_patients=3,
            is_small=True,
            figures=(Estimate(name="auroc", value=value, interval=None),),
        )
        for site, value in by_site
    )
    row = Row(
        cell=cell,
        seed=seed,
        epsilon=epsilon,
        evidence=Evidence(prevalence=0.01, levels=(lesions,), groups=groups),
        against_first=None,
        source=64 * "5",
    )
    return row, Predictions(labels=np.asarray(labels), scores=np.asarray(scores), patients=PATIENTS, attributes={})


def _scores(seed):
    return np.random.default_rng(seed).random(len(LABELS)) + 0.3 * LABELS


def test_means_deviations_and_intervals_equal_a_loop():
    runs = [_run("image, epsilon 8", seed, _scores(seed), epsilon=8.0) for seed in range(3)]
    (entry,) = entries(runs, num_resamples=40)
    values = [roc_auc_score(LABELS, _scores(seed)) for seed in range(3)]
    assert (entry.name, entry.epsilon, entry.num_seeds) == ("image", 8.0, 3)
    assert entry.auroc == pytest.approx(np.mean(values))
    assert entry.deviation == pytest.approx(np.std(values, ddof=1))
    # All seeds see the same patients in every resample, so the loop draws them once.
    seed = int(utility.numpy_generator(0, "utility").integers(2**63))
    generator, names, means = np.random.default_rng(seed), np.unique(PATIENTS), []
    while len(means) < 40:
        drawn = names[generator.integers(len(names), size=len(names))]
        rows = np.concatenate([np.flatnonzero(name == PATIENTS) for name in drawn])
        if 0 < LABELS[rows].mean() < 1:
            means.append(np.mean([roc_auc_score(LABELS[rows], _scores(seed)[rows]) for seed in range(3)]))
    assert [entry.interval.low, entry.interval.high] == pytest.approx(np.percentile(means, [2.5, 97.5]))


def test_seeds_with_other_test_lesions_have_no_common_interval():
    other = LABELS[::-1].copy()
    runs = [
        _run("image, no privacy", 0, _scores(0), epsilon=None),
        _run("image, no privacy", 1, _scores(1), epsilon=None, labels=other),
    ]
    (entry,) = entries(runs, num_resamples=10)
    assert entry.interval is None
    assert entry.name == "image"


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        ([(("A", 0.6), ("B", 0.9)), (("A", 0.5), ("B", 0.8)), (("A", 0.7), ("B", None))], ("A", 0.6)),
        ([(("A", 0.6), ("B", 0.9)), (("A", 0.9), ("B", 0.5)), (("A", 0.7), ("B", 0.8))], (None, 0.6)),
        ([(("A", 0.6),), (), (("A", 0.7),)], (None, None)),
    ],
    ids=["the same", "another", "none"],
)
def test_the_worst_hospital_is_that_of_every_seed(sites, expected):
    runs = [_run("x, epsilon 8", s, _scores(s), epsilon=8.0, by_site=by_site) for s, by_site in enumerate(sites)]
    (entry,) = entries(runs, num_resamples=10)
    assert (entry.worst_site, entry.worst_auroc) == (expected[0], pytest.approx(expected[1]))


def _entry(name, epsilon, auroc):
    return Entry(
        name=name,
        epsilon=epsilon,
        num_seeds=5,
        auroc=auroc,
        deviation=0.004,
        interval=ConfidenceInterval(low=auroc - 0.05, high=auroc + 0.05),
        worst_site="MGH",
        worst_auroc=auroc - 0.1,
    )


@pytest.fixture
def found():
    main = [_entry(name, epsilon, 0.8) for name in INPUTS for epsilon in PROMISES]
    return [*main, _entry("centralised", None, 0.86), _entry("centralised", 8.0, 0.85)]


def test_tables_hold_every_input_promise_and_published_row(found):
    header, lines = table_cells(found)
    assert header == ["inputs", "no privacy", "epsilon 8", "epsilon 4", "epsilon 2", "epsilon 1"]
    assert lines[0] == ["image", *["0.800 ± 0.004 (0.750 to 0.850)"] * 5]
    assert lines[-1] == ["published: Swin-T, pre-trained on synthetic images", "-", "-", "-", "-", "0.661"]
    header, lines = comparison_cells(found)
    assert header == ["training", "no privacy", "epsilon 8", "worst hospital, epsilon 8"]
    assert lines[1] == [
        "centralised",
        "0.860 ± 0.004 (0.810 to 0.910)",
        "0.850 ± 0.004 (0.800 to 0.900)",
        "0.750 (MGH)",
    ]


def test_files_are_written_whole(found, tmp_path):
    write_utility(tmp_path, found, "Provenance: here\n")
    assert (tmp_path / "utility.md").read_text() == f"{to_text(found)}\nProvenance: here\n"
    lines = (tmp_path / "utility.csv").read_text().splitlines()
    assert lines[0].startswith("inputs,epsilon,seeds,auroc")
    assert lines[1] == '"image",,5,0.8000,0.0040,0.7500,0.8500,MGH,0.7000'.replace('"', "")
    assert len(lines) == 1 + len(found)
    assert (tmp_path / "utility.png").stat().st_size > 10_000


@pytest.mark.slow
def test_every_cell_is_an_experiment_of_its_own(smoke, tmp_path):
    data = [f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}"]
    ground = Ground.of(prepare(compose(["preset=smoke", *data, f"run.dir={tmp_path}"]), on_progress=lambda *_: None))
    study = Study(protocol=UTILITY, overrides=("preset=smoke", *data), seeds=(0,), folder=tmp_path)
    jobs = study.jobs(ground, 0)
    assert len(jobs) == len({job.folder for job in jobs}) == 5 * len(INPUTS) + 2 * len(comparisons(ground))
    configs = {job.name: job.config for job in jobs}
    assert configs["image, no privacy"].privacy.mode is PrivacyMode.OFF
    assert configs["image, epsilon 2"].privacy.target_epsilon == 2
    # What is compared is tested on the same lesions, whoever trains.
    holdouts = {
        configs[f"{name}, epsilon 8"].evaluation.holdout for name in ("centralised", "MGH alone", "late fusion")
    }
    assert len(holdouts) == 1
    assert configs["MGH alone, epsilon 8"].federation.sites == ("MGH",)
    assert len(configs["patients dealt by Dirichlet(0.5), 10 sites, epsilon 8"].federation.sites) == 10


def test_the_docs_show_the_tables_that_were_written():
    shown = (REPOSITORY / "docs" / "results.md").read_text()
    tables = (REPOSITORY / "docs" / "generated" / "utility.md").read_text().split("\n\n")[::2][:2]
    assert all(table.startswith("| ") and table.strip() in shown for table in tables)
