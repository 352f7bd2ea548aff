"""``python -m simulations.attacks.command``: attacks on what a hospital sends, for whoever doubts the guarantee."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shared_model.system.files import write_atomically
from shared_model.system.terminal import print_error
from simulations.arguments import at_least
from simulations.attacks.inversion import FeatureRecovery, Inversion, invert_images, recover_features, write_pictures
from simulations.attacks.membership import CONFIDENCE, Audit, Fault, audits


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status of an audit is 1 where a claim falls or a planted fault stays unseen."""
    options = _parser().parse_args(arguments)
    run = _run_membership if options.kind == "membership" else _run_inversion
    return run(options, Console())


def _run_membership(options: argparse.Namespace, console: Console) -> int:
    with _progress(console) as progress:
        task = progress.add_task("trials", total=None)
        found = list(
            audits(
                target_epsilon=options.epsilon,
                num_trials=options.trials,
                seed=options.seed,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    print_audits(found, console)
    if options.out is not None:
        entries = [dataclasses.asdict(audit) | {"is_violated": audit.is_violated} for audit in found]
        _write_json(options.out, {"seed": options.seed, "confidence": CONFIDENCE, "audits": entries})
    if all(audit.is_as_it_should_be for audit in found):
        return 0
    print_error("Expected every claim to stand without a fault and to fall with one; more --trials see more.")
    return 1


def _run_inversion(options: argparse.Namespace, console: Console) -> int:
    with _progress(console) as progress:
        task = progress.add_task("search", total=None)
        found = list(
            invert_images(
                num_images=options.images,
                target_epsilon=options.epsilon,
                num_steps=options.steps,
                seed=options.seed,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        )
    recovery = recover_features(target_epsilon=options.epsilon, seed=options.seed)
    write_pictures(options.out, found, target_epsilon=options.epsilon)
    print_inversions(found, recovery, console)
    console.print(f"Pictures in {options.out}", highlight=False, soft_wrap=True)
    return 0


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


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _write_json(path: Path, document: object) -> None:
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations.attacks.command", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    membership = kinds.add_parser("membership", help="did this patient take part? A lower bound on epsilon")
    membership.add_argument("--trials", type=at_least(4), default=1000, help="of each world; default 1000")
    membership.add_argument("--out", type=Path, help="write the bounds to this JSON file too")
    inversion = kinds.add_parser("inversion", help="what does this patient's image look like?")
    inversion.add_argument("--images", type=at_least(1), default=4, help="how many to attack; default 4")
    inversion.add_argument("--steps", type=at_least(1), default=1500, help="of each search; default 1500")
    inversion.add_argument("--out", type=_png, required=True, help="PNG file of the pictures")
    for kind in (membership, inversion):
        kind.add_argument("--epsilon", type=_positive, default=8.0, help="target epsilon; default 8")
        kind.add_argument("--seed", type=at_least(0), default=0, help="default 0")
    return parser


def _png(text: str) -> Path:
    if not text.endswith(".png"):
        raise argparse.ArgumentTypeError(f"expected {text} to end in .png")
    return Path(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected {value} > 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
