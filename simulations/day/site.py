"""The hospital of a day: its kit, its settings, and the two processes that run there all day."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from client.deployment.site_file import SiteFile
from server.deployment.provision import provision
from shared_model.errors import ConfigError
from shared_model.system.processes import start_process, stop_process, wait_for_port
from simulations.day import orthanc
from simulations.day.commands import Done, fedmammo
from simulations.federation.rehearsal import FEDMAMMO, environment

MODALITY = "MG1"
"""AE title of the machine that takes the films."""
PAGE_PORT = 8800
_NAME = "HOSPITAL"
_SECONDS = 120.0
_ADDRESS = "Open http"


@dataclass(frozen=True, kw_only=True)
class Site:
    """A hospital."""

    folder: Path
    """Its kit."""
    server_kit: Path
    """The coordinator's, which signs releases."""
    logs: Path

    @property
    def path(self) -> Path:
        """Its ``site.yaml``."""
        return self.folder / "site.yaml"

    @property
    def settings(self) -> SiteFile:
        """What stands there."""
        return SiteFile.load(self.path)

    def approve(self, release_digest: str) -> None:
        """Approve a release, as a person writes its digest into the list; once."""
        approved = self.settings.approved_releases
        if release_digest not in self.settings.releases():
            with approved.open("a", encoding="utf-8") as file:
                file.write(f"{release_digest}\n")

    def pacs(self, *words: str | Path) -> Done:
        """Run ``fedmammo site pacs``."""
        return fedmammo("site", "pacs", *words, "--site", self.path)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Take in what the PACS sends.

        Raises:
            ConfigError: it does not start.
        """
        with self._process("receive", orthanc.LISTENS, "site", "pacs", "receive", "--site", str(self.path)):
            yield

    @contextmanager
    def page(self, release: Path) -> Iterator[str]:
        """Run the page and yield the address that it tells the person who started it.

        Raises:
            ConfigError: it does not start.
        """
        words = ("site", "reader", "--site", str(self.path), "--release", str(release), "--port", str(PAGE_PORT))
        with self._process("reader", PAGE_PORT, *words) as log:
            lines = log.read_text(encoding="utf-8").splitlines()
            yield next(line for line in lines if line.startswith(_ADDRESS)).removeprefix("Open ")

    @contextmanager
    def _process(self, name: str, port: int, *words: str) -> Iterator[Path]:
        log = self.logs / f"{name}.log"
        log.unlink(missing_ok=True)
        process = start_process((*FEDMAMMO, *words), environment=environment(), folder=self.logs, log=log)
        try:
            if not wait_for_port(port, process, seconds=_SECONDS, stop=threading.Event()):
                raise ConfigError(f"Expected fedmammo {' '.join(words[:3])} to listen on {port}; see {log}.")
            yield log
        finally:
            stop_process(process)


def site_in(folder: Path) -> Site:
    """Make a hospital's kit below ``folder``, with a PACS and the page in its settings, or take the one that is there.

    Raises:
        ConfigError: the folder is in use by something else.
    """
    kits = folder / "kits"
    if not kits.exists():
        provision(out=kits, sites=[_NAME], hosts=["localhost"], port=9092, valid_days=90, approved_bundles=["0" * 64])
    kit = kits / "sites" / _NAME
    settings: Mapping[str, object] = yaml.safe_load((kit / "site.yaml").read_text(encoding="utf-8"))
    section = orthanc.section(kit) | {"patient_system": "urn:oid:2.25.1", "incoming": "incoming"}
    changed = {**settings, "data_root": ".", "reader": {"studies": "incoming"}, "pacs": section}
    (kit / "site.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    (kit / "incoming").mkdir(exist_ok=True)
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    return Site(folder=kit, server_kit=kits / "server", logs=logs)
