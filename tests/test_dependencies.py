"""``pyproject.toml`` declares what the code imports, and nothing else without a reason."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = ("client", "configs", "server", "shared_model", "simulations")
NOT_IMPORTED_BY_NAME = {
    "pyarrow": "pandas reads .parquet manifests with it",
    "pyjpegls": "pydicom decodes JPEG-LS with it",
    "python-gdcm": "pydicom decodes JPEG and JPEG 2000 with it, in a process of its own",
    "torchvision": "shared_model.network.torchvision_cpu imports it by name",
}
COMES_WITH_ANOTHER = {"pydantic-core": "pydantic, which fixes its version"}
TOOLS = {
    *("import-linter", "mypy", "pandas-stubs", "pytest-xdist", "ruff", "types-pyyaml"),
    "highdicom",  # client.pacs writes results with it
    "openvino",  # shared_model.network.openvino_encoder imports it by name
    "setuptools",  # builds the wheel of tests/test_package.py
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OPTIONAL = [
    text
    for extra in ("tensorboard", "pacs", "day", "onnx", "openvino")
    for text in PROJECT["optional-dependencies"][extra]
]


def normalised(name):
    """PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(requirements):
    return {normalised(Requirement(each).name) for each in requirements}


def imported_names(paths):
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module


def imported_distributions(folders):
    """The distributions of all third-party modules that are imported anywhere in a file, normalised."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    ours = {*PACKAGES, "docs", "tests"} | sys.stdlib_module_names
    modules = {name.partition(".")[0] for name in imported_names(paths)} - ours
    known = packages_distributions()
    assert modules <= set(known), "every imported module belongs to an installed distribution"
    return {normalised(known[module][0]) for module in modules}


def test_the_packages_import_what_is_declared_and_nothing_else():
    extras = declared(OPTIONAL)
    required = declared(PROJECT["dependencies"])
    found = imported_distributions(PACKAGES)
    assert found - extras - set(COMES_WITH_ANOTHER) <= required
    assert required - found == set(NOT_IMPORTED_BY_NAME)


def test_tests_import_what_a_developer_installs():
    required, developers = declared(PROJECT["dependencies"]), declared(PROJECT["optional-dependencies"]["dev"])
    found = imported_distributions(("tests", "docs"))
    assert found <= required | developers
    assert developers - found == TOOLS


def test_the_test_command_covers_the_optional_parts():
    assert declared(OPTIONAL) <= declared(PROJECT["optional-dependencies"]["dev"])


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_constraints_hold_a_version_that_fits(extra):
    """``make setup`` would resolve to something else than what is proven otherwise."""
    lines = (line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#"))
    pinned = {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}
    for text in PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned[normalised(requirement.name)])
