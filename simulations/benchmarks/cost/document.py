"""Measured steps for a reader: a table, CSV and a figure."""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from server.report.plot_style import BLUE, FONT_SIZE, GREEN, GREY, VERMILLION, label_axes, save_png
from shared_model.system.files import write_atomically
from simulations.benchmarks.cost.step import Step, exponent
from simulations.benchmarks.tables import write_figures

_COLUMNS: Mapping[str, Callable[[Step], str]] = {
    "processor [s]": lambda step: f"{step.processor_seconds:.3f}",
    "elapsed [s]": lambda step: f"{step.elapsed_seconds:.3f}",
    "peak memory [MiB]": lambda step: f"{step.peak_bytes / 2**20:.0f}",
    "messages": lambda step: "" if step.num_messages is None else str(step.num_messages),
    "moved [KiB]": lambda step: "" if step.num_bytes is None else f"{step.num_bytes / 2**10:.1f}",
}
_COLUMNS_OF_FIGURE = 3
_WIDTH, _HEIGHT = 3.2, 3.4
"""Inches of one part in the figure."""
_COLOURS, _LOOKS = (BLUE, VERMILLION, GREEN, GREY), ("o-", "s--", "^:")
_SHORTEST_SECONDS = 1e-3
"""Drawn for less, which a logarithmic axis could not show if it were zero."""


def write_steps(path: Path, steps: Sequence[Step]) -> None:
    """Write steps as ``path`` ends: ``.json``, ``.csv``, ``.md`` a table, or ``.png`` a figure.

    Raises:
        ValueError: it ends in something else, or there is no step to draw.
        OSError: it cannot be written.
    """
    if path.suffix == ".json":
        write_figures(path, [dataclasses.asdict(step) for step in steps])
    elif path.suffix in _AS_TEXT:
        write_atomically(path, _AS_TEXT[path.suffix](steps).encode())
    else:
        draw(path, steps)


def to_markdown(steps: Sequence[Step]) -> str:
    """Return a table with a row for each kind of step, in their order, and in each cell a value for each size.

    Growth is that of the processor time, fitted to all sizes.
    """
    lines = [f"| step | size | {' | '.join(_COLUMNS)} | growth |", f"|---|{'---:|' * (2 + len(_COLUMNS))}"]
    for name, group in _by_kind(steps).items():
        sizes = " / ".join(f"{step.size:,}" for step in group)
        cells = [" / ".join(filter(None, map(write, group))) for write in _COLUMNS.values()]
        growth = _growth(group)
        lines.append(
            f"| {name} | {sizes} {group[0].unit} | {' | '.join(cells)} | {'' if growth is None else f'{growth:.2f}'} |"
        )
    return "\n".join(lines) + "\n"


def to_csv(steps: Sequence[Step]) -> str:
    """Return a line for each step, with the names of its fields above."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Step)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(dataclasses.asdict, steps))
    return text.getvalue()


def draw(path: Path, steps: Sequence[Step]) -> None:
    """Draw the processor time of every kind of step over its sizes, a part beside the other.

    Raises:
        ValueError: ``path`` does not end in ``.png``, or there is no step.
    """
    parts = list(dict.fromkeys(step.part for step in steps))
    if not parts:
        raise ValueError("Expected at least one step to draw.")
    num_columns = min(_COLUMNS_OF_FIGURE, len(parts))
    num_rows = -(-len(parts) // num_columns)
    figure = Figure(figsize=(_WIDTH * num_columns, _HEIGHT * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for part, axes in zip(parts, panels, strict=False):
        _draw(axes, part, [step for step in steps if step.part == part])
    for axes in panels[len(parts) :]:
        axes.set_axis_off()
    save_png(figure, path)


def _draw(axes: Axes, part: str, steps: Sequence[Step]) -> None:
    for number, (name, group) in enumerate(_by_kind(steps).items()):
        growth = _growth(group)
        label = name.removeprefix(f"{part}: ") + ("" if growth is None else f" ({growth:.2f})")
        seconds = [max(step.processor_seconds, _SHORTEST_SECONDS) for step in group]
        look = _LOOKS[number // len(_COLOURS) % len(_LOOKS)]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot([step.size for step in group], seconds, look, color=colour, label=label, markersize=3)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(part, fontsize=FONT_SIZE)
    label_axes(axes, x=steps[0].unit, y="processor time, s")
    sizes = sorted({step.size for step in steps})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.tick_params(which="minor", labelsize=FONT_SIZE - 2)
    # Below, where no line is.
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.25), fontsize=FONT_SIZE - 3, frameon=False)


def _by_kind(steps: Sequence[Step]) -> Mapping[str, Sequence[Step]]:
    """Return the steps by part and name."""
    kinds: dict[str, list[Step]] = {}
    for step in steps:
        kinds.setdefault(f"{step.part}: {step.step}", []).append(step)
    return kinds


def _growth(steps: Sequence[Step]) -> float | None:
    return exponent([step.size for step in steps], [step.processor_seconds for step in steps])


_AS_TEXT: Mapping[str, Callable[[Sequence[Step]], str]] = {".csv": to_csv, ".md": to_markdown}
