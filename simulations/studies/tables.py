"""What a study found, as rows of figures: on the terminal, as JSON, CSV and Markdown, and drawn."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing
from rich.console import Console
from rich.table import Table

from server.report.epsilon_study import EpsilonPoint, EpsilonStudy
from server.report.plot_style import FONT_SIZE, save_png
from server.results.estimate import Estimate, shown
from server.results.evidence import Evidence
from shared_model.metrics.delong import PairedComparison
from shared_model.system.files import write_atomically

SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "brier")
"""Figures of the tables; JSON has all."""
_TITLES = {"auroc": "AUC", "average_precision": "average precision", "brier": "Brier score"}
_MISSING = "-"
_SHORT = 12
"""Digits of a fingerprint that are shown."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell at one seed."""

    cell: str
    seed: int
    epsilon: float | None
    """Promised to every training patient; None without privacy."""
    evidence: Evidence | None
    """None where the test lesions are of one class."""
    against_first: PairedComparison | None
    """AUC less that of the first cell of the seed, on the same test lesions; None for the first, or on others."""
    source: str
    """Fingerprint of the source that ran it: after an interruption another one may have gone on."""

    def figure(self, name: str) -> Estimate | None:
        """Return a figure by lesion."""
        return None if self.evidence is None else self.evidence.levels[0].estimate(name)

    def at_site(self, site: str) -> Estimate | None:
        """Return the AUC at one hospital."""
        groups = () if self.evidence is None else self.evidence.groups
        found = [group for group in groups if group.attribute == "site" and group.value == site]
        return found[0].estimate("auroc") if found else None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One cell over all seeds."""

    cell: str
    num_seeds: int
    mean: Mapping[str, float | None]
    """By figure; None where a seed has none."""
    deviation: Mapping[str, float | None]
    """Standard deviation over seeds; None for one seed."""


def summarise(rows: Sequence[Row], *, together: str | None = None) -> list[Summary]:
    """Return mean and standard deviation over the seeds of every cell, or of all rows as one cell ``together``."""
    cells = list(dict.fromkeys(row.cell for row in rows)) if together is None else [together]
    summaries = []
    for cell in cells:
        mine = [row for row in rows if together is not None or row.cell == cell]
        values = {name: [_value(row.figure(name)) for row in mine] for name in SHOWN}
        summaries.append(
            Summary(
                cell=cell,
                num_seeds=len(mine),
                mean={name: _mean(found) for name, found in values.items()},
                deviation={name: _deviation(found) for name, found in values.items()},
            )
        )
    return summaries


def _value(figure: Estimate | None) -> float | None:
    return None if figure is None else figure.value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _deviation(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) == len(values) > 1 else None


def cells_of(rows: Sequence[Row], sites: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return titles and text cells: a line for every row, with the AUC at every hospital that is tested apart."""
    tested = [site for site in sites if any(row.at_site(site) is not None for row in rows)]
    header = ["cell", "seed", *(_TITLES.get(name, name) for name in SHOWN), *(f"AUC at {site}" for site in tested)]
    lines = [
        [
            row.cell,
            str(row.seed),
            *(shown(row.figure(name)) for name in SHOWN),
            *(shown(row.at_site(site)) for site in tested),
            _against(row.against_first),
        ]
        for row in rows
    ]
    return [*header, "AUC less first"], lines


def brief_cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Return what of ``cells_of`` fits a terminal of 80 columns."""
    header = ["cell", "AUC", "AUC less first"]
    return header, [[row.cell, shown(row.figure("auroc")), _against(row.against_first)] for row in rows]


def _against(comparison: PairedComparison | None) -> str:
    if comparison is None:
        return _MISSING
    p_value = _MISSING
    if comparison.p_value is not None:
        p_value = "< 0.001" if comparison.p_value < 0.001 else f"{comparison.p_value:.3f}"
    between = f"{comparison.interval.low:+.3f} to {comparison.interval.high:+.3f}"
    return f"{comparison.difference:+.3f} ({between}), p {p_value}"


def summary_cells(summaries: Sequence[Summary]) -> tuple[list[str], list[list[str]]]:
    """Return titles and text cells of means and deviations."""
    header = ["cell", "runs", *(_TITLES.get(name, name) for name in SHOWN)]
    return header, [
        [summary.cell, str(summary.num_seeds), *(_spread(summary.mean[n], summary.deviation[n]) for n in SHOWN)]
        for summary in summaries
    ]


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return _MISSING
    return f"{mean:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")


def print_table(console: Console, title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print one table."""
    table = Table(title=title)
    for name in header:
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(*line)
    console.print(table)


def to_markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return one Markdown table."""
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def provenance(rows: Sequence[Row]) -> str:
    """Return the last line of a published table: the sources that ran its cells, shortened, and the seeds."""
    sources = sorted({row.source[:_SHORT] for row in rows})
    seeds = sorted({row.seed for row in rows})
    return f"Provenance: source {' and '.join(sources)}, seeds {', '.join(map(str, seeds))}\n"


def write_tables(
    folder: Path, title: str, rows: Sequence[Row], summaries: Sequence[Summary], sites: Sequence[str]
) -> None:
    """Write ``study.json``, ``study.csv`` and ``study.md``."""
    header, lines = cells_of(rows, sites)
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *lines])
    write_atomically(folder / "study.csv", stream.getvalue().encode())
    markdown = f"# {title}\n\n{to_markdown(*summary_cells(summaries))}\n{to_markdown(header, lines)}\n"
    markdown += "Mean and standard deviation over runs; 95 % intervals over patients; differences after DeLong.\n"
    markdown += f"\n{provenance(rows)}"
    write_atomically(folder / "study.md", markdown.encode())
    document = {
        "title": title,
        "rows": [dataclasses.asdict(row) for row in rows],
        "summaries": [dataclasses.asdict(summary) for summary in summaries],
    }
    write_atomically(folder / "study.json", json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")


def sweep_of(rows: Sequence[Row]) -> EpsilonStudy:
    """Return the AUC of every run that has one, with the epsilon promised."""
    found = [(row, row.figure("auroc")) for row in rows]
    return EpsilonStudy(
        points=tuple(
            EpsilonPoint(seed=row.seed, epsilon=row.epsilon, auroc=auroc)
            for row, auroc in found
            if auroc is not None and auroc.value is not None
        )
    )


def write_site_figure(path: Path, rows: Sequence[Row], sites: Sequence[str]) -> None:
    """Draw the AUC of every network (rows) at every hospital (columns), mean over seeds."""
    cells = list(dict.fromkeys(row.cell for row in rows))
    values = np.array(
        [
            [_mean([_value(row.at_site(site)) for row in rows if row.cell == cell]) or np.nan for site in sites]
            for cell in cells
        ]
    )
    figure = Drawing(figsize=(1.6 + 1.1 * len(sites), 0.9 + 0.5 * len(cells)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(values, cmap="Blues", vmin=0.5, vmax=1.0, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.8 else "black"
        axes.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour, fontsize=FONT_SIZE)
    axes.set_xticks(range(len(sites)), [f"tested at {site}" for site in sites], fontsize=FONT_SIZE - 1)
    axes.set_yticks(range(len(cells)), cells, fontsize=FONT_SIZE - 1)
    save_png(figure, path)
