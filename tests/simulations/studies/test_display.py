"""What a person sees while a study runs."""

import io

import pytest
from rich.console import Console

from shared_model.config.composition import compose
from simulations.studies import display as module
from simulations.studies.display import StudyDisplay
from simulations.studies.jobs import Job


@pytest.fixture
def jobs():
    configs = [compose(["preset=smoke", "data.root=unused", "run.dir=unused", f"seed={seed}"]) for seed in (0, 1)]
    return [Job(name=name, config=config) for name, config in zip(("first", "second"), configs, strict=True)]


@pytest.fixture
def show(jobs, make_row, monkeypatch):
    """Show the first job's end and the second's beginning, and return what was printed."""
    monkeypatch.setattr(module, "read_row", lambda job, first: make_row(job.name, auroc=0.8, half_width=0.05))

    def run(*, is_terminal):
        first, second = jobs
        console = Console(file=io.StringIO(), force_terminal=is_terminal, width=120)
        with StudyDisplay(console) as display:
            display.begin(2)
            display.on_start(first)
            display.on_start(second)
            display.on_done(first)
            display.on_start(first)
        return console.file.getvalue()

    return run


def test_the_bar_names_what_runs(show):
    shown = show(is_terminal=True)
    assert "seed 1: second + seed 0: first" in shown
    assert "1/2" in shown
    assert "AUC" not in shown


def test_a_file_gets_a_line_for_every_finished_run(show):
    lines = [line.strip() for line in show(is_terminal=False).splitlines()]
    assert "seed 0  first  AUC 0.800 (0.750 to 0.850)" in lines
