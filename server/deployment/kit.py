"""The server's kit: its folder, as provisioning makes it, with what the server's processes keep in there."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from server.deployment.joint_change import finish_change, has_unfinished_change
from server.deployment.server_settings import ServerSettings
from shared_model.errors import ConfigError
from shared_model.system.files import write_atomically
from shared_model.system.process_lock import ProcessLock

_LOCK_FILE = "provision.lock"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerKit:
    """The folder that provisioning makes for the server, and what ``server.yaml`` in it says."""

    folder: Path
    hosts: tuple[str, ...]
    """DNS names and IP addresses at which the sites reach the server; the certificate is made out to them."""
    port: int
    sites: tuple[str, ...]
    bundle: str | None = None
    """SHA-256 of the application bundle that the sites' kits approve; None where none is known."""

    @classmethod
    def load(cls, folder: Path) -> "ServerKit":
        """Read ``server.yaml`` in ``folder``, and first finish a change of the kits round it that was cut off.

        Raises:
            ConfigError: it cannot be read, a key is unknown, missing or wrong, or the kits are being changed.
        """
        folder = folder.resolve()
        if has_unfinished_change(folder.parent):
            with kits_lock(folder.parent):
                finish_change(folder.parent)
        settings = ServerSettings.load(folder / "server.yaml")
        return cls(
            folder=folder, hosts=settings.hosts, port=settings.port, sites=settings.sites, bundle=settings.bundle
        )

    @property
    def state_dir(self) -> Path:
        """Logs, Flower's database, and what else its processes keep."""
        return self.folder / "state"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder."""
        return self.state_dir / "flower"

    @property
    def secret_path(self) -> Path:
        """What a program of this machine must show to the SuperLink to be taken for the coordinator."""
        return self.state_dir / "coordinator.secret"

    def public_keys(self) -> dict[str, bytes]:
        """Return the public key of every site as a SuperNode sends it: PEM, SubjectPublicKeyInfo.

        Raises:
            ConfigError: a file cannot be read, holds no key of the kind that provisioning makes, or another site's.
        """
        keys = {site: _public_key(site, self.folder / "sites" / f"{site}.pub") for site in self.sites}
        owners = {key: site for site, key in keys.items()}
        for site, key in keys.items():
            if owners[key] != site:
                raise ConfigError(f"Expected every site to have a key of its own, {site} and {owners[key]} share one.")
        return keys

    @property
    def status_page(self) -> Path:
        """Page that shows sites and runs while the server runs."""
        return self.state_dir / "status.html"

    def run_folder_path(self, run_id: str) -> Path:
        """Return the file that says where a run writes."""
        return self.state_dir / "runs" / f"{run_id}.json"

    def run_log(self, run_id: str) -> Path:
        """Return the file to which the process of a run writes."""
        return self.state_dir / "runs" / f"{run_id}.log"

    @property
    def local_address(self) -> str:
        """``host:port`` of the SuperLink from this machine."""
        return f"127.0.0.1:{self.port}"

    def node_ids(self) -> dict[str, int]:
        """Return Flower's node id of every enrolled site; empty before the first start.

        Raises:
            ConfigError: the file that keeps them is damaged.
        """
        try:
            nodes = json.loads(self._nodes_path.read_bytes())
            return {str(site): int(node) for site, node in nodes.items()}
        except FileNotFoundError:
            return {}
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigError(f"Expected node ids in {self._nodes_path}: {error}") from error

    def write_node_ids(self, nodes: Mapping[str, int]) -> None:
        """Store Flower's node id of every enrolled site."""
        write_atomically(self._nodes_path, json.dumps(dict(nodes), indent=2).encode())

    @property
    def _nodes_path(self) -> Path:
        return self.state_dir / "nodes.json"


@contextmanager
def kits_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the folder of all kits, which whoever changes them must have.

    Raises:
        ConfigError: another process has it, or its file is a link.
        OSError: the folder cannot be written.
    """
    path = folder / _LOCK_FILE
    if path.is_symlink():
        raise ConfigError(f"Expected {path} to be no link; remove it.")
    with ProcessLock.take(path):
        yield


def _public_key(site: str, path: Path) -> bytes:
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"Expected the public key of site {site} in {path}: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"Expected the public key of site {site} in {path} to be on an elliptic curve.")
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
