"""What a person sees while a study runs."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from server.results.estimate import shown
from simulations.studies.jobs import Job
from simulations.studies.results import read_row


class StudyDisplay:
    """What a person sees while a study runs: a bar on a terminal, elsewhere a line for every finished run."""

    def __init__(self, console: Console) -> None:
        """Begin with the data, which come before the runs."""
        columns = (TextColumn("{task.description:<32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("data", total=None)
        self._running: list[Job] = []

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, num_jobs: int) -> None:
        """Show how many runs there are."""
        self._progress.update(self._task, total=num_jobs, description="")

    def on_start(self, job: Job) -> None:
        """Show that a run has begun."""
        self._running.append(job)
        self._describe()

    def on_done(self, job: Job) -> None:
        """Show that a run has results."""
        self._running = [other for other in self._running if other is not job]
        self._describe()
        self._progress.advance(self._task)
        if not self._console.is_terminal:
            auroc = shown(read_row(job, first=None).estimate("auroc"))
            self._console.print(f"seed {job.config.seed}  {job.name}  AUC {auroc}", highlight=False, soft_wrap=True)

    def _describe(self) -> None:
        self._progress.update(self._task, description=" + ".join(map(_title, self._running)))


def _title(job: Job) -> str:
    return f"seed {job.config.seed}: {job.name}"
