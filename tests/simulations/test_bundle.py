"""What Flower sends to every site as the application: the code and nothing that lies beside it."""

import io
import shutil
import zipfile
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk

ROOT = Path(__file__).parents[2]
PACKAGES = ("client", "server", "shared_model", "configs")
CANARY = "ZQXCANARYQXZ"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The contents by name of the bundle of a working folder with patients' data all over the place."""
    folder = tmp_path_factory.mktemp("work") / "app"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in (*PACKAGES, "simulations"):
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("", "client", "server/deep", "configs/preset", "runs/1/ledgers", ".cache", "data/CBIS-DDSM"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for suffix in ("csv", "dcm", "json", "sqlite", "key", "npy", "log", "txt"):
            (folder / name / f"{CANARY}.{suffix}").write_text(CANARY)
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(folder))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_no_canary(bundle):
    assert not [name for name, content in bundle.items() if CANARY in name or CANARY.encode() in content]


def test_every_module_of_a_site_and_of_the_server(bundle):
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    assert modules | configs <= set(bundle)
    assert {name for name in bundle if "/" in name and not name.startswith(".")} == modules | configs
