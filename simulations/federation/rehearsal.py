"""Rehearsal of a deployment: a whole federation as processes of this machine.

Certificates and kits are made, one coordinator and one process per hospital start and speak TLS over the loopback
interface, a run is submitted and followed, and everything is stopped. The patients are synthetic, or those of
``data.root`` by hospital; the sites' policies allow all but another cohort, since no real hospital's limits apply.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console

from client.deployment.initialisation import initialise
from client.deployment.site_file import SiteFile
from client.privacy.ledger import Ledger
from client.privacy.policy import OPEN_POLICY
from server.deployment.bundle import bundle_digest
from server.deployment.kit import ServerKit
from server.deployment.provision import Kits, provision
from shared_model.config.choices import DataSource
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.overrides import override
from shared_model.errors import ConfigError, RoundError
from shared_model.secure_sum.identity import Identity
from shared_model.system import processes
from simulations.federation.display import SimulationDisplay
from simulations.federation.prepare import prepare
from simulations.federation.privacy_reports import write_privacy_reports

_START_SECONDS = 600.0
"""Long enough for a machine with ten times more to do than it has cores."""
_POLL_SECONDS = 0.5
ROOT = Path(__file__).resolve().parents[2]
FEDMAMMO = (sys.executable, "-P", "-m", "simulations.commands")
"""The command ``fedmammo`` of this tree; ``-P`` keeps the working folder from standing in for a package."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """Kits, folders and processes of one federation on this machine."""

    kits: Kits
    logs: Path

    @classmethod
    def from_config(cls, config: ExperimentConfig, folder: Path) -> "Rehearsal":
        """Make the kits in ``folder``, fill in every site's settings and policy, and begin its ledger.

        Raises:
            ConfigError: the folder is in use.
            DataError, PrivacyError: a site's tables cannot be used, or it has too few patients.
        """
        kits = provision(
            out=folder / "kits",
            sites=config.federation.sites,
            hosts=["localhost"],
            port=processes.free_port(),
            valid_days=7,
            approved_bundles=[bundle_digest()],
        )
        for kit in kits.sites.values():
            settings = yaml.safe_load((kit / "site.yaml").read_text(encoding="utf-8"))
            settings |= {
                "data_root": str(Path(config.data.root).resolve()),
                "data_source": str(config.data.source),
                "roster": config.data.roster,
            }
            (kit / "site.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            (kit / "policy.yaml").write_text(yaml.safe_dump(_policy(config)), encoding="utf-8")
            initialise(SiteFile.load(kit / "site.yaml"))
        _introduce(kits.sites)
        logs = folder / "logs"
        logs.mkdir()
        return cls(kits=kits, logs=logs)

    @contextlib.contextmanager
    def server(self) -> Iterator[processes.Process]:
        """Run the coordinator; yields when the sites may connect.

        Raises:
            RoundError: it ended or did not become ready.
        """
        with self._process("server", "server", "start", "--kit", str(self.kits.server)) as process:
            kit, deadline = ServerKit.load(self.kits.server), time.monotonic() + _START_SECONDS
            is_open = processes.wait_for_port(kit.port, process, seconds=_START_SECONDS, stop=threading.Event())
            while not is_open or set(kit.node_ids()) != set(self.kits.sites):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RoundError(f"Expected the coordinator to start; see {self.logs / 'server.log'}.")
                time.sleep(_POLL_SECONDS)
            yield process

    def site(self, name: str) -> "contextlib.AbstractContextManager[processes.Process]":
        """Run the process of one hospital."""
        return self._process(name, "site", "start", "--site", str(self.kits.sites[name] / "site.yaml"))

    def command(self, name: str, *arguments: str) -> Sequence[str]:
        """Return the command line of ``fedmammo server`` ``name``."""
        return *FEDMAMMO, "server", name, "--kit", str(self.kits.server), *arguments

    @property
    def ledgers(self) -> Mapping[str, Path]:
        """Every site's ledger."""
        return {site: kit / "ledger.sqlite" for site, kit in self.kits.sites.items()}

    @contextlib.contextmanager
    def _process(self, name: str, *arguments: str) -> Iterator[processes.Process]:
        process = processes.start_process(
            (*FEDMAMMO, *arguments), environment=environment(), folder=self.logs, log=self.logs / f"{name}.log"
        )
        try:
            yield process
        finally:
            processes.stop_process(process)


def _introduce(kits: Mapping[str, Path]) -> None:
    """Write every hospital's identity into the policies of all, as their people would after they have compared them."""
    identities = {
        site: Identity.from_secret(Ledger(kit / "ledger.sqlite").identity_secret).public.hex()
        for site, kit in kits.items()
    }
    for kit in kits.values():
        policy = yaml.safe_load((kit / "policy.yaml").read_text(encoding="utf-8"))
        (kit / "policy.yaml").write_text(yaml.safe_dump({**policy, "partners": identities}), encoding="utf-8")


def _policy(config: ExperimentConfig) -> dict[str, object]:
    """Return the open policy, with the cohort and the declared size that a simulated site has."""
    policy = dict(yaml.safe_load(OPEN_POLICY.read_text(encoding="utf-8")))
    return policy | {
        "min_cohort_rounding": config.privacy.cohort_rounding,
        "lesion_types": [str(kind) for kind in config.data.lesion_types],
        "views": str(config.data.views),
    }


def overrides_for(config: ExperimentConfig, overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a submitted run: those of the simulation, and where the server's own files lie."""
    evaluation = config.evaluation
    files = {"evaluation.holdout": evaluation.holdout, "evaluation.public": evaluation.public}
    return [*overrides, *(override(key, str(Path(path).resolve())) for key, path in files.items() if path is not None)]


def rehearse(overrides: Sequence[str], console: Console) -> int:
    """Run the whole rehearsal and return the exit status of the run.

    Raises:
        FederatedMammographyError: with one line for the person who started it.
    """
    config = compose(overrides)
    folder = Path(config.run.dir).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"Expected run.dir={folder} to be a new or empty folder.")
    if config.data.source is DataSource.MANIFEST and config.data.roster is None:
        raise ConfigError("Expected data.roster to say whose patient is whose.")
    with SimulationDisplay(config, console) as display:
        prepared = prepare(config, on_progress=display.on_progress)
        display.on_prepared(prepared)
    rehearsal = Rehearsal.from_config(prepared.config, folder)
    with contextlib.ExitStack() as stack:
        console.print("Starting the coordinator", highlight=False)
        stack.enter_context(rehearsal.server())
        for site in rehearsal.kits.sites:
            console.print(f"Starting site {site}", highlight=False)
            stack.enter_context(rehearsal.site(site))
        submit = rehearsal.command("run", *overrides_for(prepared.config, overrides), override("run.dir", str(folder)))
        status = subprocess.run(submit, env=environment(), check=False).returncode  # noqa: S603, our own command
    if status == 0:
        write_privacy_reports(rehearsal.ledgers, folder / "privacy")
        console.print(f"Privacy reports in {folder}/privacy, logs in {rehearsal.logs}", highlight=False, soft_wrap=True)
    return status


def environment() -> dict[str, str]:
    """Return the environment of the processes."""
    # The processes import the packages of this tree, which need not be installed.
    path = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    return {**os.environ, **processes.FLOWER_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)}
