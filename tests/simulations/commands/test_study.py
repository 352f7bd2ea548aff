"""What a study's command asks for; that it runs is tested in tests/simulations/studies."""

import pytest
import torch

from simulations.commands.app import main
from simulations.studies import study as studies
from simulations.studies.protocols import PROTOCOLS
from simulations.studies.purposes import CROSS_VALIDATION, PURPOSES, SEARCH
from simulations.studies.runner import default_workers


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The studies that were run and reported, with their number of workers."""
    found, reported = [], []
    monkeypatch.setattr(
        studies, "run_study", lambda study, _console, *, num_workers: found.append((study, num_workers))
    )
    monkeypatch.setattr(studies, "report", lambda study, _rows, _console: reported.append(study))
    monkeypatch.chdir(tmp_path)
    # The command sets them for its whole process.
    num_threads = torch.get_num_threads()
    yield found
    torch.set_num_threads(num_threads)
    assert reported == [study for study, _ in found]


def test_every_study_has_a_purpose_and_a_command():
    assert set(PURPOSES) == {*PROTOCOLS, CROSS_VALIDATION, SEARCH}


@pytest.mark.parametrize("name", PURPOSES)
def test_what_is_not_given(asked, tmp_path, name):
    assert main(["study", name]) == 0
    ((study, num_workers),) = asked
    assert (study.protocol, study.overrides, study.seeds) == (name, (), (0,))
    assert study.folder == tmp_path / "runs" / name
    assert num_workers == default_workers()
    assert study.num_folds == (5 if name in {CROSS_VALIDATION, SEARCH} else 0)
    assert bool(study.candidates) == (name == SEARCH)


@pytest.mark.parametrize("name", PURPOSES)
def test_what_is_given(asked, tmp_path, name):
    flags = ["--seeds", "3,1", "--workers", "4", "--out", "here"]
    if study_has_folds := name in {CROSS_VALIDATION, SEARCH}:
        flags += ["--folds", "7"]
    if name == SEARCH:
        (tmp_path / "mine.yaml").write_text("one: [privacy=off]\n")
        flags += ["--candidates", "mine.yaml"]
    assert main(["study", name, "preset=smoke", *flags, "training.num_rounds=2"]) == 0
    ((study, num_workers),) = asked
    assert study.overrides == ("preset=smoke", "training.num_rounds=2")
    assert (study.seeds, num_workers, study.folder) == ((3, 1), 4, tmp_path / "here")
    assert study.num_folds == (7 if study_has_folds else 0)
    assert [candidate.name for candidate in study.candidates] == (["one"] if name == SEARCH else [])


@pytest.mark.parametrize("flag", ["--folds", "--candidates"])
def test_flags_of_other_studies_are_refused(asked, flag, capsys):
    assert main(["study", "epsilon", flag, "2"]) == 2
    assert f"No such option '{flag}'" in capsys.readouterr().err
    assert asked == []
