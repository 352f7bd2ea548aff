"""The page as a process: where it listens, whom it answers, and the address that a person opens."""

import ipaddress
import os
import pwd
import secrets
from dataclasses import dataclass

import uvicorn

from client.deployment.site_file import SiteFile
from client.reader_page.application import reader_page
from client.reader_page.desk import Desk
from client.reader_page.gate import Access
from client.reading.reader import Reader
from shared_model.errors import ConfigError

LOOPBACK = "127.0.0.1"
_NAMES = ("localhost", "127.0.0.1", "[::1]")
_MAX_CONNECTIONS = 64


@dataclass(frozen=True, kw_only=True)
class Listening:
    """Where the page listens."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def access_to(site: SiteFile, listening: Listening) -> Access:
    """Return who is answered: the person who started it, or whom the hospital's proxy names.

    Raises:
        ConfigError: it would listen to other machines without a proxy that knows who asks.
    """
    proxy = site.require_reader().proxy
    if proxy is not None:
        return Access(hosts=frozenset(proxy.hosts), user=None, token=None, proxy=proxy)
    if not listening.is_loopback:
        raise ConfigError(
            f"Expected host={listening.host} to be of this machine alone; for others, name the hospital's proxy in the "
            "section reader of site.yaml."
        )
    hosts = frozenset(f"{name}:{listening.port}" for name in _NAMES)
    # Of the password database, since variables such as USER say what somebody likes.
    user = pwd.getpwuid(os.geteuid()).pw_name
    return Access(hosts=hosts, user=user, token=secrets.token_urlsafe(24), proxy=None)


def address_of(listening: Listening, access: Access) -> str:
    """Return what a person opens in a browser."""
    if access.proxy is not None:
        return f"https://{access.proxy.hosts[0]}/"
    host = f"[{listening.host}]" if ":" in listening.host else listening.host
    return f"http://{host}:{listening.port}{access.prefix}/"


def serve(site: SiteFile, reader: Reader, access: Access, listening: Listening) -> None:
    """Answer browsers until a signal; nothing of a request is logged.

    Raises:
        ConfigError: what the page keeps cannot be used.
    """
    uvicorn.run(
        reader_page(Desk(site, reader), access),
        host=listening.host,
        port=listening.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=5,
    )
