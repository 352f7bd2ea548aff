"""What a person reads of an attack: tables on the screen, and the bounds as JSON."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.privacy.report.formats import shown_least
from server.report.printed_numbers import MISSING
from shared_model.privacy.one_run_bound import OneRunAudit
from shared_model.system.files import write_atomically
from simulations.attacks.faults import Fault
from simulations.attacks.inversion import FeatureRecovery, Inversion
from simulations.attacks.liar import MOST_LOST, LiarResult, Lie
from simulations.attacks.membership import CONFIDENCE, Audit


def print_audits(found: Sequence[Audit], console: Console) -> None:
    """Print one row per audited mechanism: what was claimed and what the attack proves, where it came closest."""
    table = Table(
        title=f"Membership attack, {found[0].num_trials} trials with the canary and without",
        caption=f"Least epsilon: the attack proves at least this, at {len(found[0].bounds)} deltas together with "
        f"{CONFIDENCE:.0%} confidence. Shown is the delta at which it comes closest to the claim or farthest beyond.",
    )
    for name in ("mechanism", "delta", "least epsilon", "claimed", "claim"):
        table.add_column(name, justify="left" if name in ("mechanism", "claim") else "right")
    for audit in found:
        closest = max(audit.bounds, key=lambda bound: bound.least_epsilon - bound.claimed_epsilon)
        table.add_row(
            _name(audit),
            f"{closest.delta:g}",
            f"{closest.least_epsilon:.2f}",
            f"{closest.claimed_epsilon:.2f}",
            _verdict(audit),
        )
    console.print(table)


def _verdict(audit: Audit) -> str:
    if audit.fault is Fault.NONE:
        return "BROKEN" if audit.is_violated else "stands"
    return "falls" if audit.is_violated else "stands: MISSED"


def _name(audit: Audit) -> str:
    if audit.fault is not Fault.NONE:
        return f"FAULT: {audit.fault}"
    sampling = f", sampling rate {audit.sampling_rate:g}" if audit.sampling_rate < 1 else ""
    return f"{audit.gradient_method} gradients{sampling}"


def print_one_run(audit: OneRunAudit, console: Console) -> None:
    """Print what was guessed in one run, and the bound on epsilon that follows."""
    table = Table(
        title=f"Audit in one run of {audit.num_rounds} rounds, at delta {audit.delta:g}",
        caption=f"Least epsilon: so many right guesses prove at least this, with {audit.confidence:.0%} confidence.",
    )
    for name in ("canaries", "guesses", "right", "least epsilon", "claimed", "claim"):
        table.add_column(name, justify="left" if name == "claim" else "right")
    table.add_row(
        *(str(count) for count in (audit.num_canaries, audit.num_guesses, audit.num_right)),
        shown_least(audit.least_epsilon),
        f"{audit.claimed_epsilon:.2f}",
        "BROKEN" if audit.is_violated else "stands",
    )
    console.print(table)


def print_inversions(found: Sequence[Inversion], recovery: FeatureRecovery, console: Console) -> None:
    """Print how close the attack came with and without privacy."""
    table = Table(title="Likeness of original and reconstruction")
    for name in ("attacked", "measure", "no privacy", "with privacy"):
        table.add_column(name, justify="right" if "privacy" in name else "left")
    for number, inversion in enumerate(found, start=1):
        values = (inversion.correlation_without, inversion.correlation_with)
        table.add_row(f"image {number}, small_cnn", "correlation of pixels", *(f"{value:.2f}" for value in values))
    values = (recovery.without_privacy, recovery.with_privacy)
    table.add_row("frozen features, linear head", "cosine", *(f"{value:.2f}" for value in values))
    console.print(table)


def print_liars(found: Sequence[LiarResult], console: Console) -> None:
    """Print one row per case: what one liar leaves of the AUC, and in how many rounds it is named."""
    table = Table(
        title="One hospital lies",
        caption="AUC: mean over seeds, and the least. Honest: without a liar. Named: in so many rounds. Kept: the AUC "
        f"is no more than {MOST_LOST[3]:g} (one of three) or {MOST_LOST[5]:g} (one of five) below the honest one.",
    )
    for name in ("sites", "rule", "lie", "liar", "AUC", "least", "honest", "named", "model"):
        table.add_column(name, justify="left" if name in ("rule", "lie", "liar", "model") else "right")
    for result in found:
        case = result.case
        table.add_row(
            str(case.num_sites),
            case.aggregation,
            case.lie,
            case.liar or MISSING,
            f"{result.auroc:.3f}",
            f"{result.least_auroc:.3f}",
            f"{result.honest_auroc:.3f}",
            f"{result.share_of_rounds_named:.0%}",
            MISSING if case.lie is Lie.NONE else "kept" if result.is_kept else "LOST",
        )
    console.print(table)


def write_audits(path: Path, found: Sequence[Audit], *, seed: int) -> None:
    """Write every bound of every audit as JSON.

    Raises:
        OSError: ``path`` cannot be written.
    """
    entries = [dataclasses.asdict(audit) | {"is_violated": audit.is_violated} for audit in found]
    document = {"seed": seed, "confidence": CONFIDENCE, "audits": entries}
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
