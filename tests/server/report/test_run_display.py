"""What a person sees of a run: rounds as they finish, and the final tables, on a terminal and in a log file."""

import dataclasses
import io

import pytest
from rich.console import Console

from server.report.run_display import RunDisplay, print_results
from server.results.document import RESULTS_FILE, RoundResult, read_results

ROUND = RoundResult(
    round=1,
    auroc=0.75,
    sensitivity=0.5,
    specificity=None,
    threshold=0.25,
    epsilon=1.5,
    num_sites=2,
    failures=1,
    warnings=(),
    outliers=(),
    seconds=1.26,
)


@pytest.fixture
def config(federation):
    return federation.config()


@pytest.fixture
def results(finished_run):
    return read_results(finished_run / RESULTS_FILE)


def console(*, is_terminal=False):
    return Console(file=io.StringIO(), width=120, force_terminal=is_terminal, color_system=None)


def text_of(console):
    return console.file.getvalue()


class TestLines:
    """Where the output is no terminal, every event is one line."""

    def test_a_round_is_one_line(self, config):
        output = console()
        with RunDisplay(config, output) as display:
            display.on_round(ROUND)
        assert text_of(output) == (
            "round 1  AUC 0.750  sensitivity 0.500  specificity -  max epsilon 1.50  sites 2/3  seconds 1.3\n"
        )

    def test_a_round_that_was_not_evaluated(self, config):
        output, blind = console(), dataclasses.replace(ROUND, auroc=None, sensitivity=None, epsilon=None)
        with RunDisplay(config, output) as display:
            display.on_round(blind)
        assert "AUC -  sensitivity -  specificity -  max epsilon -" in text_of(output)

    def test_a_task_is_said_once_when_it_is_done(self, config):
        output = console()
        with RunDisplay(config, output) as display:
            for done in (1, 2, 3):
                display.on_progress("images", done, 3)
        assert text_of(output) == "images       3/3\n"

    def test_a_site_that_stands_out_is_named_when_that_begins(self, config):
        output, outlier = console(), "[red]MGH[/red] points away"
        with RunDisplay(config, output) as display:
            for number, outliers in enumerate([(), (outlier,), (outlier,), (), (outlier,)], start=1):
                display.on_round(dataclasses.replace(ROUND, round=number, outliers=outliers))
        lines = text_of(output).splitlines()
        assert [number for number, line in enumerate(lines) if line == f"warning: {outlier}"] == [2, 6]

    def test_the_last_round_ends_no_task(self, config):
        output = console()
        with RunDisplay(config, output) as display:
            display.on_round(dataclasses.replace(ROUND, round=config.training.num_rounds))
        assert "rounds" not in text_of(output)

    def test_brackets_are_text_and_no_markup(self, config):
        output = console()
        with RunDisplay(config, output) as display:
            display.print_line("a line")
        assert text_of(output) == "a line\n"

    def test_a_ledger_that_does_not_continue_is_a_line_of_its_own(self, config):
        output, doubtful = console(), dataclasses.replace(ROUND, warnings=("the ledger of [MGH] was restored",))
        with RunDisplay(config, output) as display:
            display.on_round(doubtful)
        assert text_of(output).splitlines()[1:] == ["warning: the ledger of [MGH] was restored"]


class TestTerminal:
    def test_rounds_grow_into_a_table_with_a_bar_below(self, config):
        output = console(is_terminal=True)
        with RunDisplay(config, output) as display:
            display.on_round(ROUND)
            display.on_round(dataclasses.replace(ROUND, round=2, auroc=0.875))
        last = text_of(output).split("Global test figures by round")[-1]
        assert "0.750" in last
        assert "0.875" in last
        assert "2/4" in last

    def test_it_ends_cleanly_when_the_run_is_interrupted(self, config):
        output = console(is_terminal=True)
        display = RunDisplay(config, output)

        def interrupt():
            with display:
                display.on_round(ROUND)
                raise KeyboardInterrupt("enough")

        with pytest.raises(KeyboardInterrupt, match="enough"):
            interrupt()
        # The cursor is shown again.
        assert text_of(output).endswith("\x1b[?25h")


class TestResults:
    def test_the_final_metrics_with_their_intervals(self, results, config):
        output = console()
        print_results(results, config, output)
        final, text = results.final, " ".join(text_of(output).split())
        assert f"Federated result: cbis_mass, {final.num_lesions} test lesions, seed 0" in text
        for value, interval in (
            (final.auroc, final.auroc_interval),
            (final.sensitivity, final.sensitivity_interval),
            (final.specificity, final.specificity_interval),
        ):
            assert f"{value:.3f}" in text
            assert f"{interval.low:.3f} to {interval.high:.3f}" in text
        assert f"{final.threshold:.3f}" in text

    def test_every_site_with_what_it_has_spent(self, results, config):
        output = console()
        print_results(results, config, output)
        lines = text_of(output).splitlines()
        for site in results.sites:
            (row,) = (line for line in lines if site.site in line)
            assert f"{site.epsilon:.2f}" in row
            assert str(site.num_patients_declared) in row

    def test_what_was_promised_and_where_the_results_lie(self, results, config):
        output = console()
        print_results(results, config, output)
        text = text_of(output)
        assert results.privacy.statement in text
        assert f"Note: {results.privacy.evaluation}." in text
        assert text.endswith(f"Results in {config.run.dir}\n")

    def test_a_doubtful_ledger_is_named_with_its_round(self, results, config):
        first, second, *others = results.rounds
        doubtful = dataclasses.replace(second, warnings=("the ledger of [MGH] was restored",))
        output = console()
        print_results(dataclasses.replace(results, rounds=(first, doubtful, *others)), config, output)
        assert "Warning: in round 2 the ledger of [MGH] was restored.\n" in text_of(output)

    def test_what_is_not_known_is_a_dash(self, results, federation):
        final = dataclasses.replace(
            results.final,
            auroc=None,
            auroc_interval=None,
            num_lesions=None,
        )
        output = console()
        print_results(dataclasses.replace(results, final=final), federation.config("privacy=off"), output)
        (auc,) = (line for line in text_of(output).splitlines() if "AUC " in line and "test AUC" not in line)
        assert auc.count("-") == 2
        assert "Federated result: cbis_mass, seed 0" in " ".join(text_of(output).split())
        assert "Note:" not in text_of(output)


def test_who_stood_out_is_named_with_the_rounds(results, config):
    output, outlier = console(), "[red]MGH[/red] points away from the other sites and did not count"
    rounds = tuple(dataclasses.replace(entry, outliers=(outlier,) * (entry.round != 3)) for entry in results.rounds)
    print_results(dataclasses.replace(results, rounds=rounds), config, output)
    assert f"Warning: {outlier}, in rounds 1 to 2, 4. Ask the site before the figures are used." in text_of(output)
