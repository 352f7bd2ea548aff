"""A deployment on this machine: a coordinator and hospitals as processes over TLS on the loopback interface.

Every hospital's connections pass a relay that counts their bytes. Times are those of the processes and of all that they
have begun; what rehearsals do, such as writing the phantom, is not measured.
"""

import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from client.deployment.site_file import SiteFile
from server.app import AUDIT_FILE
from server.deployment.control import site_statuses
from server.deployment.kit import ServerKit
from shared_model.config.composition import compose
from shared_model.config.overrides import override
from shared_model.errors import FederatedMammographyError
from shared_model.system import processes
from shared_model.system.peer_text import peer_text
from simulations.benchmarks.child_process import in_child
from simulations.benchmarks.cost.parts import CostPart
from simulations.benchmarks.cost.step import Progress, Step
from simulations.benchmarks.counting_relay import CountingRelay
from simulations.benchmarks.process_tree import peak_bytes, processor_seconds
from simulations.federation.prepare import prepare
from simulations.federation.rehearsal import Rehearsal, environment, overrides_for

_PATIENTS_PER_SITE = 27
"""Of the phantom: a third are test patients, and some have no mass."""
_RUN = "run"
_POLL_SECONDS, _SLOW_POLL_SECONDS = 0.05, 0.5
_SETTLING_SECONDS = 10.0
"""In which a site that has begun, or was just asked, comes to its longest pause between two questions for work."""
_LONGEST_SECONDS = 1800.0
"""For which anything is waited for."""
_SHOWN_LINES = 3


def measure_deployed(
    num_sites: Sequence[int], *, num_rounds: int, waiting_seconds: float, progress: Progress
) -> Iterator[Step]:
    """Yield, for each number of sites, what starting, waiting, the first round and every other cost a site.

    The first round begins with the submission of the run, and holds the computing of features. Of the other rounds the
    median counts, so that the last, in which sites evaluate too, does not.

    Args:
        num_sites: each at least 1; a site is two processes and takes 1 GiB of memory.
        num_rounds: of the run, at least 4, so that the median is that of a round in which sites train alone.
        waiting_seconds: for which sites that have nothing to do are watched, > 0.
        progress: called with what is measured next.

    Raises:
        FederatedMammographyError: a process or the run ended, or took too long; the message has the end of its log.
    """
    for count in num_sites:
        progress(f"deployment of {count} sites as processes")
        yield from in_child(_play, count, num_rounds, waiting_seconds)


def _play(num_sites: int, num_rounds: int, waiting_seconds: float) -> list[Step]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        overrides = _overrides(folder, num_sites, num_rounds)
        prepared = prepare(compose(overrides), on_progress=lambda *_: None)
        rehearsal = Rehearsal.from_config(prepared.config, folder / "federation")
        deployment = stack.enter_context(_Deployment.started(rehearsal))
        begun = deployment.usage()
        deployment.start_sites()
        ready = deployment.usage()
        time.sleep(_SETTLING_SECONDS)
        idle = deployment.usage()
        time.sleep(waiting_seconds)
        waited = deployment.usage()
        run_dir = folder / "run"
        deployment.submit([*overrides_for(prepared.config, overrides), override("run.dir", str(run_dir))])
        rounds = []
        for number in range(1, 1 + num_rounds):
            deployment.wait_for_round(run_dir, number)
            rounds.append(deployment.usage())
        deployment.wait_for_end()
    phases = {
        "start": [_difference(begun, ready)],
        f"waiting {waiting_seconds:g} s": [_difference(idle, waited)],
        "first round": [_difference(waited, rounds[0])],
        "round": [_difference(*pair) for pair in itertools.pairwise(rounds)],
    }
    return [step for phase, costs in phases.items() for step in _steps(phase, costs, num_sites)]


def _overrides(folder: Path, num_sites: int, num_rounds: int) -> list[str]:
    names = ",".join(f"SITE-{number}" for number in range(1, 1 + num_sites))
    return [
        "preset=cbis_mass",
        f"phantom.num_patients={num_sites * _PATIENTS_PER_SITE}",
        override("data.root", str(folder / "phantom")),
        override("data.cache_dir", str(folder / "cache")),
        override("run.dir", str(folder / "prepared")),
        # What a network sees of the pixels changes no round but the first.
        "data.image.size=64",
        f"federation.sites=[{names}]",
        "federation.partition=iid",
        f"federation.min_sites={num_sites}",
        # The smallest cohorts have fewer than ten training patients.
        "privacy.cohort_rounding=2",
        f"training.num_rounds={num_rounds}",
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Usage:
    """What was used by a moment; of sites the mean."""

    moment: float
    site_seconds: float
    coordinator_seconds: float
    site_peak_bytes: int
    coordinator_peak_bytes: int
    num_messages: float
    num_bytes: float


def _difference(before: _Usage, after: _Usage) -> _Usage:
    """Return what was used between, and the peaks until then."""
    return _Usage(
        moment=after.moment - before.moment,
        site_seconds=after.site_seconds - before.site_seconds,
        coordinator_seconds=after.coordinator_seconds - before.coordinator_seconds,
        site_peak_bytes=after.site_peak_bytes,
        coordinator_peak_bytes=after.coordinator_peak_bytes,
        num_messages=after.num_messages - before.num_messages,
        num_bytes=after.num_bytes - before.num_bytes,
    )


def _steps(phase: str, costs: Sequence[_Usage], num_sites: int) -> Iterator[Step]:
    """Yield what a phase cost a site, and what it cost the coordinator: the median of ``costs``."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(cost, name) for cost in costs))

    site = Step(
        part=CostPart.DEPLOYED,
        step=f"{phase}, a site",
        size=num_sites,
        unit="sites",
        processor_seconds=median("site_seconds"),
        elapsed_seconds=median("moment"),
        peak_bytes=costs[-1].site_peak_bytes,
        num_messages=round(median("num_messages")),
        num_bytes=round(median("num_bytes")),
    )
    yield site
    yield dataclasses.replace(
        site,
        step=f"{phase}, coordinator",
        processor_seconds=median("coordinator_seconds"),
        peak_bytes=costs[-1].coordinator_peak_bytes,
        num_messages=None,
        num_bytes=None,
    )


class _Deployment:
    """The processes of a rehearsal, whose hospitals reach the coordinator by a relay."""

    def __init__(self, rehearsal: Rehearsal, relay: CountingRelay, stack: contextlib.ExitStack) -> None:
        self._rehearsal, self._relay, self._stack = rehearsal, relay, stack
        self._coordinator: dict[str, processes.Process] = {}
        self._sites: dict[str, processes.Process] = {}

    @classmethod
    @contextlib.contextmanager
    def started(cls, rehearsal: Rehearsal) -> Iterator["_Deployment"]:
        """Start the coordinator, and end all processes with the block."""
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(rehearsal.server())
            relay = stack.enter_context(CountingRelay(ServerKit.load(rehearsal.kits.server).port))
            deployment = cls(rehearsal, relay, stack)
            deployment._coordinator["server"] = server
            yield deployment

    def start_sites(self) -> None:
        """Start all hospitals at once, and wait until each has passed its checks and is connected."""
        for name, kit in self._rehearsal.kits.sites.items():
            path = kit / "site.yaml"
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
            path.write_text(yaml.safe_dump({**settings, "server": f"localhost:{self._relay.port}"}), encoding="utf-8")
            self._sites[name] = self._stack.enter_context(self._rehearsal.site(name))
        server = ServerKit.load(self._rehearsal.kits.server)
        self._wait(lambda: set(site_statuses(server).values()) == {"online"}, pause=_SLOW_POLL_SECONDS)

    def submit(self, overrides: Sequence[str]) -> None:
        """Submit a run, which a process of the coordinator follows."""
        process = processes.start_process(
            self._rehearsal.command("run", *overrides),
            environment=environment(),
            folder=self._rehearsal.logs,
            log=self._log(_RUN),
        )
        self._stack.callback(processes.stop_process, process)
        self._coordinator[_RUN] = process

    def wait_for_round(self, run_dir: Path, number: int) -> None:
        """Wait until the run has finished so many rounds."""
        self._wait(lambda: _num_events(run_dir / AUDIT_FILE, "round") >= number)

    def wait_for_end(self) -> None:
        """Wait until the run has ended well."""
        self._wait(lambda: self._coordinator[_RUN].poll() == 0)

    def usage(self) -> _Usage:
        """Return what was used so far."""
        logs = [SiteFile.load(kit / "site.yaml").audit_log for kit in self._rehearsal.kits.sites.values()]
        sites, coordinator = self._sites.values(), self._coordinator.values()
        return _Usage(
            moment=time.monotonic(),
            site_seconds=sum(processor_seconds(process.pid) for process in sites) / len(logs),
            coordinator_seconds=sum(processor_seconds(process.pid) for process in coordinator),
            site_peak_bytes=max((peak_bytes(process.pid) for process in sites), default=0),
            coordinator_peak_bytes=sum(peak_bytes(process.pid) for process in coordinator),
            num_messages=sum(_num_events(log, "asked", "reply") for log in logs) / len(logs),
            num_bytes=self._relay.num_bytes / len(logs),
        )

    def _wait(self, condition: Callable[[], bool], *, pause: float = _POLL_SECONDS) -> None:
        deadline = time.monotonic() + _LONGEST_SECONDS
        while not condition():
            ended = [name for name, process in (self._coordinator | self._sites).items() if process.poll()]
            if ended or time.monotonic() > deadline:
                name = (ended or [_RUN if _RUN in self._coordinator else next(iter(self._sites))])[0]
                lines = self._log(name).read_text(encoding="utf-8", errors="replace").splitlines()
                raise FederatedMammographyError(
                    f"Expected the processes of a federation to work, {name} "
                    f"{'ended' if ended else 'took too long'}: {peer_text(' '.join(lines[-_SHOWN_LINES:]))}"
                )
            time.sleep(pause)

    def _log(self, name: str) -> Path:
        return self._rehearsal.logs / f"{name}.log"


def _num_events(log: Path, *events: str) -> int:
    """Return how many lines of an audit log, which may be about to be written, are of these events."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return sum(text.count(f'"event": "{event}"') for event in events)
