"""A hospital's HTTP service: verified TLS, credentials from files, answers of bounded size, no detours.

Proxies and passwords of the environment are not used, and redirections not followed: either would take patients' data
to where the hospital did not say.
"""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from client.deployment.pacs_section import PacsSettings
from shared_model.errors import ConfigError, PacsError
from shared_model.system.peer_text import peer_text

_SECONDS = 60.0
_MAX_SECRET_BYTES = 1 << 14


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the service said."""

    status: int
    media_type: str
    """The whole Content-Type."""
    body: bytes


class Service:
    """One service at ``url``."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        """Keep an open client; see ``web_service`` and ``fhir_service``."""
        self._client = client
        self._url = url.rstrip("/")

    def ask(
        self,
        method: str,
        path: str,
        *,
        max_bytes: int,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Ask, and read at most ``max_bytes`` of the answer.

        Raises:
            PacsError: nobody answers, the certificate is not trusted, the answer is too long, or the service does not
                let this client in.
        """
        sent = {"Accept-Encoding": "identity", **headers}
        try:
            with self._client.stream(
                method, f"{self._url}{path}", headers=sent, params=query, content=content
            ) as response:
                body = _bounded(response, max_bytes, self._url)
        except httpx.HTTPError as error:
            raise PacsError(
                f"Expected an answer of {self._url}, got {type(error).__name__}: {peer_text(str(error))}"
            ) from error
        if response.status_code in (401, 403):
            raise PacsError(
                f"Expected {self._url} to let this site in, got HTTP status {response.status_code}; check token, user "
                "and password in site.yaml."
            )
        return Answer(status=response.status_code, media_type=response.headers.get("content-type", ""), body=body)


@contextmanager
def web_service(settings: PacsSettings) -> Iterator[Service]:
    """Open the PACS's DICOMweb.

    Raises:
        ConfigError: ``web_url`` is missing, or a certificate or secret cannot be read.
    """
    settings.require("web_url")
    auth, headers = None, {}
    if settings.web_user is not None:
        auth = httpx.BasicAuth(settings.web_user, _secret(Path(str(settings.web_password_file))))
    if settings.web_token_file is not None:
        headers["Authorization"] = f"Bearer {_secret(Path(settings.web_token_file))}"
    with _client(settings, auth, headers) as client:
        yield Service(client, str(settings.web_url))


@contextmanager
def fhir_service(settings: PacsSettings) -> Iterator[Service]:
    """Open the hospital's FHIR server.

    Raises:
        ConfigError: ``fhir_url`` is missing, or a certificate or secret cannot be read.
    """
    settings.require("fhir_url")
    token = settings.fhir_token_file
    headers = {} if token is None else {"Authorization": f"Bearer {_secret(Path(token))}"}
    with _client(settings, None, headers) as client:
        yield Service(client, str(settings.fhir_url))


def _client(settings: PacsSettings, auth: httpx.Auth | None, headers: Mapping[str, str]) -> httpx.Client:
    try:
        context = ssl.create_default_context(cafile=settings.web_authority)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"Expected a certificate in web_authority={settings.web_authority}: {error}.") from error
    return httpx.Client(verify=context, auth=auth, headers=headers, timeout=_SECONDS, trust_env=False)


def _bounded(response: httpx.Response, max_bytes: int, url: str) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise PacsError(f"Expected {url} to answer uncompressed, as asked.")
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise PacsError(f"Expected at most {max_bytes} bytes of {url}, got more.")
    return b"".join(parts)


def _secret(path: Path) -> str:
    """Return the one line of a file that only its owner may read."""
    try:
        is_open = path.stat().st_mode & 0o077
        with path.open("rb") as file:
            text = file.read(_MAX_SECRET_BYTES + 1).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Expected a token or password in {path}, got {type(error).__name__}.") from error
    if is_open:
        raise ConfigError(f"Expected {path} to be readable by its owner only; run chmod 600.")
    if not text or len(text) > _MAX_SECRET_BYTES or not text.isprintable():
        raise ConfigError(f"Expected one printable line in {path}.")
    return text
