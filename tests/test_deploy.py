"""The units and the container file of ``docs/deploy``: what they start exists, as nobody with rights to spare."""

import configparser
import fnmatch
import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from simulations.commands.app import app

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
PROGRAM = "/opt/fedmammo/.venv/bin/fedmammo"


def unit_in(path):
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read_string(path.read_text(encoding="utf-8"))
    return parser


def instructions():
    """Instruction and rest of every line of the container file."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def require_command(words):
    """Check that ``fedmammo`` has the command, and takes its flags."""
    command, words = typer.main.get_command(app), list(words)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    with command.make_context(command.name, words):
        pass


def test_there_is_a_unit_for_site_and_coordinator():
    assert [path.stem for path in UNITS] == ["fedmammo-server", "fedmammo-site"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_starts_a_command_that_exists(path):
    program, *words = shlex.split(unit_in(path)["Service"]["ExecStart"])
    assert program == PROGRAM
    assert words[:2] == [path.stem.removeprefix("fedmammo-"), "start"]
    require_command(words)
    assert words[-1].startswith(f"/var/lib/{unit_in(path)['Service']['StateDirectory']}")


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_can_write_its_own_folder_alone(path):
    service = unit_in(path)["Service"]
    assert service["User"] not in {"root", "0"}
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert (service["StateDirectoryMode"], service["UMask"]) == ("0700", "0077")
    assert "ReadWritePaths" not in service


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_systemd_understands_the_unit(path, tmp_path):
    """With a program and a user that are on this machine; what it does not understand it names on its output."""
    text = path.read_text(encoding="utf-8").replace(PROGRAM, sys.executable)
    copy = tmp_path / path.name
    copy.write_text(text.replace("User=fedmammo", "User=root").replace("Group=fedmammo", "Group=root"))
    done = subprocess.run(  # noqa: S603
        ["systemd-analyze", "verify", "--man=no", str(copy)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(copy) not in done.stderr


def test_the_container_starts_a_command_that_exists():
    by_name = dict(instructions())
    assert json.loads(by_name["ENTRYPOINT"]) == [PROGRAM]
    words = json.loads(by_name["CMD"])
    require_command(words)
    assert words[-1].startswith(by_name["VOLUME"])


def test_the_container_is_slim_has_one_volume_and_is_nobodys_root():
    names = [name for name, _ in instructions()]
    assert names.count("VOLUME") == 1
    assert {rest.split()[0] for name, rest in instructions() if name == "FROM"} == {"debian:12-slim"}
    last = names[len(names) - names[::-1].index("FROM") :]
    assert last.index("USER") < last.index("ENTRYPOINT")
    assert dict(instructions())["USER"] == "10001"
    assert set(names) <= {
        *("FROM", "RUN", "WORKDIR", "COPY", "ARG", "USER", "VOLUME", "ENV", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
    }


def test_the_container_copies_what_is_there_and_every_package():
    sources = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} == {line for line in ignored if line.startswith("!")}
    assert all((ROOT / source).exists() for source in sources)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages <= set(sources)


@pytest.mark.parametrize("path", [*UNITS, DEPLOY / "Containerfile"], ids=lambda path: path.name)
def test_no_bundle_ships_it(path):
    for file in (ROOT / "pyproject.toml", ROOT / "server" / "deployment" / "application" / "pyproject.toml"):
        patterns = tomllib.loads(file.read_text())["tool"]["flwr"]["app"]["fab-include"]
        assert not any(fnmatch.fnmatch(f"/{path.relative_to(ROOT)}", pattern) for pattern in patterns)
