"""Fingerprints of source and configuration: stable, and different as soon as anything that counts differs."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared_model.config import fingerprints as provenance
from shared_model.config.composition import compose
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint, versions

ROOT = Path(provenance.__file__).parents[2]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A small copy of the layout."""
    root = tmp_path_factory.mktemp("source")
    for name, text in {
        "client/app.py": "a",
        "client/deep/b.py": "b",
        "shared_model/c.py": "c",
        "configs/d.yaml": "d",
        "configs/group/e.yaml": "e",
        "server/f.py": "f",
        "client/notes.txt": "g",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def fingerprint_of(root, monkeypatch):
    monkeypatch.setattr(provenance, "_ROOT", root)
    return source_fingerprint.__wrapped__()


def test_source_fingerprint_is_a_digest_and_repeats():
    assert len(source_fingerprint()) == 64
    assert int(source_fingerprint(), 16) >= 0
    assert source_fingerprint() == source_fingerprint.__wrapped__()


def test_source_fingerprint_does_not_depend_on_the_folder_it_lies_in(tree, tmp_path, monkeypatch):
    shutil.copytree(tree, tmp_path / "copy")
    assert fingerprint_of(tree, monkeypatch) == fingerprint_of(tmp_path / "copy", monkeypatch)


@pytest.mark.parametrize(
    ("name", "is_seen"),
    [
        ("client/app.py", True),
        ("client/deep/b.py", True),
        ("shared_model/c.py", True),
        ("configs/d.yaml", True),
        ("configs/group/e.yaml", True),
        ("client/new.py", True),
        ("server/f.py", False),
        ("client/notes.txt", False),
        ("client/__pycache__/app.pyc", False),
    ],
)
def test_source_fingerprint_sees_what_a_site_runs(tree, tmp_path, monkeypatch, name, is_seen):
    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_text("other")
    assert (fingerprint_of(tree, monkeypatch) != fingerprint_of(root, monkeypatch)) == is_seen


def test_moving_text_between_files_or_names_changes_the_source_fingerprint(tree, tmp_path, monkeypatch):
    seen = {fingerprint_of(tree, monkeypatch)}
    for i, (one, other) in enumerate([("ab", ""), ("", "ab"), ("a\0", "b"), ("b", "a")]):
        root = tmp_path / str(i)
        shutil.copytree(tree, root)
        (root / "client/app.py").write_text(one)
        (root / "client/deep/b.py").write_text(other)
        seen.add(fingerprint_of(root, monkeypatch))
    shutil.copytree(tree, tmp_path / "renamed")
    (tmp_path / "renamed/client/app.py").rename(tmp_path / "renamed/client/ap.py")
    seen.add(fingerprint_of(tmp_path / "renamed", monkeypatch))
    assert len(seen) == 6


def test_a_file_that_swallows_the_next_changes_the_source_fingerprint(tree, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    (root / "client/app.py").write_text("aclient/deep/b.pyb")
    (root / "client/deep/b.py").unlink()
    assert fingerprint_of(tree, monkeypatch) != fingerprint_of(root, monkeypatch)


def test_config_fingerprint_follows_every_value():
    config = compose(["preset=smoke", "run.dir=r"])
    assert config_fingerprint(config) == hashlib.sha256(config.to_json().encode()).hexdigest()
    others = [
        dataclasses.replace(config, seed=1),
        dataclasses.replace(config, training=dataclasses.replace(config.training, learning_rate=1.0)),
    ]
    assert len({config_fingerprint(one) for one in [config, *others]}) == 3
    assert config_fingerprint(dataclasses.replace(others[0], seed=config.seed)) == config_fingerprint(config)


def test_versions_name_what_results_depend_on(monkeypatch):
    found = versions()
    assert found["numpy"] == np.__version__
    assert {"python", "platform", "flwr", "torch", "opacus", "dp-accounting"} <= set(found)
    assert json.loads(json.dumps(found)) == found
    monkeypatch.setattr(provenance, "_PACKAGES", ("no-such-package",))
    assert versions()["no-such-package"] == "not installed"
