"""``shared_model.config`` and ``shared_model.network`` give what they promise, and import it when it is asked for."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared_model.config", "shared_model.network")
LIGHT = """
import json, sys
import shared_model.config.fingerprints, shared_model.network
print(json.dumps(sorted({"hydra", "omegaconf", "torch", "numpy"} & set(sys.modules))))
"""


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_given_is_what_type_checkers_are_told(package):
    module = importlib.import_module(package)
    source = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    told = {alias.name: statement.module for statement in block.body for alias in statement.names}
    assert set(told) == set(module.__all__)
    for name, home in told.items():
        assert getattr(module, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", PACKAGES)
def test_another_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


def test_the_packages_alone_import_nothing_heavy():
    found = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LIGHT],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == []
