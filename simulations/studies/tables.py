"""The tables of a study: every run, means over seeds, and the same as JSON, CSV and Markdown files."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from server.results.estimate import shown
from shared_model.metrics.delong import PairedComparison
from shared_model.system.files import write_atomically
from simulations.studies.results import SUMMARISED, Row, Summary
from simulations.studies.text_tables import MISSING, TextTable, spread

_TITLES = {"auroc": "AUC", "average_precision": "average precision", "brier": "Brier score"}
_AGAINST_FIRST = "AUC less first"
_SHOWN_DIGITS = 12
"""Of a fingerprint."""


def rows_table(rows: Sequence[Row], sites: Sequence[str]) -> TextTable:
    """Return a line for every row, with the AUC at every hospital that is tested apart."""
    tested = [site for site in sites if any(row.auroc_at(site) is not None for row in rows)]
    titles = [_TITLES.get(name, name) for name in SUMMARISED]
    lines = [
        [
            row.run,
            str(row.seed),
            *(shown(row.estimate(name)) for name in SUMMARISED),
            *(shown(row.auroc_at(site)) for site in tested),
            _difference(row.against_first),
        ]
        for row in rows
    ]
    header = ["training", "seed", *titles, *(f"AUC at {site}" for site in tested), _AGAINST_FIRST]
    return TextTable(header=header, lines=lines)


def brief_table(rows: Sequence[Row]) -> TextTable:
    """Return what of ``rows_table`` fits a terminal of 80 columns."""
    lines = [[row.run, shown(row.estimate("auroc")), _difference(row.against_first)] for row in rows]
    return TextTable(header=["training", "AUC", _AGAINST_FIRST], lines=lines)


def _difference(comparison: PairedComparison | None) -> str:
    if comparison is None:
        return MISSING
    p_value = MISSING
    if comparison.p_value is not None:
        p_value = "< 0.001" if comparison.p_value < 0.001 else f"{comparison.p_value:.3f}"
    between = f"{comparison.interval.low:+.3f} to {comparison.interval.high:+.3f}"
    return f"{comparison.difference:+.3f} ({between}), p {p_value}"


def summary_table(summaries: Sequence[Summary]) -> TextTable:
    """Return means and standard deviations, a line for every summary."""
    lines = [
        [
            summary.run,
            str(summary.num_seeds),
            *(spread(summary.mean[name], summary.deviation[name]) for name in SUMMARISED),
        ]
        for summary in summaries
    ]
    return TextTable(header=["training", "runs", *(_TITLES.get(name, name) for name in SUMMARISED)], lines=lines)


def provenance(rows: Sequence[Row]) -> str:
    """Return the last line of a published table: which source code ran it, shortened, and with which seeds."""
    sources = sorted({row.source[:_SHOWN_DIGITS] for row in rows})
    seeds = sorted({row.seed for row in rows})
    return f"Provenance: source {' and '.join(sources)}, seeds {', '.join(map(str, seeds))}\n"


def write_tables(
    folder: Path, title: str, rows: Sequence[Row], summaries: Sequence[Summary], sites: Sequence[str]
) -> None:
    """Write ``study.json`` with all figures of merit, and ``study.csv`` and ``study.md`` with those of the tables."""
    table = rows_table(rows, sites)
    write_atomically(folder / "study.csv", table.to_csv().encode())
    markdown = f"# {title}\n\n{summary_table(summaries).to_markdown()}\n{table.to_markdown()}\n"
    markdown += "Mean and standard deviation over runs; 95 % intervals over patients; differences after DeLong.\n"
    markdown += f"\n{provenance(rows)}"
    write_atomically(folder / "study.md", markdown.encode())
    document = {
        "title": title,
        "rows": [dataclasses.asdict(row) for row in rows],
        "summaries": [dataclasses.asdict(summary) for summary in summaries],
    }
    write_atomically(folder / "study.json", json.dumps(document, indent=2, allow_nan=False).encode() + b"\n")
