"""``fedmammo evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations.commands.flags import at_least

if TYPE_CHECKING:
    from simulations.evaluation.recalibration import RecalibrationRequest

_OUTCOMES = "outcomes:"
_LEAST_OUTCOMES = 10
_ALL = "all"
_CACHE = Path(".cache")
_SPLITS = ("train", "test", _ALL)


def _recalibration(text: object) -> str:
    """Return ``mean`` or ``outcomes:N`` as it stands."""
    kind, number = str(text)[: len(_OUTCOMES)], str(text)[len(_OUTCOMES) :]
    if kind == _OUTCOMES:
        at_least(_LEAST_OUTCOMES)(number)
    elif text != "mean":
        raise typer.BadParameter(f"expected {text!r} to be mean or outcomes:NUMBER")
    return str(text)


def _split(text: object) -> str:
    if text not in _SPLITS:
        raise typer.BadParameter(f"expected {text!r} to be one of {', '.join(_SPLITS)}")
    return str(text)


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN")],
    *,
    manifest: Annotated[Path | None, typer.Option(metavar="FILE", help="Table of lesions, CSV or Parquet.")] = None,
    data_root: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Or a folder as CBIS-DDSM comes.")] = None,
    split: Annotated[
        str | None,
        typer.Option(
            parser=_split, metavar="|".join(_SPLITS), help="Which rows; if not given all of a table, test of a folder."
        ),
    ] = None,
    roster: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Which site saw whom; sites.csv of a folder, if not given.")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only patients of this site; may be repeated.")
    ] = None,
    recalibrate: Annotated[
        str | None,
        typer.Option(
            parser=_recalibration,
            metavar="outcomes:NUMBER|mean",
            help="Adapt the scores to some patients, and show the effect on the others.",
        ),
    ] = None,
    cache: Annotated[Path, typer.Option(metavar="FOLDER", help="Of what the network reads of images.")] = _CACHE,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="RUN/evaluation-NAME, if not given.")] = None,
) -> None:
    """Score other lesions with the final network of a finished run, at this machine; nothing is sent.

    RUN is the folder of a finished run. A new folder gets evaluation.json and report.html (figures with intervals,
    calibration, groups, drift), the scores, and which rows could not be used. Without outcomes there are scores only.
    """
    if (manifest is None) == (data_root is None):
        raise typer.BadParameter("expected either --manifest FILE or --data-root FOLDER")
    import torch
    from rich.console import Console

    from server.report.html_report import REPORT_FILE
    from shared_model.system.terminal import log_to_stderr
    from shared_model.vocabulary import Split
    from simulations.evaluation import evaluate as evaluation
    from simulations.evaluation.display import print_evaluation
    from simulations.evaluation.finished_model import FinishedModel
    from simulations.evaluation.other_lesions import Source

    log_to_stderr()
    torch.set_num_threads(1)
    path, is_manifest = (data_root, False) if manifest is None else (manifest, True)
    rows = split or (_ALL if is_manifest else Split.TEST)
    source = Source(
        path=path or Path(),
        is_manifest=is_manifest,
        split=None if rows == _ALL else Split(rows),
        roster=roster,
        sites=tuple(site or ()),
        cache=cache,
    )
    folder = evaluation.new_folder(run, source, out)
    found = evaluation.evaluate(
        FinishedModel.open(run), source, folder, request=_request(recalibrate), report=lambda _done, _total: None
    )
    print_evaluation(found, Console())
    typer.echo(f"Report in {folder / REPORT_FILE}")


def _request(text: str | None) -> "RecalibrationRequest | None":
    from simulations.evaluation.document import RecalibrationKind
    from simulations.evaluation.recalibration import RecalibrationRequest

    if text is None:
        return None
    if text.startswith(_OUTCOMES):
        return RecalibrationRequest(kind=RecalibrationKind.OUTCOMES, num_outcomes=int(text.removeprefix(_OUTCOMES)))
    return RecalibrationRequest(kind=RecalibrationKind.MEAN)
