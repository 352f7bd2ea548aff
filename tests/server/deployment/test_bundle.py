"""The application bundle: the code and nothing that lies beside it, and the same bytes wherever it is built."""

import io
import os
import shutil
import tomllib
import zipfile
import zlib
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_disk, build_fab_from_files
from flwr.cli.config_utils import load_and_validate
from flwr.cli.utils import collect_files

from server.deployment.bundle import build_bundle, bundle_digest

ROOT = Path(__file__).parents[3]
PACKAGES = ("client", "server", "shared_model", "configs")
CANARY = "ZQXCANARYQXZ"


def copy_packages(folder):
    for package in (*PACKAGES, "simulations"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def littered(tmp_path_factory):
    """A working folder with patients' data all over the place, and other times and modes."""
    folder = copy_packages(tmp_path_factory.mktemp("work") / "app")
    application = "server/deployment/application"
    for name in (
        *("", "client", "server/deep", "configs/preset", "runs/1/ledgers", ".cache", "data/CBIS-DDSM", application),
        "client/__pycache__",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for suffix in ("csv", "dcm", "json", "sqlite", "key", "npy", "log", "txt", "pyc"):
            (folder / name / f"{CANARY}.{suffix}").write_text(CANARY)
    for path in (folder / "client").rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (1, 1))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The unpacked bundle, an application for Flower's own commands."""
    folder = tmp_path_factory.mktemp("application")
    with zipfile.ZipFile(io.BytesIO(build_bundle())) as archive:
        archive.extractall(folder)
    return folder


# Flower's own build of a checkout is what a person gets who says flwr run there.
@pytest.fixture(scope="module", params=[build_bundle, build_fab_from_disk], ids=["ours", "Flower's, of a checkout"])
def members(request, littered):
    """The contents by name of a bundle."""
    with zipfile.ZipFile(io.BytesIO(request.param(littered))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_no_canary(members):
    assert not [name for name, content in members.items() if CANARY in name or CANARY.encode() in content]


def test_every_module_of_a_site_and_of_the_server(members):
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    configs = {str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml")}
    assert modules | configs <= set(members)
    assert {name for name in members if "/" in name and not name.startswith(".")} == modules | configs


def test_readme_and_licence(members):
    assert members["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"federated" in members["README.md"].lower()


class TestDefinition:
    """``application/pyproject.toml`` beside the repository's."""

    def test_flower_finds_no_fault_and_takes_it_for_format_1(self, folder):
        config, warnings = load_and_validate(folder / "pyproject.toml")
        assert warnings == []
        assert config["tool"]["flwr"]["app"]["fab-format-version"] == 1
        _, metadata = build_fab_from_files(collect_files(folder))
        assert (metadata.fab_format_version, metadata.flwr_version_min) == (1, "1.41")

    def test_flwr_run_sends_what_the_sites_approve(self, folder):
        assert build_fab_from_disk(folder) == build_bundle()

    def test_it_agrees_with_the_package(self, folder):
        ours, package = (tomllib.loads((each / "pyproject.toml").read_text()) for each in (folder, ROOT))
        for key in ("name", "version", "description"):
            assert ours["project"][key] == package["project"][key]
        assert set(ours["project"]["dependencies"]) <= set(package["project"]["dependencies"])
        ours, package = (each["tool"]["flwr"]["app"] for each in (ours, package))
        assert {key: ours[key] for key in package} == package


class TestSameBytes:
    def test_from_another_folder_with_other_times_modes_and_litter(self, littered):
        assert bundle_digest(littered) == bundle_digest()

    def test_in_whatever_order_the_file_system_lists(self, monkeypatch):
        expected, rglob = bundle_digest(), Path.rglob
        monkeypatch.setattr(Path, "rglob", lambda folder, pattern: sorted(rglob(folder, pattern), reverse=True))
        assert bundle_digest() == expected

    def test_whichever_zlib_the_machine_has(self, monkeypatch):
        expected = bundle_digest()
        monkeypatch.delattr(zlib, "compressobj")
        assert bundle_digest() == expected


@pytest.mark.parametrize(
    ("name", "is_seen"),
    [
        ("client/site.py", True),
        ("server/app.py", True),
        ("shared_model/new.py", True),
        ("configs/preset/smoke.yaml", True),
        ("server/deployment/bundle.py", True),
        ("simulations/run.py", False),
        ("pyproject.toml", False),
        ("README.md", False),
        ("client/privacy/report/templates/privacy_report.html", False),
    ],
)
def test_the_digest_changes_with_the_code_and_nothing_else(name, is_seen, tmp_path):
    folder = copy_packages(tmp_path / "app")
    with (folder / name).open("a") as file:
        file.write("\n")
    assert (bundle_digest(folder) != bundle_digest()) == is_seen
