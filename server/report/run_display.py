"""What a person sees of a run: rounds as they finish, and the final table."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from server.results.document import Results, RoundResult
from shared_model.config.choices import PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.metrics.counts import Interval

_MISSING = "-"
_ROUNDS = "rounds"
_COLUMNS = ("round", "AUC", "sensitivity", "specificity", "max epsilon", "sites", "seconds")


class RunDisplay:
    """A live view on a terminal; plain lines where the output is no terminal."""

    def __init__(self, config: ExperimentConfig, console: Console) -> None:
        """Begin the display of one run."""
        self._config = config
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._rounds = _rounds_table()
        self._live = Live(self._progress, console=console, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_progress(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` of ``what`` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)
        if self._live is None and done == total and what != _ROUNDS:
            self.print_line(f"{what:<12} {done}/{total}")

    def on_round(self, result: RoundResult) -> None:
        """Show a finished round."""
        self.on_progress(_ROUNDS, result.round, self._config.training.num_rounds)
        cells = (
            str(result.round),
            *(_figure(value) for value in (result.auroc, result.sensitivity, result.specificity)),
            _figure(result.epsilon, digits=2),
            f"{result.num_sites}/{len(self._config.federation.sites)}",
            f"{result.seconds:.1f}",
        )
        self._rounds.add_row(*cells)
        if self._live is not None:
            self._live.update(Group(self._rounds, self._progress))
        else:
            self.print_line("  ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS, cells, strict=True)))

    def print_line(self, line: str) -> None:
        """Show one line above all that moves."""
        self._console.print(line, highlight=False, soft_wrap=True)


def _rounds_table() -> Table:
    table = Table(title="Global test figures by round")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    return table


def print_results(results: Results, config: ExperimentConfig, console: Console) -> None:
    """Print the final figures, with 95% intervals, and what every site has spent."""
    final = results.final
    counted = "" if final.num_lesions is None else f" {final.num_lesions} test lesions,"
    table = Table(title=f"Federated result: {results.preset},{counted} seed {results.seed}")
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    rows: Mapping[str, tuple[float | None, Interval | None]] = {
        "AUC": (final.auroc, final.auroc_interval),
        "sensitivity": (final.sensitivity, final.sensitivity_interval),
        "specificity": (final.specificity, final.specificity_interval),
    }
    for name, (value, interval) in rows.items():
        table.add_row(
            name, _figure(value), _MISSING if interval is None else f"{interval.low:.3f} to {interval.high:.3f}"
        )
    table.add_row("threshold", _figure(final.threshold), _MISSING)
    console.print(table)
    sites = Table(title="Sites")
    for name in ("site", "patients (declared)", "epsilon", "delta", "noise multiplier", "test AUC"):
        sites.add_column(name, justify="left" if name == "site" else "right")
    for site in results.sites:
        sites.add_row(
            site.site,
            str(site.num_patients_declared),
            _figure(site.epsilon, digits=2),
            _MISSING if site.delta is None else f"{site.delta:g}",
            _figure(site.noise_multiplier, digits=2),
            _figure(site.auroc),
        )
    console.print(sites)
    console.print(results.privacy.statement, highlight=False, soft_wrap=True)
    if config.privacy.mode is PrivacyMode.PATIENT:
        console.print(f"Note: {results.privacy.evaluation}.", highlight=False, soft_wrap=True)
    console.print(f"Results in {config.run.dir}", highlight=False, soft_wrap=True)


def _figure(value: float | None, *, digits: int = 3) -> str:
    return _MISSING if value is None else f"{value:.{digits}f}"
