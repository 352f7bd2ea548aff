"""A release for films, made as a coordinator makes it: trained, calibrated on public lesions, signed.

Nobody is protected in these runs and no figure of theirs is for use: noise is reproducible, so that a day that is
played twice is the same day.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from shared_model.config.overrides import override
from shared_model.release.document import DOCUMENT_FILE
from shared_model.release.signature import digest_of
from simulations.day.commands import required
from simulations.day.real_films import CONTEXT, write_table

LEVEL = 0.7
"""Of the conformal sets: at the usual 0.9 a network that was trained so briefly abstains from every second lesion."""
_RESULTS = "results.json"
_FOR_FILMS = (
    "data.image.mode=roi", f"data.image.context={CONTEXT}", "data.image.size=64", "data.views=all",
    "data.features=safe", "privacy.noise=seeded",
)  # fmt: skip
_PHANTOM = ("preset=smoke", "phantom.num_patients=240", "training.num_rounds=10", *_FOR_FILMS)
_REAL = (
    "preset=cbis_mass", "data.source=manifest", "data.roster=sites.csv", "model.backbone=efficientnet_lite0",
    *_FOR_FILMS,
)  # fmt: skip


def phantom_release(folder: Path, server_kit: Path) -> Path:
    """Train on a phantom and make a release for films of it; what an earlier call has made is there already.

    Raises:
        ConfigError: a command failed.
    """
    data = folder / "phantom"
    _train(folder, [*_PHANTOM, override("data.root", str(data))])
    public = ("--public-root", data, "--public-split", "test")
    return _release(folder, server_kit, "rehearsal of a day, phantom", public)


def real_release(folder: Path, server_kit: Path, root: Path) -> Path:
    """Train on the real patches below ``root``, each entered as a film, and make a release of it; likewise.

    Raises:
        ConfigError: a command failed.
        DataError, OSError: the patches cannot be read or copied.
    """
    table = folder / "patches" / "lesions.csv"
    if not (folder / "run" / _RESULTS).exists():
        write_table(root, table.parent)
    _train(folder, [*_REAL, override("data.root", str(table))])
    public = ("--public-manifest", table, "--public-split", "test")
    return _release(folder, server_kit, "rehearsal of a day, four films", public)


def digest(release: Path) -> str:
    """Return the digest of a release, by which a site approves it."""
    return digest_of((release / DOCUMENT_FILE).read_bytes())


def _train(folder: Path, overrides: Sequence[str]) -> None:
    run = folder / "run"
    if not (run / _RESULTS).exists():
        # Of a call that was killed.
        shutil.rmtree(run, ignore_errors=True)
        places = (override("data.cache_dir", str(folder / "cache")), override("run.dir", str(run)))
        required("simulate", *overrides, *places)


def _release(folder: Path, server_kit: Path, name: str, public: Sequence[str | Path]) -> Path:
    release = folder / "release"
    if not release.exists():
        required(
            *("server", "release", folder / "run", "--out", release, "--kit", server_kit, "--name", name),
            *("--level", str(LEVEL), "--cache", folder / "cache", *public),
        )
    return release
