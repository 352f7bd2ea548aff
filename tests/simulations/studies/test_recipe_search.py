"""The search for a recipe: candidates, their table, and a small one from the command line."""

import numpy as np
import pytest

from shared_model.config.composition import compose
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError
from simulations.commands.app import main
from simulations.studies.protocols import cross_validation
from simulations.studies.recipe_search import (
    CANDIDATES_FILE,
    TARGET_EPSILONS,
    Candidate,
    read_candidates,
    search_runs,
    search_table,
    write_search,
)
from simulations.studies.text_tables import TextTable


def test_changes_are_paired_by_fold_and_seed(make_row):
    candidates = (Candidate(name="first", overrides=()), Candidate(name="other", overrides=("seed=1",)))
    values = np.random.default_rng(0).random((2, 2, 2, 3))
    rows = [
        make_row(f"{candidate.name}, epsilon {epsilon:g}, fold {fold + 1}", seed=seed, auroc=values[i, j, seed, fold])
        for i, candidate in enumerate(candidates)
        for j, epsilon in enumerate((8.0, 1.0))
        for seed in range(2)
        for fold in range(3)
    ]
    table = search_table(rows, candidates, 3)
    lines = table.lines
    assert table.header == ["candidate", "epsilon 8", "change", "epsilon 1", "change"]
    assert lines[0] == ["first", f"{values[0, 0].mean():.3f}", "-", f"{values[0, 1].mean():.3f}", "-"]
    change = (values[1, 1] - values[0, 1]).ravel()
    assert lines[1][4] == f"{change.mean():+.3f} ± {change.std(ddof=1) / np.sqrt(6):.3f}"


def test_a_fold_of_one_class_is_named(make_row):
    row = make_row("first, epsilon 8, fold 1", auroc=None)
    with pytest.raises(ConfigError, match="both classes in first, epsilon 8, fold 1: choose fewer folds"):
        search_table([row], (Candidate(name="first", overrides=()),), 1)


def test_runs_cross_validate_a_candidate_at_every_target_epsilon(data):
    candidate = Candidate(name="wide", overrides=("model.hidden_width=8",))
    runs = search_runs(data, candidate, num_folds=2)
    assert [run.name for run in runs] == [f"wide, epsilon {e:g}, fold {n}" for e in TARGET_EPSILONS for n in (1, 2)]
    folds = cross_validation(data, num_folds=2)
    for run, fold in zip(runs, folds * len(TARGET_EPSILONS), strict=True):
        assert run.overrides[0] == "model.hidden_width=8"
        assert run.overrides[2:] == fold.overrides
    configs = [compose(["preset=smoke", "data.root=unused", "run.dir=unused", *run.overrides]) for run in runs]
    assert [config.privacy.target_epsilon for config in configs] == [8, 8, 1, 1]


def test_the_table_is_written_with_where_it_came_from(tmp_path):
    table = TextTable(header=["candidate", "epsilon 8"], lines=[["first", "0.800"]])
    write_search(tmp_path, "search: seed=0", table, "Provenance: x\n")
    assert (tmp_path / "search.md").read_text() == (
        "# search: seed=0\n\n| candidate | epsilon 8 |\n| --- | --- |\n| first | 0.800 |\n\n"
        "Mean AUC over folds and seeds; change against the first, paired by fold and seed, ± standard error.\n\n"
        "Provenance: x\n"
    )


def test_the_candidates_that_ship_can_all_be_composed():
    candidates = read_candidates(CANDIDATES_FILE)
    assert candidates[0].overrides == ()
    assert len(candidates) > 20
    asked = compose(["preset=cbis_mass", "data.root=."])
    for candidate in candidates[1:]:
        assert compose(["preset=cbis_mass", "data.root=.", *candidate.overrides]) != asked


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Expected candidates in .*: .*No such file"),
        ("a: [", "Expected candidates in"),
        ("[]", "to name candidates, each with a list of overrides"),
        ("{}", "to name candidates, each with a list of overrides"),
        ("a: seed=1", "to name candidates, each with a list of overrides"),
        ("a: [1]", "to name candidates, each with a list of overrides"),
    ],
)
def test_other_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "candidates.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_candidates(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pictures")
def test_a_search_from_the_command_line(smoke, tmp_path, capsys):
    path = tmp_path / "candidates.yaml"
    path.write_text("as asked: []\nboth views: [data.views=all]\n")
    overrides = ["preset=smoke", f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}"]
    options = ["--folds", "2", "--candidates", str(path), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert (
        main(["study", "search", *overrides, "training.num_rounds=1", "evaluation.bootstrap_resamples=100", *options])
        == 0
    )
    assert "both views" in capsys.readouterr().out
    lines = (tmp_path / "out" / "search.md").read_text().splitlines()
    assert sum(line.startswith(("| as asked |", "| both views |")) for line in lines) == 2
    assert lines[-1] == f"Provenance: source {source_fingerprint()[:12]}, seeds 0"
    assert len(list((tmp_path / "out" / "seed-0").glob("*fold*/results.json"))) == 8
