"""Access to the running SuperLink from its own machine: clients of Flower that show the coordinator's secret."""

import json
import secrets
import ssl
from dataclasses import asdict, dataclass
from typing import Self

import httpx
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufClientInterceptor, ProtobufRequestContext
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.grid import HttpGrid

from server.deployment.gate import SECRET_HEADER
from server.deployment.kit import ServerKit
from shared_model.errors import RoundError
from shared_model.system.files import write_atomically

_SECONDS = 300.0
"""Until a request is given up: long enough for a machine with ten times more to do than it has cores."""
_HEARTBEAT_SECONDS = 10.0
"""The same for a heartbeat that is sent for another process: the loop that sends it serves all runs, and sends the next
one soon. One that comes late counts as well."""
_MAX_TRIES = 3
_ACQUIRE = "/flwr.proto.Runtime/AcquireTask"


@dataclass(frozen=True, kw_only=True)
class SuperLinkAccess:
    """Where the SuperLink listens, who vouches for it, and the secret that it asks of the coordinator."""

    address: str
    authority: str
    """Path of the authority's certificate."""
    secret: str

    @classmethod
    def create(cls, kit: ServerKit) -> Self:
        """Make a new secret, which commands find in the kit from now on."""
        secret = secrets.token_hex(32)
        write_atomically(kit.secret_path, secret.encode())
        return cls._of(kit, secret)

    @classmethod
    def read(cls, kit: ServerKit) -> Self:
        """Return the access that the kit's SuperLink, if it runs, gives at the moment.

        Raises:
            RoundError: it never ran, or its secret cannot be read.
        """
        try:
            return cls._of(kit, kit.secret_path.read_text())
        except OSError as error:
            raise RoundError(
                f"Expected the coordinator's secret in {kit.secret_path}; is fedmammo server start running, and as "
                "the same user?"
            ) from error

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what ``to_bytes`` wrote."""
        return cls(**json.loads(content))

    def to_bytes(self) -> bytes:
        """Return the access as JSON, for the standard input of a child."""
        return json.dumps(asdict(self)).encode()

    def control(self) -> ControlHttpClient:
        """Return a client for what the coordinator asks: runs and nodes."""
        return ControlHttpClient(
            f"https://{self.address}",
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI"), _Secret(self.secret)],
            verify=self._trust(),
            timeout=_SECONDS,
        )

    def tasks(self) -> RuntimeHttpClient:
        """Return a client that may take tasks."""
        master = self.secret.encode()
        return self._runtime(
            SuperExecAuthHttpInterceptor(master_secret=master, protected_methods={_ACQUIRE}), _retries()
        )

    def task(self, token: str) -> RuntimeHttpClient:
        """Return a client for the task with ``token``."""
        return self._runtime(RuntimeTokenHttpInterceptor(token), _retries())

    def heartbeats(self, token: str) -> RuntimeHttpClient:
        """Return a client that says for another process that its task goes on; it tries once.

        Flower's retries would interrupt the process that asks as soon as the token is no longer valid.
        """
        return self._runtime(RuntimeTokenHttpInterceptor(token), retries=None, seconds=_HEARTBEAT_SECONDS)

    def grid(self, token: str) -> HttpGrid:
        """Return Flower's grid for the task with ``token``; ``set_run`` comes before messages."""
        grid = HttpGrid(self.address, token=token)
        grid._client = self.task(token)
        return grid

    def _runtime(
        self, interceptor: ProtobufClientInterceptor, retries: RetryInvoker | None, *, seconds: float = _SECONDS
    ) -> RuntimeHttpClient:
        return RuntimeHttpClient(
            f"https://{self.address}",
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
                _Secret(self.secret),
                interceptor,
            ],
            verify=self._trust(),
            timeout=seconds,
            retry_invoker=retries,
        )

    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)

    @classmethod
    def _of(cls, kit: ServerKit, secret: str) -> Self:
        return cls(address=kit.local_address, authority=str(kit.folder / "ca.pem"), secret=secret)


def _retries() -> RetryInvoker:
    retries = make_simple_http_retry_invoker()
    retries.max_tries = _MAX_TRIES
    return retries


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run that Flower has handed out, and the access to the SuperLink that did."""

    token: str
    access: SuperLinkAccess

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what ``to_bytes`` wrote."""
        token, access = json.loads(content)
        return cls(token=token, access=SuperLinkAccess.from_bytes(access.encode()))

    def to_bytes(self) -> bytes:
        """Return the task as JSON, for the standard input of the process."""
        return json.dumps([self.token, self.access.to_bytes().decode()]).encode()


@dataclass(frozen=True)
class _Secret:
    """Shows the coordinator's secret with every request."""

    secret: str

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the header."""
        context.request.headers[SECRET_HEADER] = self.secret
        return call_next(context)
