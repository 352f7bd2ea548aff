"""What privacy costs the diagnosis: every input at every promise, beside what else could be done and what is published.

The table is about the official test lesions of CBIS-DDSM masses over the three hospitals that saw the patients. Nothing
was chosen by it: the recipe comes from ``fedmammo study search``, on training patients alone.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure as Drawing

from server.evaluation.predictions import Predictions
from server.report.plot_style import BLUE, FONT_SIZE, GREEN, GREY, VERMILLION, label_axes, save_png
from shared_model.config.choices import Modality
from shared_model.metrics.bootstrap import bootstrap_mean_interval
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.metrics.roc import auroc_from_counts
from shared_model.system.files import write_atomically
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import FeaturePolicy
from simulations.federation.server_files import write_roster
from simulations.studies.protocols import CENTRAL, NO_PRIVACY, Cell, Ground, only
from simulations.studies.tables import Row, to_markdown

UTILITY = "utility"
RECIPE = ("preset=cbis_mass", f"data.features={FeaturePolicy.DESCRIPTORS}", "evaluation.bootstrap_resamples=200")
"""What the cells below vary; intervals of the table are drawn anew, so those of single runs may be coarse."""
PROMISES: tuple[float | None, ...] = (None, 8.0, 4.0, 2.0, 1.0)
"""Epsilons; None is no privacy."""
BRIEF_PROMISES: tuple[float | None, ...] = (None, 8.0)

_IMAGE, _CLINICAL = f"model.modality={Modality.IMAGE}", f"model.modality={Modality.CLINICAL}"
_READER = f"data.features={FeaturePolicy.READER}"
INPUTS: dict[str, tuple[str, ...]] = {
    "image": (_IMAGE,),
    "image, each view by itself": (_IMAGE, "data.views=own"),
    "image + safe columns": (f"data.features={FeaturePolicy.SAFE}",),
    "image + descriptors": (),
    "image + descriptors, each view by itself": ("data.views=own",),
    "image + reader columns": (_READER,),
    "descriptors alone": (_CLINICAL,),
    "reader columns alone": (_CLINICAL, _READER),
}
"""By name the overrides beyond ``RECIPE``."""
_DRAWN = {
    "image + reader columns": (GREEN, "^-"),
    "image + descriptors": (VERMILLION, "s-"),
    "image": (BLUE, "o-"),
    "image, each view by itself": ("#56B4E9", "D-"),
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure of others on these patches."""

    what: str
    epsilon: float | None
    auroc: float


_SWIN, _SWIN_SYNTHETIC = "Swin-T, DP-SGD", "Swin-T, pre-trained on synthetic images"
PUBLISHED = (
    Published(what=_SWIN, epsilon=None, auroc=0.778),
    Published(what=_SWIN, epsilon=60.0, auroc=0.622),
    Published(what=_SWIN, epsilon=6.0, auroc=0.572),
    Published(what=_SWIN, epsilon=1.0, auroc=0.525),
    Published(what=_SWIN_SYNTHETIC, epsilon=60.0, auroc=0.712),
    Published(what=_SWIN_SYNTHETIC, epsilon=6.0, auroc=0.677),
    Published(what=_SWIN_SYNTHETIC, epsilon=1.0, auroc=0.661),
)
"""Osuala et al. 2024, arXiv 2407.12669: image only, one central data set, epsilon per image, delta 1e-4, their test set
has 24 lesions more."""
PUBLISHED_SOURCE = "Osuala et al. 2024 (arXiv 2407.12669): image only, one central data set, epsilon per image"


def utility_cells(ground: Ground) -> list[Cell]:
    """Return the runs of one seed; ``ground`` is that of ``RECIPE``."""
    cells = [_cell(name, overrides, epsilon) for name, overrides in INPUTS.items() for epsilon in PROMISES]
    return cells + [
        _cell(name, overrides, epsilon) for name, overrides in comparisons(ground).items() for epsilon in BRIEF_PROMISES
    ]


def comparisons(ground: Ground) -> dict[str, tuple[str, ...]]:
    """Return what else could be done with images and descriptors: by name the overrides beyond ``RECIPE``."""
    fixed = ground.compared()
    central = ground.compared(write_roster(ground.config, dict.fromkeys(ground.owner, CENTRAL)))
    alone = {f"{site} alone": (*fixed, *only([site])) for site in ground.sites}
    dealt = {
        f"{words}, {num_sites} sites": (
            f"federation.partition={partition}",
            *only([f"S{number}" for number in range(1, num_sites + 1)]),
        )
        for partition, words in (
            ("iid", "patients dealt at random"),
            ("label_skew", "patients dealt by Dirichlet(0.5)"),
        )
        for num_sites in (3, 10)
    }
    fusions = {f"{fusion} fusion": (*fixed, f"model.fusion={fusion}") for fusion in ("mid", "late")}
    return {"centralised": (*central, *only([CENTRAL])), **alone, **dealt, **fusions}


def _cell(name: str, overrides: tuple[str, ...], epsilon: float | None) -> Cell:
    promise = NO_PRIVACY if epsilon is None else f"privacy.target_epsilon={epsilon}"
    return Cell(name=_cell_name(name, epsilon), overrides=(*overrides, promise))


def _cell_name(name: str, epsilon: float | None) -> str:
    return f"{name}, {_words(epsilon)}"


def _words(epsilon: float | None) -> str:
    return "no privacy" if epsilon is None else f"epsilon {epsilon:g}"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One input at one promise, over all seeds."""

    name: str
    epsilon: float | None
    num_seeds: int
    auroc: float
    """Mean over seeds."""
    deviation: float | None
    """Standard deviation over seeds; None for one seed."""
    interval: ConfidenceInterval | None
    """95 % of the mean, over patients; None where seeds have different test lesions."""
    worst_site: str | None
    """The hospital with the lowest AUC, if it is the same at every seed."""
    worst_auroc: float | None
    """The lowest AUC of a hospital, mean over seeds; None where a seed has none."""


def entries(rows: Sequence[tuple[Row, Predictions]], *, num_resamples: int) -> list[Entry]:
    """Return an entry for every input and promise that ``rows`` have, in the order of ``rows``.

    Args:
        rows: all runs, with their test lesions.
        num_resamples: of the bootstrap.
    """
    by_cell: dict[str, list[tuple[Row, Predictions]]] = {}
    for row, predictions in rows:
        by_cell.setdefault(row.cell, []).append((row, predictions))
    return [_entry(cell, mine, num_resamples) for cell, mine in by_cell.items()]


def _entry(cell: str, mine: Sequence[tuple[Row, Predictions]], num_resamples: int) -> Entry:
    epsilon = mine[0][0].epsilon
    values = [figure.value for row, _ in mine if (figure := row.figure("auroc")) and figure.value is not None]
    if len(values) < len(mine):
        raise ValueError(f"Expected test lesions of both classes in every run of {cell}.")
    first = mine[0][1]
    interval = None
    if all(predictions.has_same_lesions(first) for _, predictions in mine):
        interval = bootstrap_mean_interval(
            first.labels,
            [predictions.scores for _, predictions in mine],
            first.patients,
            auroc_from_counts,
            num_resamples=num_resamples,
            generator=numpy_generator(0, "utility"),
        )
    worst = _worst_site([row for row, _ in mine])
    return Entry(
        name=cell.removesuffix(f", {_words(epsilon)}"),
        epsilon=epsilon,
        num_seeds=len(mine),
        auroc=float(np.mean(values)),
        deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        interval=interval,
        worst_site=None if worst is None else worst[0],
        worst_auroc=None if worst is None else worst[1],
    )


def _worst_site(rows: Sequence[Row]) -> tuple[str | None, float] | None:
    """Return the lowest AUC of a hospital, mean over seeds, and which it is, if it is the same at every seed."""
    lowest = []
    for row in rows:
        groups = () if row.evidence is None else row.evidence.groups
        figures = {group.value: group.estimate("auroc") for group in groups if group.attribute == "site"}
        of_site = {site: figure.value for site, figure in figures.items() if figure and figure.value is not None}
        if not of_site:
            return None
        lowest.append(min(of_site.items(), key=lambda item: item[1]))
    names = {site for site, _ in lowest}
    return (names.pop() if len(names) == 1 else None), float(np.mean([auroc for _, auroc in lowest]))


def table_cells(found: Sequence[Entry], *, with_intervals: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return titles and cells of the table over all promises, the published rows below."""
    lines = [[name, *(_spread(_find(found, name, epsilon), with_intervals) for epsilon in PROMISES)] for name in INPUTS]
    for what in (_SWIN, _SWIN_SYNTHETIC):
        values = {row.epsilon: f"{row.auroc:.3f}" for row in PUBLISHED if row.what == what}
        lines.append([f"published: {what}", *(values.get(epsilon, "-") for epsilon in PROMISES)])
    return ["inputs", *map(_words, PROMISES)], lines


def comparison_cells(found: Sequence[Entry], *, with_intervals: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return titles and cells of what else could be done with images and descriptors."""
    names = list(dict.fromkeys(entry.name for entry in found if entry.name not in INPUTS))
    header = ["training", *map(_words, BRIEF_PROMISES), f"worst hospital, {_words(BRIEF_PROMISES[-1])}"]
    lines = []
    for name in ("image + descriptors", *names):
        last = _find(found, name, BRIEF_PROMISES[-1])
        worst = "-" if last is None or last.worst_auroc is None else f"{last.worst_auroc:.3f}"
        worst += f" ({last.worst_site})" if last is not None and last.worst_site else ""
        shown = (_spread(_find(found, name, epsilon), with_intervals) for epsilon in BRIEF_PROMISES)
        lines.append([name, *shown, worst])
    return header, lines


def _find(found: Sequence[Entry], name: str, epsilon: float | None) -> Entry | None:
    return next((entry for entry in found if (entry.name, entry.epsilon) == (name, epsilon)), None)


def _spread(entry: Entry | None, with_interval: bool) -> str:
    if entry is None:
        return "-"
    text = f"{entry.auroc:.3f}" + ("" if entry.deviation is None else f" ± {entry.deviation:.3f}")
    if with_interval and entry.interval is not None:
        text += f" ({entry.interval.low:.3f} to {entry.interval.high:.3f})"
    return text


def write_utility(folder: Path, found: Sequence[Entry], origin: str) -> None:
    """Write ``utility.md``, whose last line is ``origin``, ``utility.csv``, ``utility.json`` and ``utility.png``."""
    write_atomically(folder / "utility.md", f"{to_text(found)}\n{origin}".encode())
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["inputs", "epsilon", "seeds", "auroc", "deviation", "low", "high", "worst_site", "worst_site_auroc"]
    )
    for entry in found:
        between = ("", "") if entry.interval is None else (f"{entry.interval.low:.4f}", f"{entry.interval.high:.4f}")
        writer.writerow(
            [
                entry.name,
                "" if entry.epsilon is None else f"{entry.epsilon:g}",
                entry.num_seeds,
                f"{entry.auroc:.4f}",
                "" if entry.deviation is None else f"{entry.deviation:.4f}",
                *between,
                entry.worst_site or "",
                "" if entry.worst_auroc is None else f"{entry.worst_auroc:.4f}",
            ]
        )
    write_atomically(folder / "utility.csv", stream.getvalue().encode())
    write_atomically(folder / "utility.json", json.dumps([asdict(entry) for entry in found], indent=2).encode() + b"\n")
    save_png(draw_utility(found), folder / "utility.png")


def to_text(found: Sequence[Entry]) -> str:
    """Return both tables as Markdown, with what stands in them."""
    num_seeds = max(entry.num_seeds for entry in found)
    return (
        f"{to_markdown(*table_cells(found))}\n"
        f"AUC on the official test lesions: mean ± standard deviation over {num_seeds} seeds (95 % interval of the "
        f"mean over patients); patient-level epsilon, delta 1e-4. Published: {PUBLISHED_SOURCE}; {_further()}.\n\n"
        f"{to_markdown(*comparison_cells(found))}"
    )


def _further() -> str:
    """Return the published figures at promises that the table lacks, in words."""
    rows = (row for row in PUBLISHED if row.epsilon not in PROMISES)
    return ", ".join(f"{row.auroc:.3f} at epsilon {row.epsilon:g} ({row.what})" for row in rows)


def draw_utility(found: Sequence[Entry]) -> Drawing:
    """Draw the AUC over epsilon with intervals over patients, the levels without privacy, and the published points."""
    figure = Drawing(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    promised = sorted(epsilon for epsilon in PROMISES if epsilon is not None)
    for place, (name, (colour, style)) in enumerate(_DRAWN.items()):
        mine = [entry for epsilon in promised if (entry := _find(found, name, epsilon)) is not None]
        # Side by side, so that intervals do not hide each other.
        places = [(entry.epsilon or 0) * 1.03 ** (place - 1.5) for entry in mine]
        axes.plot(places, [entry.auroc for entry in mine], style, color=colour, label=name)
        for x, entry in zip(places, mine, strict=True):
            if entry.interval is not None:
                axes.vlines(x, entry.interval.low, entry.interval.high, color=colour, alpha=0.4)
        free = _find(found, name, None)
        if free is not None:
            axes.axhline(free.auroc, color=colour, linestyle="--", linewidth=1)
    for what, marker in ((_SWIN, "x"), (_SWIN_SYNTHETIC, "+")):
        points = [row for row in PUBLISHED if row.what == what and row.epsilon is not None]
        axes.plot(
            [row.epsilon or 0 for row in points],
            [row.auroc for row in points],
            marker,
            color=GREY,
            label=f"published: {what}",
        )
    axes.set_xscale("log", base=2)
    ticks = sorted({*promised, *(row.epsilon for row in PUBLISHED if row.epsilon is not None)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    label_axes(axes, x="epsilon (published: per image; ours: per patient); dashed: no privacy", y="AUC, official test")
    axes.legend(fontsize=FONT_SIZE - 2, frameon=False, loc="lower right")
    return figure
