"""Flower's SuperLink behind our gate: run with ``python -m server.deployment.flower_superlink``.

``flower-superlink`` gives its API to whoever reaches the port. Here the same application stands behind
``server.deployment.gate``, and is heard at every address that is asked for, of both versions of IP. What the process
needs arrives as one JSON object on its standard input, since others can read a command line.
"""

import errno
import json
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import uvicorn
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan, _parse_superlink_lifespan_config
from flwr.superlink.main import create_app
from flwr.superlink.routers.fleet.router import router as fleet_router
from starlette.routing import Route

from server.deployment.gate import Gate
from server.deployment.private_keys import SERVER_PASSPHRASE, passphrase_in


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the process needs beside Flower's own arguments."""

    secret: str
    """Of the coordinator, in ASCII."""
    addresses: Sequence[str]
    """Of this machine, IPv4 or IPv6, at which it listens."""
    public_keys: Sequence[str]
    """Of the hospitals, as ``ServerKit.public_keys`` gives them."""

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read what ``to_bytes`` wrote."""
        return cls(**json.loads(content))

    def to_bytes(self) -> bytes:
        """Return the settings as JSON, for the standard input of the process."""
        return json.dumps(asdict(self)).encode()


def listening_sockets(addresses: Iterable[str], port: int) -> list[socket.socket]:
    """Return a bound socket for every address of this machine's; an IPv6 one hears no IPv4.

    Raises:
        OSError: none of the addresses can be bound, or the port is taken at one of them.
    """
    sockets, failure = [], OSError("Expected an address to listen at.")
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sockets.append(_bound(family, address, port))
        except OSError as error:
            # A machine without IPv6 has no such address.
            if family is socket.AF_INET or error.errno == errno.EADDRINUSE:
                for bound in sockets:
                    bound.close()
                raise
            failure = error
    if not sockets:
        raise failure
    return sockets


def fleet_paths() -> list[str]:
    """Return the paths of the API that SuperNodes use."""
    return [route.path for route in fleet_router.routes if isinstance(route, Route)]


def main() -> None:
    """Serve until a signal; the arguments are those of ``flower-superlink``."""
    settings = Settings.from_bytes(sys.stdin.buffer.read())
    config = _parse_superlink_lifespan_config()
    gate = Gate(
        create_app(config, SuperLinkLifespan),
        secret=settings.secret,
        fleet_paths=fleet_paths(),
        enrolled=[key.encode() for key in settings.public_keys],
    )
    server = uvicorn.Server(
        uvicorn.Config(
            gate,
            ssl_certfile=config.ssl_certfile,
            ssl_keyfile=config.ssl_keyfile,
            ssl_keyfile_password=passphrase_in(SERVER_PASSPHRASE),
            access_log=False,
            server_header=False,
            lifespan="on",
        )
    )
    server.run(sockets=listening_sockets(settings.addresses, config.port))


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


if __name__ == "__main__":
    main()
