"""A coordinator and its hospitals as real processes over TLS, and what happens when some of them fail."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
import yaml
from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest, StopRunRequest, UnregisterNodeRequest
from flwr.proto.fab_pb2 import Fab
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType

from client.data.splits import Role
from client.deployment.own_patients import own_data
from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Committed, Purpose, Reserved
from client.privacy.policy import SitePolicy
from server.deployment.control import site_statuses
from server.deployment.kit import ServerKit
from server.deployment.provision import provision
from server.results.document import ThresholdSource, read_results
from shared_model.config.composition import compose
from shared_model.system.audit_log import verify
from shared_model.system.processes import free_port, start_process, stop_process
from simulations.federation.prepare import prepare
from simulations.federation.rehearsal import FEDMAMMO, Rehearsal, environment, overrides_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("decoders_stay")]
SECONDS = 600
"""How long anything is waited for; only a test that fails takes so long."""


class Stage:
    """A federation whose processes a test starts, kills and starts again."""

    def __init__(self, folder, overrides, config):
        self.rehearsal = Rehearsal.from_config(config, folder)
        self.folder = folder
        self.config = config
        self.overrides = overrides_for(config, overrides)
        self.stack = contextlib.ExitStack()
        self.running = {}

    def start(self, *names):
        for name in names:
            context = self.rehearsal.server() if name == "server" else self.rehearsal.site(name)
            self.running[name] = self.stack.enter_context(context)

    def wait_for_sites(self):
        """Wait until every site has passed its preflight and reached the coordinator."""
        kit = ServerKit.load(self.rehearsal.kits.server)
        wait_for(lambda: set(site_statuses(kit).values()) == {"online"}, "the sites")

    def kill(self, name, number=signal.SIGKILL):
        os.kill(self.running[name].pid, number)
        if number == signal.SIGKILL:
            self.running.pop(name).wait()

    def site(self, *arguments, status=0):
        """Run a command of a site to its end and return what it said."""
        command = (*FEDMAMMO, "site", *arguments)
        # Wide enough for one line a check.
        wide = environment() | {"COLUMNS": "400"}
        finished = subprocess.run(command, env=wide, capture_output=True, text=True, check=False)  # noqa: S603
        assert finished.returncode == status, finished.stdout + finished.stderr
        return finished.stdout + finished.stderr

    def submit(self, run_dir, *overrides, command="run"):
        arguments = [run_dir] if command == "resume" else [*self.overrides, *overrides, f"run.dir='{run_dir}'"]
        command_line = self.rehearsal.command(command, *map(str, arguments))
        log = self.folder / f"{Path(run_dir).name}-{command}.log"
        process = start_process(command_line, environment=environment(), folder=self.folder, log=log)
        self.stack.callback(stop_process, process)
        return process

    def said(self, run_dir, command="run"):
        return (self.folder / f"{Path(run_dir).name}-{command}.log").read_text()

    def finish(self, process, run_dir, command="run"):
        """Wait for the end and return the results."""
        assert process.wait(SECONDS) == 0, self.said(run_dir, command)
        return read_results(Path(run_dir) / "results.json")


def wait_for(condition, what):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


def has_checkpoint(run_dir):
    return (Path(run_dir) / "checkpoint.safetensors").exists


def has_reserved(ledger, count):
    """Return whether the site has begun its ``count``-th round."""

    def condition():
        if not Path(ledger).exists() or not Path(f"{ledger}.head").exists():
            return False
        return sum(isinstance(entry.content, Reserved) for entry in read_history(ledger).entries) >= count

    return condition


@pytest.fixture(scope="module")
def stage(smoke, tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    overrides = [
        *("preset=smoke", f"data.root={smoke.root}", f"data.cache_dir={smoke.cache}"),
        *("privacy.noise=seeded", f"federation.round_timeout_seconds={SECONDS}"),
    ]
    config = prepare(compose([*overrides, f"run.dir={folder}/prepared"]), on_progress=lambda *_: None).config
    made = Stage(folder, overrides, config)
    with made.stack:
        made.start("server", "MGH", "WFU", "ISMD")
        made.wait_for_sites()
        yield made


@pytest.fixture(scope="module")
def whole(stage):
    """The folder of a run that nothing disturbed."""
    run_dir = stage.folder / "whole"
    stage.finish(stage.submit(run_dir), run_dir)
    return run_dir


@pytest.mark.usefixtures("blank_pictures")
def test_processes_compute_what_the_simulation_computes_to_the_last_bit(whole, run_smoke):
    simulated = run_smoke("privacy.noise=seeded", f"federation.round_timeout_seconds={SECONDS}")
    assert (whole / "model.safetensors").read_bytes() == (simulated / "model.safetensors").read_bytes()
    first, second = (read_results(folder / "results.json") for folder in (whole, simulated))
    assert first.final == second.final
    assert first.sites == second.sites


# The second round continues from what server and sites keep of the first, and each costs seconds.
PRIVATE_MEAN = ("model.image_components=0", "model.feature_constants=private_mean", "training.num_rounds=2")
ONE_SHOT = ("strategy=one_shot", "training.num_rounds=1")
SECURE = ("federation.secure_sum=true",)
RECIPES = {
    "deployed": PRIVATE_MEAN,
    "one_shot": ONE_SHOT,
    "deployed_secure": (*PRIVATE_MEAN, *SECURE),
    "one_shot_secure": (*ONE_SHOT, *SECURE),
}


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("name", RECIPES)
def test_the_deployed_recipe_gives_the_simulations_figures_and_threshold_over_tls(stage, run_smoke, name):
    recipe = (*RECIPES[name], "evaluation.threshold_from=training")
    run_dir = stage.folder / name
    results = stage.finish(stage.submit(run_dir, *recipe), run_dir)
    simulated = run_smoke("privacy.noise=seeded", f"federation.round_timeout_seconds={SECONDS}", *recipe)
    assert (run_dir / "model.safetensors").read_bytes() == (simulated / "model.safetensors").read_bytes()
    assert results.final == read_results(simulated / "results.json").final
    assert results.final.threshold_source is ThresholdSource.SITE_TRAINING


@pytest.mark.usefixtures("blank_pictures")
@pytest.mark.parametrize("more", [(), SECURE], ids=["plain", "secure"])
def test_a_killed_coordinator_resumes_and_ends_where_it_would_have(stage, run_smoke, more):
    """Where it would have ended is where the simulation ends, to the last bit, as the test above has shown."""
    run_dir = stage.folder / f"killed-{len(more)}"
    # Another clip makes it another run for the ledgers; seed and noise differ with it.
    follower = stage.submit(run_dir, "privacy.max_grad_norm=0.4", *more)
    wait_for(has_checkpoint(run_dir), "the first round")
    stage.kill("server")
    stop_process(follower)
    assert not (run_dir / "results.json").exists()
    stage.start("server")
    resumed = stage.finish(stage.submit(run_dir, command="resume"), run_dir, "resume")
    undisturbed = run_smoke(
        "privacy.noise=seeded", f"federation.round_timeout_seconds={SECONDS}", "privacy.max_grad_norm=0.4", *more
    )
    assert (run_dir / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    assert resumed.final == read_results(undisturbed / "results.json").final
    assert [entry.round for entry in resumed.rounds] == [1, 2, 3]
    # The repeated rounds were answered from the ledgers and cost nothing.
    for ledger in stage.rehearsal.ledgers.values():
        contents = [entry.content for entry in read_history(ledger).entries]
        reserved = [content for content in contents if isinstance(content, Reserved)]
        # Training and the noisy histograms of the last round are releases of their own.
        assert len({(content.purpose, content.run, content.server_round) for content in reserved}) == len(reserved)


def test_a_site_refuses_code_that_it_has_not_approved_and_the_others_go_on(stage):
    approved = stage.rehearsal.kits.sites["ISMD"] / "approved_bundles.txt"
    text = approved.read_text()
    approved.write_text("# none\n")
    try:
        run_dir = stage.folder / "unapproved"
        results = stage.finish(stage.submit(run_dir, "privacy.max_grad_norm=0.3"), run_dir)
    finally:
        approved.write_text(text)
    assert [entry.num_sites for entry in results.rounds] == [2, 2, 2]
    assert {site.site for site in results.sites} == {"MGH", "WFU"}
    assert "not on the list of approved bundles" in (stage.rehearsal.logs / "ISMD.log").read_text()


def test_audit_logs_say_who_asked_and_what_was_answered(stage, whole):
    assert verify(whole / "audit.jsonl") == 5
    events = [json.loads(line)["event"] for line in (whole / "audit.jsonl").read_text().splitlines()]
    assert events == ["begun", "round", "round", "round", "finished"]
    for site, kit in stage.rehearsal.kits.sites.items():
        path = kit / "state" / "audit.jsonl"
        assert verify(path) >= 9
        first, *lines = [json.loads(line) for line in path.read_text().splitlines()][:9]
        assert first["event"] == "ledger_begun"
        assert [line["event"] for line in lines] == ["asked", "reply"] * 4
        # Noisy histograms are bought once, at the end.
        assert [line["facts"]["kind"] for line in lines[::2]] == ["train"] * 3 + ["evaluate"]
        assert {line["facts"]["outcome"] for line in lines[1::2]} == {"answered"}
        assert all(line["facts"].get("bytes_in", 1) > 0 and line["facts"].get("bytes_out", 1) > 0 for line in lines)
        approved = (kit / "approved_bundles.txt").read_text()
        assert all(line["facts"]["bundle"] in approved for line in lines[::2]), site
        digests = {entry.digest for entry in read_history(stage.rehearsal.ledgers[site]).entries}
        assert {line["facts"]["ledger_head"] for line in (first, *lines[1::2])} <= digests
        assert [line["facts"]["purpose"] for line in lines[1::2]] == ["training"] * 3 + ["evaluation"]


def test_nothing_of_the_sites_stands_in_what_the_coordinator_keeps(stage, whole):
    """Patients are named after folders and tables that only sites read."""
    names = {path.name.encode() for path in Path(stage.config.data.root).rglob("*") if path.is_dir()}
    patients = {name for name in names if name.startswith((b"Mass-", b"Calc-"))}
    assert patients
    for path in stage.rehearsal.kits.server.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [name for name in patients if name in content], path


@pytest.mark.chaos
class TestChaos:
    @pytest.mark.parametrize("more", [(), SECURE], ids=["plain", "secure"])
    def test_a_killed_site_is_done_without_and_comes_back(self, stage, more):
        run_dir, ledger = stage.folder / f"site-killed-{len(more)}", stage.rehearsal.ledgers["WFU"]
        before = len(read_history(ledger).entries) if ledger.exists() else 0
        follower = stage.submit(run_dir, "privacy.max_grad_norm=0.2", "training.num_rounds=5", *more)
        wait_for(has_checkpoint(run_dir), "the first round")
        stage.kill("WFU")
        stage.start("WFU")
        results = stage.finish(follower, run_dir)
        assert len(results.rounds) == 5
        assert min(entry.num_sites for entry in results.rounds) >= 2
        entries = read_history(ledger).entries
        assert len(entries) > before
        reserved = sum(isinstance(entry.content, Reserved) for entry in entries)
        assert reserved >= sum(isinstance(entry.content, Committed) for entry in entries)

    def test_a_hanging_site_holds_a_round_up_until_the_deadline_only(self, stage):
        run_dir, deadline = stage.folder / "hanging", 60
        follower = stage.submit(run_dir, "privacy.max_grad_norm=0.1", f"federation.round_timeout_seconds={deadline}")
        wait_for(has_checkpoint(run_dir), "the first round")
        stage.kill("MGH", signal.SIGSTOP)
        try:
            results = stage.finish(follower, run_dir)
        finally:
            stage.kill("MGH", signal.SIGCONT)
        assert min(entry.num_sites for entry in results.rounds) == 2
        # Two exchanges a round, each at most as long as the deadline.
        assert max(entry.seconds for entry in results.rounds) < 2 * deadline + 30

    def test_a_stopped_run_says_so_and_can_be_resumed(self, stage):
        run_dir = stage.folder / "stopped"
        follower = stage.submit(run_dir, "privacy.max_grad_norm=0.25")
        wait_for(has_checkpoint(run_dir), "the first round")
        run_id = stage.said(run_dir).split("Run ")[1].split()[0]
        command = stage.rehearsal.command("stop", run_id)
        stopping = start_process(command, environment=environment(), folder=stage.folder, log=stage.folder / "stop.log")
        assert stopping.wait(SECONDS) == 0
        assert follower.wait(SECONDS) == 1
        assert "Flower says finished:stopped; fedmammo server resume goes on" in stage.said(run_dir)
        results = stage.finish(stage.submit(run_dir, command="resume"), run_dir, "resume")
        assert [entry.round for entry in results.rounds] == [1, 2, 3]

    def test_a_cut_network_that_comes_back(self, stage):
        proxy = Proxy(ServerKit.load(stage.rehearsal.kits.server).port)
        kit = stage.rehearsal.kits.sites["ISMD"]
        text = (kit / "site.yaml").read_text()
        (kit / "site.yaml").write_text(yaml.safe_dump(yaml.safe_load(text) | {"server": f"localhost:{proxy.port}"}))
        try:
            stage.kill("ISMD")
            stage.start("ISMD")
            run_dir = stage.folder / "cut"
            follower = stage.submit(run_dir, "privacy.max_grad_norm=0.15", "training.num_rounds=5")
            wait_for(has_checkpoint(run_dir), "the first round")
            proxy.is_cut = True
            time.sleep(10)
            proxy.is_cut = False
            results = stage.finish(follower, run_dir)
        finally:
            (kit / "site.yaml").write_text(text)
            proxy.close()
        assert len(results.rounds) == 5
        assert min(entry.num_sites for entry in results.rounds) >= 2

    def test_a_site_that_was_never_enrolled_takes_no_part(self, stage, tmp_path):
        kit = stage.rehearsal.kits.sites["MGH"]
        stranger = tmp_path / "stranger"
        # With the site's own ledger, so that only the key is wrong.
        shutil.copytree(kit, stranger, ignore=shutil.ignore_patterns("supernode.log", "lock", "flower", "*.lock"))
        others = provision(
            out=tmp_path / "others", sites=["MGH"], hosts=["localhost"], port=1, valid_days=1, approved_bundles=[]
        )
        shutil.copy(others.sites["MGH"] / "node.key", stranger / "node.key")
        command = (*FEDMAMMO, "site", "start", "--site", str(stranger / "site.yaml"))
        process = start_process(command, environment=environment(), folder=tmp_path, log=tmp_path / "stranger.log")
        try:
            log = stranger / "state" / "supernode.log"
            wait_for(lambda: log.exists() and b"Failed to activate SuperNode" in log.read_bytes(), "the refusal")
        finally:
            stop_process(process)
        nodes = json.loads((stage.rehearsal.kits.server / "state" / "nodes.json").read_text())
        assert set(nodes) == {"MGH", "WFU", "ISMD"}

    def test_a_stranger_who_knocks_during_a_run_changes_nothing(self, stage):
        run_dir, kit = stage.folder / "knocked", ServerKit.load(stage.rehearsal.kits.server)
        before = site_statuses(kit)
        follower = stage.submit(run_dir, "privacy.max_grad_norm=0.35")
        wait_for(has_checkpoint(run_dir), "the first round")
        run_id = int(stage.said(run_dir).split("Run ")[1].split()[0])
        requests = {
            "control/stop-run": StopRunRequest(run_id=run_id),
            "control/unregister-node": UnregisterNodeRequest(node_id=kit.node_ids()["MGH"]),
            "control/register-node": RegisterNodeRequest(public_key=kit.public_keys()["MGH"]),
            "control/start-run": StartRunRequest(fab=Fab(hash_str="0", content=b"0")),
            "runtime/acquire-task": AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP]),
        }
        for path, request in requests.items():
            reply = httpx.post(
                f"https://localhost:{kit.port}/v1/{path}",
                content=request.SerializeToString(),
                headers={"content-type": "application/x-protobuf"},
                verify=False,  # noqa: S501, a stranger does not care
                timeout=SECONDS,
            )
            assert reply.status_code == 403, path
        results = stage.finish(follower, run_dir)
        assert [entry.num_sites for entry in results.rounds] == [3, 3, 3]
        assert site_statuses(kit) == before

    def test_a_restored_ledger_is_noticed_recovered_and_goes_on(self, stage):
        site, ledger = stage.rehearsal.kits.sites["WFU"] / "site.yaml", stage.rehearsal.ledgers["WFU"]
        backup = stage.folder / "backup"
        stage.site("ledger", "backup", str(backup), "--site", str(site))
        stage.finish(stage.submit(stage.folder / "spent", "privacy.max_grad_norm=0.45"), stage.folder / "spent")
        stop_process(stage.running.pop("WFU"))
        for path in ledger.parent.glob(f"{ledger.name}*"):
            path.unlink()
        for path in backup.iterdir():
            shutil.copy(path, ledger.parent / path.name)
        assert "rolled back" in stage.site("start", "--site", str(site), status=1)
        # Three updates and a histogram.
        assert "4 lost releases are entered as spent" in stage.site("ledger", "recover", "--site", str(site))
        stage.start("WFU")
        stage.wait_for_sites()
        run_dir = stage.folder / "after"
        results = stage.finish(stage.submit(run_dir, "privacy.max_grad_norm=0.55"), run_dir)
        assert [entry.num_sites for entry in results.rounds] == [3, 3, 3]
        # The coordinator saw that the ledger does not continue from what it had shown.
        assert any("the ledger of WFU does not continue" in line for line in results.rounds[0].warnings)

    def test_a_patient_who_withdraws_during_a_run_takes_part_no_longer(self, stage):
        site, ledger = stage.rehearsal.kits.sites["MGH"] / "site.yaml", stage.rehearsal.ledgers["MGH"]
        run_dir = stage.folder / "withdrawn"
        follower = stage.submit(run_dir, "privacy.max_grad_norm=0.65", "training.num_rounds=5")
        wait_for(has_checkpoint(run_dir), "the first round")
        settings = SiteFile.load(site)
        data = own_data(settings, SitePolicy.load(settings.policy), Ledger(ledger))
        patient = min(data.patients(Role.TRAIN))
        stage.site("forget", patient, "--site", str(site))
        results = stage.finish(follower, run_dir)
        assert [entry.num_sites for entry in results.rounds] == [3] * 5
        history, pseudonym = read_history(ledger), Ledger(ledger).pseudonym(patient)
        assert pseudonym in history.forgotten
        releases = [
            entry.content
            for entry in history.entries
            if isinstance(entry.content, Reserved) and entry.content.purpose is Purpose.TRAINING
        ]
        assert pseudonym not in history.members[releases[-1].cohort]
        assert pseudonym in history.members[releases[0].cohort]


class Proxy:
    """Passes bytes between a site and the coordinator, until the line is cut."""

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.is_cut = False
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.connections = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if self.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self.pass_on, args=(source, sink), daemon=True).start()

    def pass_on(self, source, sink):
        with contextlib.suppress(OSError):
            while (content := source.recv(65536)) and not self.is_cut:
                sink.sendall(content)
        source.close()
        sink.close()

    def close(self):
        self.listener.close()
