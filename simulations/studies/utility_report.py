"""The tables and files of the privacy-utility study."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from server.report.plot_style import save_png
from shared_model.system.files import write_atomically
from simulations.studies.noise_shares import NUM_SITES, SHARED_EPSILONS, shared_names
from simulations.studies.privacy_utility import (
    COMPARED_EPSILONS,
    INPUTS,
    OPERATED,
    TARGET_EPSILONS,
    WITH_PUBLIC,
    epsilon_words,
)
from simulations.studies.published_results import PUBLISHED, PUBLISHED_SOURCE, SWIN, SWIN_SYNTHETIC
from simulations.studies.shipped_constants import SHIPPED_EPSILONS, shipped_names
from simulations.studies.text_tables import MISSING, TextTable, spread
from simulations.studies.utility_plot import draw_utility
from simulations.studies.utility_results import OPERATING, Spread, UtilityResult, find_result


def utility_table(results: Sequence[UtilityResult], *, with_intervals: bool = True) -> TextTable:
    """Return a line for every input, with all target epsilons, and the published results below; none without inputs."""
    header = ["inputs", *map(epsilon_words, TARGET_EPSILONS)]
    if not any(result.name in INPUTS for result in results):
        return TextTable(header=header, lines=[])
    lines = [
        [name, *(_cell(find_result(results, name, epsilon), with_intervals) for epsilon in TARGET_EPSILONS)]
        for name in (*INPUTS, *WITH_PUBLIC)
        if name in INPUTS or any(result.name == name for result in results)
    ]
    for method in (SWIN, SWIN_SYNTHETIC):
        aurocs = {row.epsilon: f"{row.auroc:.3f}" for row in PUBLISHED if row.method == method}
        lines.append([f"published: {method}", *(aurocs.get(epsilon, MISSING) for epsilon in TARGET_EPSILONS)])
    return TextTable(header=header, lines=lines)


def comparison_table(results: Sequence[UtilityResult], *, with_intervals: bool = True) -> TextTable:
    """Return a line for everything else that could be done with images and descriptors."""
    last = COMPARED_EPSILONS[-1]
    pairs = [*_shipped_pairs(results).values(), *map(shared_names, NUM_SITES)]
    apart = {name for pair in pairs for name in pair} | INPUTS.keys() | WITH_PUBLIC.keys()
    names = dict.fromkeys(result.name for result in results if result.name not in apart)
    header = ["training", *map(epsilon_words, COMPARED_EPSILONS), f"worst hospital, {epsilon_words(last)}"]
    lines = [
        [
            name,
            *(_cell(find_result(results, name, epsilon), with_intervals) for epsilon in COMPARED_EPSILONS),
            _worst_hospital(find_result(results, name, last)),
        ]
        for name in ("image + descriptors", *names)
        if names
    ]
    return TextTable(header=header, lines=lines)


def shipped_table(results: Sequence[UtilityResult], *, with_intervals: bool = True) -> TextTable:
    """Return two lines for every hospital that was the public set of the others; see ``shipped_constants``."""
    lines = [
        [name, *(_cell(find_result(results, name, epsilon), with_intervals) for epsilon in SHIPPED_EPSILONS)]
        for pair in _shipped_pairs(results).values()
        for name in pair
    ]
    return TextTable(header=["training", *map(epsilon_words, SHIPPED_EPSILONS)], lines=lines)


def shared_table(results: Sequence[UtilityResult], *, with_intervals: bool = True) -> TextTable:
    """Return two lines for every number of hospitals: each with all noise, and all with one; see ``noise_shares``."""
    names = [name for count in NUM_SITES for name in shared_names(count)]
    lines = [
        [name, *(_cell(find_result(results, name, epsilon), with_intervals) for epsilon in SHARED_EPSILONS)]
        for name in names
        if any(result.name == name for result in results)
    ]
    return TextTable(header=["training", *map(epsilon_words, SHARED_EPSILONS)], lines=lines)


def _shipped_pairs(results: Sequence[UtilityResult]) -> dict[str, tuple[str, str]]:
    """Return the names of what was compared by the hospital that was public."""
    names = {result.name for result in results}
    sites = [name.removeprefix("without ").partition(",")[0] for name in names if name.startswith("without ")]
    return {site: shipped_names(site) for site in sorted(set(sites)) if set(shipped_names(site)) <= names}


def operating_table(results: Sequence[UtilityResult]) -> TextTable:
    """Return a line for each of ``OPERATED`` at every target epsilon: what its threshold and its scores are worth."""
    header = ["inputs", "epsilon", *(name.replace("_", " ") for name in OPERATING), "AUC by the sites' histograms"]
    lines = []
    for name in OPERATED:
        for epsilon in TARGET_EPSILONS:
            result = find_result(results, name, epsilon)
            if result is not None:
                shown = [_spread(result.operating.get(figure)) for figure in (*OPERATING, "site_auroc")]
                lines.append([name, "none" if epsilon is None else f"{epsilon:g}", *shown])
    return TextTable(header=header, lines=lines)


def _spread(spread_over_seeds: Spread | None) -> str:
    if spread_over_seeds is None:
        return MISSING
    return f"{spread_over_seeds.mean:.3f} ({spread_over_seeds.lowest:.3f} to {spread_over_seeds.highest:.3f})"


def _cell(result: UtilityResult | None, with_interval: bool) -> str:
    if result is None:
        return MISSING
    text = spread(result.auroc, result.deviation)
    if with_interval and result.interval is not None:
        text += f" ({result.interval.low:.3f} to {result.interval.high:.3f})"
    return text


def _worst_hospital(result: UtilityResult | None) -> str:
    if result is None or result.worst_auroc is None:
        return MISSING
    return f"{result.worst_auroc:.3f}" + (f" ({result.worst_site})" if result.worst_site else "")


def write_utility(folder: Path, results: Sequence[UtilityResult], provenance: str) -> None:
    """Write ``utility.md``, which ends in ``provenance``, ``utility.csv``, ``utility.json`` and ``utility.png``."""
    write_atomically(folder / "utility.md", f"{to_markdown(results)}\n{provenance}".encode())
    write_atomically(folder / "utility.csv", _numbers_table(results).to_csv().encode())
    document = json.dumps([asdict(result) for result in results], indent=2)
    write_atomically(folder / "utility.json", document.encode() + b"\n")
    if any(result.name in INPUTS for result in results):
        save_png(draw_utility(results), folder / "utility.png")


def _numbers_table(results: Sequence[UtilityResult]) -> TextTable:
    """Return one line for every result, with numbers alone; what is missing is empty."""
    header = ["inputs", "epsilon", "seeds", "auroc", "deviation", "low", "high", "worst_site", "worst_site_auroc"]
    return TextTable(header=header, lines=[_numbers(result) for result in results])


def _numbers(result: UtilityResult) -> list[str]:
    low, high = (None, None) if result.interval is None else (result.interval.low, result.interval.high)
    epsilon = "" if result.epsilon is None else f"{result.epsilon:g}"
    figures = [_number(value) for value in (result.auroc, result.deviation, low, high)]
    return [result.name, epsilon, str(result.num_seeds), *figures, result.worst_site or "", _number(result.worst_auroc)]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def to_markdown(results: Sequence[UtilityResult]) -> str:
    """Return the tables that there are results for as Markdown, with what stands in them."""
    num_seeds = max(result.num_seeds for result in results)
    stands = f"mean ± standard deviation over {num_seeds} seeds (95 % interval of the mean over patients)"
    parts = []
    if utility_table(results).lines:
        parts.append(
            f"{utility_table(results).to_markdown()}\nAUC on the official test lesions: {stands}; patient-level "
            f"epsilon, delta 1e-4. Published: {PUBLISHED_SOURCE}; {_further()}.\n"
        )
    if comparison_table(results).lines:
        parts.append(
            f"{comparison_table(results).to_markdown()}\n"
            "At the frozen threshold, by lesion: mean over seeds (lowest to highest).\n"
        )
    if operating_table(results).lines:
        parts.append(operating_table(results).to_markdown())
    if shipped_table(results).lines:
        parts.append(
            "One hospital as the public set of the others, who train: image + descriptors, AUC on the official test "
            f"lesions of the others.\n\n{shipped_table(results).to_markdown()}"
        )
    if shared_table(results).lines:
        parts.append(
            "One noise for all hospitals (secure sums) or all noise from each: image + descriptors, patients dealt at "
            f"random, AUC on the official test lesions: {stands}.\n\n{shared_table(results).to_markdown()}"
        )
    return "\n".join(parts)


def _further() -> str:
    """Return the published results at epsilons that the table lacks, in words."""
    rows = (row for row in PUBLISHED if row.epsilon not in TARGET_EPSILONS)
    return ", ".join(f"{row.auroc:.3f} at epsilon {row.epsilon:g} ({row.method})" for row in rows)
