"""The way to the coordinator, gone as Flower's SuperNode goes it: by httpx, through the proxy of the environment.

What is found on the way is a value of ``Answer``, or an error that says who stands in between.
"""

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.request import getproxies

import httpx
from cryptography import x509

from client.deployment.site_file import SiteFile
from shared_model.errors import ConfigError
from shared_model.system.peer_text import peer_text

_TIMEOUT_SECONDS = 10.0
_MAX_TEXT = 120
_BAD_GATEWAY, _GATEWAY_TIMEOUT = "502", "504"
"""What an honest proxy answers where the coordinator is down (RFC 9110, 15.6.3 and 15.6.5)."""
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError, OSError)
"""What httpx raises for what stands on the way: ``ImportError`` for a kind of proxy that it cannot use."""
_HOST = re.compile(r"[\w.-]+|\[[0-9A-Fa-f:.]+\]")
_LAST_PORT = 65535
_NOT_YET_VALID, _EXPIRED = 9, 10
"""``X509_V_ERR_CERT_NOT_YET_VALID`` and ``X509_V_ERR_CERT_HAS_EXPIRED`` of OpenSSL."""


class AwayError(Exception):
    """The coordinator does not answer, as far as one can tell from here."""


class ProxyInTheWayError(Exception):
    """A proxy does not let the connection through."""


class CertificateError(Exception):
    """What was presented is no certificate of the coordinator that is valid now."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the coordinator showed."""

    date: str | None
    """Of its clock, as HTTP has it."""
    not_after: datetime
    """The end of its certificate."""


def ask(site: SiteFile) -> Answer:
    """Connect to the coordinator and return what it shows.

    Raises:
        AwayError: nobody answers.
        ProxyInTheWayError: a proxy does, and does not let it through.
        CertificateError: the certificate is another authority's, is not valid now, or is for another host.
        ConfigError: ``server`` or the authority's certificate cannot be used.
    """
    context = _context(site)
    try:
        presented, date = _look(site, context)
    except _FAILURES as error:
        raise _understood(error, site) from error
    return Answer(date=date, not_after=presented.not_valid_after_utc)


def proxy_for(site: SiteFile) -> str | None:
    """Return the variable of the environment that puts a proxy between this site and the coordinator, and its value.

    None where there is none, or ``NO_PROXY`` excepts the coordinator. A password in it is not shown.
    """
    proxies = getproxies()
    scheme = next((name for name in ("https", "all") if proxies.get(name)), None)
    if scheme is None or not _goes_by_proxy(_url(site)):
        return None
    name = f"{scheme}_proxy"
    shown = name if os.environ.get(name) else name.upper()
    return f"{shown}={peer_text(_without_password(proxies[scheme]), _MAX_TEXT)}"


def _goes_by_proxy(url: str) -> bool:
    """Return whether httpx goes there by a proxy: its reading of ``NO_PROXY`` counts, which differs from others'."""
    try:
        with httpx.Client(verify=False) as client:  # noqa: S501, no connection is made
            return client._transport_for_url(httpx.URL(url)) is not client._transport
    except (httpx.InvalidURL, ImportError, ValueError):
        # There is one, and it cannot be used.
        return True


def _url(site: SiteFile) -> str:
    host, _, port = site.server.rpartition(":")
    if not _HOST.fullmatch(host) or not port.isdecimal() or not 1 <= int(port) <= _LAST_PORT:
        raise ConfigError(f"Expected server={site.server!r} to be host:port, as the kit had it.")
    return f"https://{site.server}/"


def _context(site: SiteFile) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(site.authority))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"Expected the authority's certificate in {site.authority}: {error}.") from error


def _understood(error: Exception, site: SiteFile) -> Exception:
    """Return the error that says who stands in the way."""
    proxy, host = proxy_for(site), site.server.rpartition(":")[0]
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _certificate_error(cause, site, proxy)
    text = peer_text(str(error), _MAX_TEXT) or type(error).__name__
    if proxy is None or (isinstance(error, httpx.ProxyError) and text[:3] in {_BAD_GATEWAY, _GATEWAY_TIMEOUT}):
        return AwayError(text if proxy is None else f"{proxy} answers {text}")
    return ProxyInTheWayError(
        f"{proxy} does not let {site.server} through: {text}; have it let through, or set NO_PROXY={host} for this "
        "process"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _certificate_error(error: ssl.SSLCertVerificationError, site: SiteFile, proxy: str | None) -> CertificateError:
    presented = _presented_unchecked(site)
    if presented is None:
        return CertificateError(error.verify_message, remedy="take ca.pem from your kit")
    begins, ends = presented.not_valid_before_utc, presented.not_valid_after_utc
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        state = "not yet valid" if error.verify_code == _NOT_YET_VALID else "expired"
        return CertificateError(
            f"{state}: it is valid from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} UTC, and this machine's clock "
            f"says {datetime.now(UTC):%Y-%m-%d %H:%M}",
            remedy="check this machine's clock; if it is right, ask the coordinator for a new certificate",
        )
    issuer = peer_text(presented.issuer.rfc4514_string(), _MAX_TEXT)
    by = "" if proxy is None else f" by way of {proxy}"
    return CertificateError(
        f"{error.verify_message}; presented{by} was a certificate of the issuer {issuer}",
        remedy="if that issuer is your hospital's own, its firewall opens the connection: have the coordinator "
        "excepted; else take ca.pem from your kit, or ask the coordinator for a new certificate",
    )


def _presented_unchecked(site: SiteFile) -> x509.Certificate | None:
    """Return whatever certificate is presented; nothing is sent but the question for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return _look(site, context)[0]
    except _FAILURES:
        return None


def _look(site: SiteFile, context: ssl.SSLContext) -> tuple[x509.Certificate, str | None]:
    """Return the certificate that is presented, and the date of the answer; raises one of ``_FAILURES``."""
    with (
        httpx.Client(verify=context, timeout=_TIMEOUT_SECONDS) as client,
        client.stream("GET", _url(site)) as reply,
    ):
        return _presented(reply), reply.headers.get("date")


def _presented(reply: httpx.Response) -> x509.Certificate:
    tls = reply.extensions["network_stream"].get_extra_info("ssl_object")
    certificate = None if tls is None else tls.getpeercert(True)
    if certificate is None:
        raise ValueError("no certificate was presented")
    return x509.load_der_x509_certificate(certificate)


def _without_password(proxy: str) -> str:
    scheme, separator, rest = proxy.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
