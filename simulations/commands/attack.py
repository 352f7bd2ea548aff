"""``fedmammo attack``: attacks on what a hospital sends."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations.commands.flags import Numbers, Overrides, Seed, Seeds, at_least, positive, probability

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(help="Attacks on what a hospital sends, for whoever doubts the guarantee.", no_args_is_help=True)

_THREE = Numbers((0, 1, 2))
Epsilon = Annotated[float, typer.Option(parser=positive, metavar="NUMBER", help="Target epsilon of what is attacked.")]


def _png(text: str) -> Path:
    if not text.endswith(".png"):
        raise typer.BadParameter(f"expected {text} to end in .png")
    return Path(text)


@app.command()
def membership(
    trials: Annotated[
        int, typer.Option(parser=at_least(4), metavar="NUMBER", help="With the patient, and as many without.")
    ] = 1000,
    epsilon: Epsilon = 8.0,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the bounds to this JSON file too.")] = None,
) -> None:
    """Ask whether a patient took part: a lower bound on epsilon, beside the one claimed.

    Fails where a claim falls, or where a fault that was planted in the mechanism stays unseen.
    """
    from rich.console import Console

    from shared_model.errors import PrivacyError
    from simulations.attacks.membership import audits
    from simulations.attacks.tables import print_audits, write_audits

    console = Console()
    with _progress("trials", console) as progress:
        found = list(audits(target_epsilon=epsilon, num_trials=trials, seed=seed, progress=progress))
    print_audits(found, console)
    if out is not None:
        write_audits(out, found, seed=seed)
    if not all(audit.is_as_expected for audit in found):
        raise PrivacyError(
            "Expected every claim to stand without a fault and to fall with one; more --trials see more."
        )


@app.command()
def one_run(
    canaries: Annotated[
        int, typer.Option(parser=at_least(3), metavar="NUMBER", help="Invented patients to guess, at most 320.")
    ] = 300,
    epsilon: Epsilon = 8.0,
    delta: Annotated[float, typer.Option(parser=probability, metavar="NUMBER", help="Of what is attacked.")] = 1e-4,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the bound to this JSON file too.")] = None,
) -> None:
    """Ask of many invented patients at once who took part in one training: a lower bound on epsilon.

    Fails where the bound exceeds the claim. A site's privacy report shows the file with --audit.
    """
    from rich.console import Console

    from shared_model.errors import PrivacyError
    from shared_model.system.documents import to_json
    from shared_model.system.files import write_atomically
    from simulations.attacks.one_run import audit_in_one_run
    from simulations.attacks.tables import print_one_run

    console = Console()
    with _progress("rounds", console) as progress:
        found = audit_in_one_run(
            target_epsilon=epsilon, delta=delta, num_canaries=canaries, seed=seed, progress=progress
        )
    print_one_run(found, console)
    if out is not None:
        write_atomically(out, to_json(found).encode())
    if found.is_violated:
        raise PrivacyError(
            f"Expected epsilon of at most {found.claimed_epsilon:.2f}, as claimed: the guesses prove "
            f"{found.least_epsilon:.2f}."
        )


@app.command()
def inversion(
    out: Annotated[Path, typer.Option(parser=_png, metavar="FILE", help="PNG file of the pictures to write.")],
    images: Annotated[int, typer.Option(parser=at_least(1), metavar="NUMBER", help="How many to attack.")] = 4,
    steps: Annotated[int, typer.Option(parser=at_least(1), metavar="NUMBER", help="Of each search.")] = 1500,
    epsilon: Epsilon = 8.0,
    seed: Seed = 0,
) -> None:
    """Ask what a patient's image looks like: a search for it behind an update, with privacy and without."""
    from rich.console import Console

    from simulations.attacks.inversion import invert_images, recover_features, write_pictures
    from simulations.attacks.tables import print_inversions

    console = Console()
    with _progress("search", console) as progress:
        found = list(
            invert_images(num_images=images, target_epsilon=epsilon, num_steps=steps, seed=seed, progress=progress)
        )
    recovery = recover_features(target_epsilon=epsilon, seed=seed)
    write_pictures(out, found, target_epsilon=epsilon)
    print_inversions(found, recovery, console)
    typer.echo(f"Pictures in {out}")


@app.command()
def liar(
    overrides: Overrides = None,
    seeds: Seeds = _THREE,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every case to this JSON file too.")] = None,
) -> None:
    """Ask what is left of the model where one hospital of three, or of five, lies about its update and its size.

    KEY=VALUE changes the configuration, by default preset=phantom. Fails where a lie costs more AUC than it may.
    """
    import dataclasses
    import json

    import torch
    from rich.console import Console

    from shared_model.config import compose
    from shared_model.errors import RoundError
    from shared_model.system.files import write_atomically
    from simulations.attacks.liar import Lie, measure, summarised
    from simulations.attacks.tables import print_liars

    console = Console()
    # Sites are worked on side by side; more threads inside each only compete for the same cores.
    torch.set_num_threads(1)
    with _progress("runs", console) as progress:
        runs = list(measure(overrides or (), seeds, progress=progress))
    found = summarised(runs, compose(overrides or ()).training.num_rounds)
    print_liars(found, console)
    if out is not None:
        document = {"seeds": seeds, "cases": [dataclasses.asdict(result) for result in found]}
        write_atomically(out, json.dumps(document, indent=2).encode() + b"\n")
    if not all(result.is_kept for result in found if result.case.lie is not Lie.NONE):
        raise RoundError("Expected every lie to cost no more AUC than it may; see the table.")


@contextmanager
def _progress(what: str, console: "Console") -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal; yields what takes the number done and the total."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
