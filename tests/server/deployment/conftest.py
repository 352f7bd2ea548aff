"""A coordinator whose SuperLink is real: TLS, gate, enrolment and the processes of runs."""

import threading
from dataclasses import dataclass

import pytest

from server.deployment.kit import ServerKit
from server.deployment.provision import provision
from server.deployment.superlink import serve
from shared_model.system.processes import free_port

SECONDS = 600
"""How long anything is waited for; only a test that fails takes so long."""


@dataclass
class Coordinator:
    """A server's kit and, while it is started, the thread that serves it."""

    kit: ServerKit

    def start(self):
        self._stop, ready = threading.Event(), threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._serve, args=(ready,))
        self._thread.start()
        ready.wait(SECONDS)
        if self._failure is not None:
            raise self._failure

    def stop(self):
        self._stop.set()
        self._thread.join(SECONDS)

    def _serve(self, ready):
        try:
            serve(self.kit, stop=self._stop, on_ready=ready.set)
        except Exception as failure:  # noqa: BLE001, raised by start
            self._failure = failure
            ready.set()


def new_kit(folder, *hosts):
    """Provision two sites under ``folder`` and return the server's kit."""
    kits = provision(
        out=folder / "kits", sites=["mgh", "wfu"], hosts=hosts, port=free_port(), valid_days=9, approved_bundles=[]
    )
    return ServerKit.load(kits.server)


@pytest.fixture(scope="package")
def coordinator(tmp_path_factory):
    """Started; nobody stops it or changes its kit."""
    found = Coordinator(new_kit(tmp_path_factory.mktemp("kits"), "localhost"))
    found.start()
    yield found
    found.stop()
