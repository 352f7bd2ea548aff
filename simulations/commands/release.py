"""``fedmammo server release``; it stands here since public lesions are read by code that only sites have otherwise."""

from pathlib import Path
from typing import Annotated

import typer

from server.commands.flags import RunFolder

_CACHE = Path(".cache")
_SPLITS = ("train", "test", "all")


def _split(text: object) -> str:
    if text not in _SPLITS:
        raise typer.BadParameter(f"expected {text!r} to be one of {', '.join(_SPLITS)}")
    return str(text)


def _level(text: object) -> float:
    try:
        level = float(str(text))
    except ValueError:
        raise typer.BadParameter(f"expected {text!r} to be a number") from None
    if not 0.5 <= level < 1:
        raise typer.BadParameter(f"expected {text} in [0.5, 1)")
    return level


def release(
    run: RunFolder,
    *,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to make; new or empty.")],
    kit: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The server's kit, whose key signs the release.")
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Sign nothing; readers must be told to accept it.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Of the release; the run folder's, if not given.")
    ] = None,
    public_root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Public lesions, a folder as CBIS-DDSM comes.")
    ] = None,
    public_manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Or a table of public lesions, CSV or Parquet.")
    ] = None,
    public_split: Annotated[
        str | None,
        typer.Option(parser=_split, metavar="train|test|all", help="Which rows; test of a folder, all of a table."),
    ] = None,
    level: Annotated[
        float | None, typer.Option(parser=_level, metavar="SHARE", help="Coverage at which readings abstain; 0.9.")
    ] = None,
    public_holdout: Annotated[
        bool, typer.Option("--public-holdout", help="The run's own test lesions are public: tell its figures.")
    ] = False,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Add the network as an ONNX file, for other programs; needs the extra onnx.")
    ] = False,
    cache: Annotated[Path, typer.Option(metavar="FOLDER", help="Of what the network reads of images.")] = _CACHE,
) -> None:
    """Make a finished run into a release: what a hospital needs to read its own patients with the network.

    RUN is the folder of a finished run. A new folder gets the network, what may be asked of it, how sure its answers
    are, a model card and the signature; nothing of a patient that is not noisy or public. Prints the digest that every
    site approves in approved_releases.txt beside its site.yaml.
    """
    if (kit is None) != unsigned:
        raise typer.BadParameter("expected either --kit FOLDER, the server's, or --unsigned")
    if public_root is not None and public_manifest is not None:
        raise typer.BadParameter("expected --public-root FOLDER or --public-manifest FILE, not both")
    import torch

    from server.evaluation.conformal_coverage import DEFAULT_LEVEL
    from server.release.assembly import Choices, RunToRelease, assemble
    from server.release.folder import load_signer, require_new, write_release
    from server.release.onnx_extra import require_onnx
    from shared_model.release.document import NOT_CALIBRATED
    from shared_model.system.terminal import log_to_stderr
    from shared_model.vocabulary import Split
    from simulations.evaluation.finished_model import FinishedModel
    from simulations.evaluation.other_lesions import Source
    from simulations.evaluation.public_lesions import read_public_lesions

    log_to_stderr()
    torch.set_num_threads(1)
    require_new(out)
    signer = None if kit is None else load_signer(kit)
    model = FinishedModel.open(run)
    if onnx:
        require_onnx(model.config.model)
    public, path = None, public_root or public_manifest
    if path is not None:
        rows = public_split or ("test" if public_manifest is None else "all")
        source = Source(
            path=path,
            is_manifest=public_manifest is not None,
            split=None if rows == "all" else Split(rows),
            cache=cache,
        )
        public = read_public_lesions(source, model.config)
    choices = Choices(
        name=name or run.resolve().name,
        is_signed=signer is not None,
        level=DEFAULT_LEVEL if level is None else level,
        is_holdout_public=public_holdout,
        has_onnx=onnx,
    )
    finished = RunToRelease(folder=run, config=model.config, results=model.results, network=model.network)
    document, files = assemble(finished, choices, public)
    digest = write_release(out, document, files, signer)
    if signer is None:
        typer.echo("NOT SIGNED: nobody vouches for this release")
    if b'"public": null' in document:
        typer.echo(f"No public lesions: {NOT_CALIBRATED}")
    typer.echo(f"Release in {out}\n{digest}")
