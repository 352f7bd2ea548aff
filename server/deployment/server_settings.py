"""``server.yaml``: where the server is reached, which sites belong to it, and what code their kits approve."""

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from annotated_types import Interval

from shared_model.config.bounds import SiteName
from shared_model.system.checked import NOT_EMPTY, checked, rule
from shared_model.system.documents import load_yaml

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# RFC 1123, 2.1. Names whose last label is a number are mistyped IPv4 addresses.
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*(?![0-9]+$){_LABEL}")
_MAX_DNS_NAME = 253


def _is_host(host: str) -> bool:
    try:
        # 0.0.0.0 is an address to listen at that nobody can connect to, and a zone has a meaning on one machine only.
        return not ipaddress.ip_address(host).is_unspecified and "%" not in host
    except ValueError:
        return len(host) <= _MAX_DNS_NAME and _DNS_NAME.fullmatch(host) is not None


def _are_distinct_hosts(hosts: Sequence[str]) -> bool:
    return len({_comparable(host) for host in hosts}) == len(hosts)


def _comparable(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def _differ_without_case(names: Sequence[str]) -> bool:
    return len({name.casefold() for name in names}) == len(names)


Host = Annotated[
    str, rule(_is_host, "to be a DNS name or IP address, without brackets, at which sites reach the server")
]
Digest = Annotated[
    str, rule(re.compile(r"[0-9a-f]{64}").fullmatch, "to be a SHA-256 digest of 64 lower-case hexadecimal digits")
]


@checked(key="")
class ServerSettings:
    """What stands in ``server.yaml``, which people may edit: whatever is read from it has been checked."""

    hosts: Annotated[tuple[Host, ...], NOT_EMPTY, rule(_are_distinct_hosts, "to be distinct")]
    """At which sites reach the server; the certificate is made out to all, and kits are told the first."""
    port: Annotated[int, Interval(ge=1, le=65535)]
    # The names are folders, and some file systems take MGH and mgh for the same.
    sites: Annotated[tuple[SiteName, ...], NOT_EMPTY, rule(_differ_without_case, "to be distinct, ignoring case")]
    bundle: Digest | None = None
    """SHA-256 of the application bundle that the kits approve; None where none is known."""

    @classmethod
    def load(cls, path: Path) -> "ServerSettings":
        """Read the file.

        Raises:
            ConfigError: it cannot be read, or a key is unknown, missing or wrong.
        """
        return load_yaml(cls, path, what="the server's kit, as fedmammo server provision makes it,")

    @property
    def address(self) -> str:
        """``host:port`` for the sites, with brackets round an IPv6 address (RFC 3986, 3.2.2)."""
        host = self.hosts[0]
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    def to_yaml(self) -> bytes:
        """Return the file's content."""
        values = {"hosts": list(self.hosts), "port": self.port, "sites": list(self.sites), "bundle": self.bundle}
        return yaml.safe_dump(values, sort_keys=False).encode()
