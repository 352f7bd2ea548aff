"""The package as a hospital installs it: a wheel in an environment without the checkout, used from any folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from server.deployment.bundle import bundle_digest
from shared_model.config.fingerprints import source_fingerprint

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "configs", "server", "shared_model", "simulations")


def run(*command, folder, **environment):
    """Run a command in an environment that knows nothing of the checkout; return what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(  # noqa: S603, our own commands
        [str(word) for word in command],
        cwd=folder,
        env={**kept, "COLUMNS": "200", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """What a release is built from, with leftovers of an earlier build and of other work."""
    folder = tmp_path_factory.mktemp("tree")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "MANIFEST.in", "NOTICE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("build/lib/client/deleted_since.py", "client/__pycache__/site.pyc", "client/patients.csv"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("left over")
    return folder


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", folder, tree, folder=tree)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A virtual environment with the wheel; it finds the dependencies, and not the checkout, through a .pth file."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    options = ("--no-deps", "--no-index", "--quiet")
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", *options, wheel, folder=folder)
    return folder


@pytest.fixture(scope="module")
def installed(environment):
    """The folder of the installed packages."""
    return next(environment.glob("lib/*/site-packages"))


def shadow(folder):
    """Put modules into a folder that a working folder may hold by chance."""
    for name in (*PACKAGES, "torch", "typer"):
        (folder / f"{name}.py").write_text("raise SystemExit('the module of the working folder was imported')")


def package_files(root):
    return {
        path.relative_to(root).as_posix() for name in PACKAGES for path in (root / name).rglob("*") if path.is_file()
    }


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {name for name in package_files(ROOT) if "__pycache__" not in name}
    assert found == {name for name in expected if not name.startswith("simulations/figures/")}


def test_the_wheel_is_typed_and_says_its_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert "License-Expression: Apache-2.0\n" in metadata


def test_bundle_and_source_are_those_of_the_checkout(environment, installed, tmp_path):
    assert bundle_digest(installed) == bundle_digest()
    script = "from shared_model.config.fingerprints import source_fingerprint; print(source_fingerprint())"
    assert run(environment / "bin/python", "-P", "-c", script, folder=tmp_path).strip() == source_fingerprint()


def test_an_sdist_makes_the_same_bundle(tree, tmp_path):
    script = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", script, folder=tree)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    assert bundle_digest(next(path for path in tmp_path.iterdir() if path.is_dir())) == bundle_digest()


def test_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert citation["authors"] == project["authors"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["empty", "shadowed", "Jörg (study)"])
def test_kits_and_fingerprint_from_any_folder(name, environment, tmp_path):
    fedmammo, folder = environment / "bin/fedmammo", tmp_path / name
    folder.mkdir()
    if name == "shadowed":
        shadow(folder)
    assert "provision" in run(fedmammo, "server", "--help", folder=folder)
    assert source_fingerprint() in run(fedmammo, "site", "fingerprint", folder=folder)
    run(fedmammo, "server", "provision", "--sites", "MGH,WFU", "--out", "kits", folder=folder)
    assert bundle_digest() in (folder / "kits/sites/MGH/approved_bundles.txt").read_text()


@pytest.mark.slow
def test_a_round_from_a_folder_that_is_shadowed_and_has_an_odd_name(environment, tmp_path, smoke):
    folder = tmp_path / "Jörg (study)"
    folder.mkdir()
    shadow(folder)
    overrides = ("preset=smoke", f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}", "run.dir=runs/one")
    run(environment / "bin/fedmammo", "simulate", *overrides, "training.num_rounds=1", folder=folder)
    results = json.loads((folder / "runs/one/results.json").read_bytes())
    assert results["provenance"]["source_fingerprint"] == source_fingerprint()
