"""The command ``fedmammo`` as a whole: its tree, what it imports, its exit statuses, and who may stand in its way."""

import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from simulations.commands.app import app, main

ROOT = Path(__file__).parents[3]
HEAVY = (
    "captum", "cv2", "dp_accounting", "flwr", "hydra", "matplotlib", "numpy", "omegaconf", "opacus", "pandas",
    "pandera", "pyarrow", "pydantic", "pydicom", "scipy", "sklearn", "torch", "torchvision",
)  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""Of a process that imports this tree, whatever is installed."""
LIGHT = """
import contextlib, io, json, sys
from simulations.commands.app import main
found = {}
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        status = main(arguments)
    heavy = sorted({name.split(".")[0] for name in sys.modules} & set(sys.argv[1:]))
    found[" ".join(arguments)] = [status, heavy, shown.getvalue()]
print(json.dumps(found))
"""


def tree(group, path=()):
    """Yield the names of every command and group."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from tree(command, (*path, name))


PATHS = tuple(tree(typer.main.get_command(app)))
COMMANDS = tuple(path for path in PATHS if not any(other[: len(path)] == path for other in PATHS if other != path))


@pytest.fixture(scope="module")
def helps():
    """Exit status, heavy modules imported so far, and what was printed, of every ``--help`` in one process."""
    asked = [[*path, "--help"] for path in PATHS] + [["site", "fingerprint"]]
    found = subprocess.run(  # noqa: S603
        [sys.executable, "-c", LIGHT, *HEAVY],
        input=json.dumps(asked),
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(found.stdout)


def test_the_tree_is_the_one_that_is_documented():
    assert {" ".join(path) for path in COMMANDS} == {
        *("simulate", "evaluate", "explain", "rehearse", "rehearse-day", "phantom", "manifest check"),
        *("reference constants", "site identity"),
        *(
            "benchmark privacy",
            "benchmark scale",
            "benchmark utility",
            "benchmark grey-levels",
            "benchmark tables",
            "benchmark cost",
            "benchmark reading",
            "benchmark features",
            "reference grey-levels",
            "attack liar",
            "attack membership",
            "attack one-run",
            "attack inversion",
        ),
        *("study cross-validation", "study search", "study leave-one-hospital-out", "study cross-site"),
        *("study baselines", "study epsilon"),
        *("site init", "site preflight", "site start", "site forget", "site privacy-report", "site fingerprint"),
        *("site ledger verify", "site ledger backup", "site ledger move", "site ledger recover"),
        *("server provision", "server start", "server run", "server status", "server stop", "server resume"),
        *("server follow", "server report", "server events", "server release", "server dossier", "site reader", "read"),
        *(f"site pacs {name}" for name in ("echo", "find", "worklist", "fetch", "receive", "results", "send", "post")),
    }


def test_help_imports_nothing_heavy(helps):
    assert len(helps) == len(PATHS) + 1
    assert {arguments: heavy for arguments, (_, heavy, _) in helps.items() if heavy} == {}


def test_help_says_what_a_command_is_for_and_offers_no_completion(helps):
    for arguments, (status, _, shown) in helps.items():
        assert status == 0
        if arguments.endswith("--help"):
            assert f"Usage: fedmammo {arguments.removesuffix('--help')}" in shown
        assert "completion" not in shown
        assert "\\b" not in shown


def test_the_fingerprint_is_that_of_the_source(helps):
    from shared_model.config.fingerprints import source_fingerprint  # noqa: PLC0415

    assert helps["site fingerprint"][2].split() == [source_fingerprint()]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_flag_is_one_line(path, capsys):
    assert main([*path, "--no-such-flag"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line == f"error: No such option '--no-such-flag'. See fedmammo {' '.join(path)} --help."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["studdy"], "No such command 'studdy'. Did you mean 'study'? See fedmammo --help."),
        (["server", "repot"], "No such command 'repot'. Did you mean 'report'? See fedmammo server --help."),
        (["study", "epsilonn"], "No such command 'epsilonn'. Did you mean 'epsilon'? See fedmammo study --help."),
        (["xyz"], "No such command 'xyz'. See fedmammo --help."),
        (["study", "search", "--fold", "2"], "No such option '--fold'. Did you mean '--folds'?"),
        (["attack", "inversion"], "Missing option '--out'. See fedmammo attack inversion --help."),
        (["explain"], "Missing argument 'RUN'. See fedmammo explain --help."),
        (
            ["server", "provision", "--sites", "a", "--out", "b", "--port", "x"],
            "Invalid value for '--port': 'x' is not",
        ),
        (["site", "fingerprint", "more"], "Got unexpected extra argument (more)."),
    ],
)
def test_wrong_usage_is_one_line_that_says_what_to_do(arguments, message, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")


@pytest.mark.parametrize("group", [path for path in PATHS if path not in COMMANDS], ids=" ".join)
def test_a_group_alone_shows_its_commands(group, capsys):
    assert main(list(group)) == 2
    shown = capsys.readouterr().out
    assert all(path[len(group)] in shown for path in COMMANDS if path[: len(group)] == group)


@pytest.mark.parametrize(
    "arguments",
    [
        ["simulate", "preset=none"],
        ["simulate", "no.such.key=1"],
        ["rehearse", "preset=none"],
        ["study", "epsilon", "preset=none", "--out", "study"],
        ["study", "search", "--candidates", "none.yaml"],
        ["benchmark", "utility", "no.such.key=1", "--out", "study"],
        ["evaluate", "none", "--manifest", "none.csv"],
        ["explain", "none"],
        ["phantom", "--out", "taken"],
        ["site", "init"],
        ["site", "preflight"],
        ["site", "start", "--site", "none.yaml"],
        ["site", "forget", "P1"],
        ["site", "ledger", "verify"],
        ["site", "ledger", "backup", "out"],
        ["site", "ledger", "move", "out"],
        ["site", "ledger", "recover"],
        ["site", "privacy-report"],
        ["server", "provision", "--sites", "mgh", "--out", "taken"],
        ["server", "start"],
        ["server", "run", "preset=smoke"],
        ["server", "status", "--kit", "none"],
        ["server", "stop", "1"],
        ["server", "resume", "none"],
        ["server", "report", "none"],
        ["server", "dossier", "none", "--run", "none", "--out", "none-either"],
        ["server", "events", "none"],
    ],
    ids=" ".join,
)
def test_an_error_is_one_line_that_says_what_was_expected(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("in use")
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(("error: Expected", "error: Unknown key"))


@pytest.mark.parametrize(
    ("module", "function", "arguments", "note"),
    [
        ("simulations.federation.simulation", "simulate", ["simulate", "preset=smoke"], "the next run continues"),
        ("simulations.federation.rehearsal", "rehearse", ["rehearse"], "all processes were stopped"),
        ("simulations.studies.study", "run_study", ["study", "epsilon"], "the same command goes on"),
        ("simulations.benchmarks.utility", "report_utility", ["benchmark", "utility"], "the same command goes on"),
        ("shared_model.config.fingerprints", "source_fingerprint", ["site", "fingerprint"], "interrupted"),
    ],
)
def test_an_interrupt_is_one_line_that_says_what_became_of_the_work(
    module, function, arguments, note, monkeypatch, capsys
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module(module), function, interrupt)
    assert main(arguments) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("interrupted")
    assert note in line


BEGIN = "from simulations.commands.fedmammo import main; sys.exit(main())"
WHILE_IMPORTING = f"""
import sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "simulations.commands.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
{BEGIN}
"""
INSIDE_EXEC = f"""
import sys
import client.deployment.site_file as site_file
def load(_path):
    exec("raise KeyboardInterrupt")
site_file.SiteFile.load = load
sys.argv = ["fedmammo", "site", "preflight"]
{BEGIN}
"""


@pytest.mark.parametrize("code", [WHILE_IMPORTING, INSIDE_EXEC], ids=["while importing", "inside exec"])
def test_ctrl_c_is_one_line_and_130_from_the_first_import_on(code):
    """Earlier: a traceback; and after an exec, Python ended the process by the signal."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("command", ["init", "start"])
def test_a_system_without_file_locks_is_told_so_in_one_line(command):
    """Windows, as far as Python shows it."""
    start = f"from simulations.commands.app import main; sys.exit(main(['site', '{command}']))"
    code = f"import sys; sys.modules['fcntl'] = None; {start}"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: Expected a system with the file locks of POSIX, such as Linux, got ")


def test_the_simulation_can_be_started_as_a_module(capsys):
    from simulations.run import main as run  # noqa: PLC0415

    assert run(["preset=none"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


@pytest.fixture
def bad_folder(tmp_path):
    """A working folder with modules that are called as our packages, and raise."""
    for name in ("client", "server", "simulations", "shared_model", "configs", "typer"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('{name}.py of the working folder was imported')\n")
    return tmp_path


@pytest.fixture
def console_script(tmp_path_factory):
    """The console script of pyproject.toml as pip writes it."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, name = metadata["project"]["scripts"]["fedmammo"].split(":")
    path = tmp_path_factory.mktemp("bin") / "fedmammo"
    path.write_text(f"import sys\nfrom {module} import {name}\nif __name__ == '__main__':\n    sys.exit({name}())\n")
    return path


@pytest.mark.parametrize("is_script", [True, False])
def test_modules_of_the_working_folder_do_not_stand_in_for_ours(is_script, bad_folder, console_script):
    command = [console_script] if is_script else ["-P", "-m", "simulations.commands"]
    found = subprocess.run(  # noqa: S603
        [sys.executable, *command, "--help"],
        cwd=bad_folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert "Usage: fedmammo" in found.stdout
