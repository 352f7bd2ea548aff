"""The SuperLink and the commands that talk to it, with Flower's programs replaced by functions."""

import json
import shlex
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest
import yaml

from server.deployment import superlink
from server.deployment.kit import ServerKit
from server.deployment.superlink import list_runs, serve, site_statuses, stop_run, submit_run
from shared_model.config.composition import compose
from shared_model.errors import ConfigError, RoundError


@pytest.fixture
def kit(tmp_path):
    """The server's files as far as they are read here: no test looks into a certificate."""
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "server.yaml").write_text(yaml.safe_dump({"host": "localhost", "port": 9092, "sites": ["mgh", "wfu"]}))
    return ServerKit.load(folder)


class Flower:
    """``flwr`` as a function: keeps its calls and prints what ``replies`` holds for the first argument."""

    def __init__(self, **replies):
        self.replies = replies
        self.calls = []
        self.options = []

    def __call__(self, command, **options):
        assert command[:2] == (sys.executable, str(Path(sys.executable).with_name("flwr")))
        assert command[-2:] == ("--format", "json")
        arguments = list(command[2:-2])
        self.calls.append(arguments)
        self.options.append(options)
        reply = self.replies.get(arguments[0], {})
        if callable(reply):
            reply = reply(*arguments)
        if isinstance(reply, Exception):
            raise reply
        output = reply if isinstance(reply, bytes) else json.dumps({"success": True} | reply).encode()
        return subprocess.CompletedProcess(command, 0, stdout=output)


@pytest.fixture
def flower(monkeypatch):
    fake = Flower()
    monkeypatch.setattr(superlink.subprocess, "run", fake)
    return fake


class TestCommands:
    def test_runs_come_with_the_latest_last(self, kit, flower):
        flower.replies["list"] = {
            "runs": [
                {"run-id": 7, "status": "running", "elapsed": 3},
                {"run-id": 5, "status": "finished:completed", "elapsed": 90.5},
                {"run-id": 6, "status": "finished:failed", "elapsed": 12.0},
            ]
        }
        runs = list_runs(kit)
        assert [(run.run_id, run.elapsed_seconds, run.is_finished) for run in runs] == [
            ("5", 90.5, True),
            ("6", 12.0, True),
            ("7", 3.0, False),
        ]
        assert flower.calls == [["list", "coordinator"]]

    def test_every_command_reads_the_kit_s_own_flower_home_and_installs_nothing(self, kit, flower):
        flower.replies["list"] = {"runs": []}
        assert list_runs(kit) == []
        (options,) = flower.options
        assert options["env"]["FLWR_HOME"] == str(kit.flower_home)
        assert options["env"]["FLWR_TELEMETRY_ENABLED"] == "0"
        assert options["env"]["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
        assert options["cwd"] == kit.state_dir
        assert options["timeout"] > 0

    def test_a_run_is_stopped_by_its_id(self, kit, flower):
        stop_run(kit, "42")
        assert flower.calls == [["stop", "42", "coordinator"]]

    def test_sites_have_the_status_of_their_nodes(self, kit, flower):
        kit.write_node_ids({"mgh": 2**63 + 1, "wfu": 3, "new": 9})
        flower.replies["supernode"] = {
            "nodes": [
                {"node-id": str(2**63 + 1), "status": "online"},
                {"node-id": 3, "status": "registered"},
                {"node-id": 4, "status": "online"},
            ]
        }
        assert site_statuses(kit) == {"mgh": "online", "wfu": "registered", "new": "unknown"}

    def test_before_the_first_start_there_are_no_sites(self, kit, flower):
        flower.replies["supernode"] = {"nodes": []}
        assert site_statuses(kit) == {}


class TestFailures:
    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"Traceback (most recent call last)",
            OSError("no such program"),
            subprocess.TimeoutExpired("flwr", 300),
        ],
        ids=["silence", "no JSON", "not there", "too slow"],
    )
    def test_no_answer_says_what_to_do(self, kit, flower, reply):
        flower.replies["list"] = reply
        with pytest.raises(RoundError, match=r"flwr list on 127\.0\.0\.1:9092; is fedmammo server start running"):
            list_runs(kit)

    def test_a_refusal_is_one_line(self, kit, flower):
        flower.replies["stop"] = {"success": False, "error-message": "no run\n  with this\tid " + "x" * 900}
        with pytest.raises(RoundError, match="Expected flwr stop to succeed: no run with this id x") as caught:
            stop_run(kit, "42")
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("reply", [b"[]", b"3", b"null", b"{}", b'{"success": false}'])
    def test_an_answer_of_another_form_is_a_refusal(self, kit, flower, reply):
        flower.replies["list"] = reply
        with pytest.raises(RoundError, match="Expected flwr list to succeed: None"):
            list_runs(kit)


class TestSubmit:
    @pytest.fixture(autouse=True)
    def application(self, monkeypatch):
        """The real one holds all our source."""
        monkeypatch.setattr(superlink, "write_application", lambda folder: (folder / "pyproject.toml").write_text(""))

    def test_the_application_is_there_while_it_is_sent_and_gone_afterwards(self, kit, flower):
        kit.state_dir.mkdir()
        seen = []

        def run(_, folder, connection, option, run_config):
            seen.append((Path(folder), sorted(path.name for path in Path(folder).iterdir())))
            assert (connection, option) == ("coordinator", "--run-config")
            return {"run-id": 123}

        flower.replies["run"] = run
        assert submit_run(kit, ["preset=smoke"]) == "123"
        ((folder, names),) = seen
        assert names == ["pyproject.toml"]
        assert not folder.exists()

    @pytest.mark.parametrize(
        "overrides",
        [
            ["preset=smoke", "seed=1"],
            ['run.dir=/tmp/a b/c\'s "d"', "federation.sites=[mgh,wfu]"],
            ["run.dir=/tmp/J\u00f6rg (study)\\x"],
            [],
        ],
    )
    def test_overrides_arrive_as_they_were_given(self, kit, flower, overrides):
        kit.state_dir.mkdir()
        arrived = []

        def run(*arguments):
            written = tomllib.loads(Path(arguments[-1]).read_text(encoding="utf-8"))
            # As server.app splits them.
            arrived.append(shlex.split(written["overrides"]))
            return {"run-id": 1}

        flower.replies["run"] = run
        submit_run(kit, overrides)
        assert arrived == [overrides]

    def test_what_arrives_composes(self, kit, flower, tmp_path):
        kit.state_dir.mkdir()
        flower.replies["run"] = {"run-id": 1}
        submit_run(kit, ["preset=smoke", f"run.dir={tmp_path}"])
        written = tomllib.loads((kit.state_dir / "run_config.toml").read_text())
        assert compose(shlex.split(written["overrides"])).run.dir == str(tmp_path)

    def test_a_refusal_removes_the_application_too(self, kit, flower):
        kit.state_dir.mkdir()
        flower.replies["run"] = {"success": False, "error-message": "no"}
        with pytest.raises(RoundError, match="Expected flwr run to succeed: no"):
            submit_run(kit, ["preset=smoke"])
        assert [path.name for path in kit.state_dir.iterdir()] == ["run_config.toml"]


class FakeProcess:
    """A SuperLink that runs until ``ends_after`` polls."""

    def __init__(self, ends_after=None):
        self.ends_after = ends_after
        self.num_polls = 0
        self.is_stopped = False

    def poll(self):
        self.num_polls += 1
        return 1 if self.ends_after is not None and self.num_polls > self.ends_after else None


class TestServe:
    """Starting the SuperLink, with its process and its certificate replaced."""

    @pytest.fixture
    def started(self, monkeypatch):
        """What was started: the command, its folder and environment; and the process itself."""
        record = {"process": FakeProcess(), "opens": True}

        def start_process(command, *, environment, folder, log):
            record.update(command=list(command), environment=environment, folder=folder, log=log)
            return record["process"]

        def stop_process(process):
            process.is_stopped = True

        monkeypatch.setattr(superlink, "require_signed_by", lambda certificate, authority: None)
        monkeypatch.setattr(superlink, "certificate_days_left", lambda certificate, now: 10.0)
        monkeypatch.setattr(superlink.processes, "start_process", start_process)
        monkeypatch.setattr(superlink.processes, "stop_process", stop_process)
        monkeypatch.setattr(superlink.processes, "wait_for_port", lambda *_, **__: record["opens"])
        return record

    @staticmethod
    def serve_until_ready(kit):
        stop = threading.Event()
        serve(kit, stop=stop, on_ready=stop.set)

    def register(self, *arguments):
        return {"node-id": {"mgh": 11, "wfu": 12}[arguments[-1]]}

    def test_sites_are_enrolled_by_their_keys_before_it_is_ready(self, kit, started, flower):
        flower.replies["supernode"] = self.register
        enrolled, stop = [], threading.Event()

        def on_ready():
            enrolled.append(kit.node_ids())
            stop.set()

        serve(kit, stop=stop, on_ready=on_ready)
        assert enrolled == [{"mgh": 11, "wfu": 12}]
        keys = [kit.folder / "sites" / f"{site}.pub" for site in kit.sites]
        assert flower.calls == [
            ["supernode", "register", str(key), "coordinator", "--name", site]
            for key, site in zip(keys, kit.sites, strict=True)
        ]
        assert started["process"].is_stopped

    def test_who_is_enrolled_already_is_not_enrolled_again(self, kit, started, flower):
        kit.write_node_ids({"mgh": 11})
        flower.replies["supernode"] = self.register
        self.serve_until_ready(kit)
        assert [call[-1] for call in flower.calls] == ["wfu"]
        assert kit.node_ids() == {"mgh": 11, "wfu": 12}

    def test_an_enrolment_that_fails_half_way_keeps_the_first(self, kit, started, flower):
        flower.replies["supernode"] = lambda *arguments: (
            self.register(*arguments) if arguments[-1] == "mgh" else {"success": False, "error-message": "bad key"}
        )
        with pytest.raises(ConfigError, match=r"Expected to enrol site wfu by its key .*wfu\.pub: .*bad key"):
            self.serve_until_ready(kit)
        assert kit.node_ids() == {"mgh": 11}
        assert started["process"].is_stopped

    def test_tls_authentication_and_no_installation_at_run_time(self, kit, started, flower):
        flower.replies["supernode"] = self.register
        self.serve_until_ready(kit)
        command = started["command"]
        assert command[:2] == [sys.executable, str(Path(sys.executable).with_name("flower-superlink"))]
        for option, name in (
            ("--ssl-certfile", "server.pem"),
            ("--ssl-keyfile", "server.key"),
            ("--ssl-ca-certfile", "ca.pem"),
        ):
            assert command[command.index(option) + 1] == str(kit.folder / name)
        assert "--enable-supernode-auth" in command
        assert "--disable-runtime-dependency-installation" in command
        assert "--insecure" not in command
        assert command[-2:] == ["--port", "9092"]

    def test_it_starts_in_an_empty_folder_from_which_no_code_is_imported(self, kit, started, flower):
        flower.replies["supernode"] = self.register
        self.serve_until_ready(kit)
        assert started["folder"] == kit.state_dir / "empty"
        assert started["log"] == kit.state_dir / "superlink.log"
        assert started["environment"]["FLWR_HOME"] == str(kit.flower_home)

    def test_flower_s_own_commands_find_it_over_tls(self, kit, started, flower):
        flower.replies["supernode"] = self.register
        self.serve_until_ready(kit)
        config = tomllib.loads((kit.flower_home / "config.toml").read_text())["superlink"]
        assert config["default"] == "coordinator"
        assert config["coordinator"] == {
            "address": "127.0.0.1:9092",
            "root-certificates": str(kit.folder / "ca.pem"),
        }

    def test_a_port_that_does_not_open_is_an_error_with_the_log_s_name(self, kit, started, flower):
        started["opens"] = False
        with pytest.raises(ConfigError, match=r"Expected the SuperLink to open port 9092; see .*superlink\.log"):
            serve(kit, stop=threading.Event(), on_ready=pytest.fail)
        assert started["process"].is_stopped

    def test_stopping_while_it_starts_is_no_error(self, kit, started, flower):
        started["opens"] = False
        stop = threading.Event()
        stop.set()
        serve(kit, stop=stop, on_ready=pytest.fail)
        assert started["process"].is_stopped
        assert flower.calls == []

    def test_a_superlink_that_ends_by_itself_is_an_error(self, kit, started, flower):
        flower.replies["supernode"] = self.register
        started["process"] = FakeProcess(ends_after=0)
        with pytest.raises(ConfigError, match=r"Expected the SuperLink to go on; see .*superlink\.log"):
            serve(kit, stop=threading.Event(), on_ready=lambda: None)
        assert started["process"].is_stopped

    @pytest.mark.parametrize("days_left", [0.0, -3.0])
    def test_an_expired_certificate_starts_nothing(self, kit, started, flower, monkeypatch, days_left):
        monkeypatch.setattr(superlink, "certificate_days_left", lambda certificate, now: days_left)
        with pytest.raises(ConfigError, match=r"server\.pem to be valid, it has expired; make new kits"):
            self.serve_until_ready(kit)
        assert "command" not in started

    def test_the_certificate_of_another_authority_starts_nothing(self, kit, started, flower, monkeypatch):
        def refuse(certificate, authority):
            assert (certificate, authority) == (kit.folder / "server.pem", kit.folder / "ca.pem")
            raise ConfigError("Expected server.pem to be signed by ca.pem.")

        monkeypatch.setattr(superlink, "require_signed_by", refuse)
        with pytest.raises(ConfigError, match="to be signed by"):
            self.serve_until_ready(kit)
        assert "command" not in started
