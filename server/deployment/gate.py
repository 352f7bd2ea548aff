"""The gate before Flower's API: what a request must show before anything of it is read.

Every hospital must reach the SuperLink's port, so everybody may. On that port Flower also answers requests to submit,
list and stop runs, to enrol and remove nodes, and to take tasks, whoever asks. Here a request passes only if it

- is one of a SuperNode (a path of Flower's Fleet API) and carries the signature of an enrolled hospital, or
- shows the coordinator's secret, which ``fedmammo server start`` makes and which does not leave its machine, or
- asks for the health of the server, which says no more than that it runs.

Any other is answered with 401 or 403, and its body is not read. Of a request that passes, at most 64 MiB are read:
Flower sends arrays in parts of 5 MiB.
"""

import binascii
import hmac
from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECRET_HEADER = "x-coordinator-secret"  # noqa: S105, the name of a header
HEALTH_PATH = "/health"
MAX_BODY_BYTES = 64 * 2**20
_PUBLIC_KEY, _SIGNATURE, _TIMESTAMP = b"flwr-public-key", b"flwr-signature", b"flwr-timestamp"
"""Headers of every request of a SuperNode: Flower's ``NodeAuthMiddleware`` checks them again, with the time."""


class Gate:
    """An ASGI application that passes requests on to ``app`` or refuses them."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        secret: str,
        fleet_paths: Collection[str],
        enrolled: Iterable[bytes],
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        """Keep what is needed.

        Args:
            app: what stands behind the gate.
            secret: of the coordinator, in ASCII, not empty.
            fleet_paths: of the API for SuperNodes.
            enrolled: the hospitals' public keys: PEM, SubjectPublicKeyInfo, on an elliptic curve.
            max_body_bytes: of a request's body, so much is read.
        """
        if not secret:
            raise ValueError("Expected a secret.")
        self._app = app
        self._secret = secret.encode()
        self._fleet_paths = frozenset(fleet_paths)
        self._enrolled = {key: _elliptic(key) for key in enrolled}
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass on what the server says of its own start and end."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close"})
        elif refusal := self._refusal(scope["path"], dict(scope["headers"])):
            status, reason = refusal
            await PlainTextResponse(reason, status)(scope, receive, send)
        else:
            await self._app(scope, _Bounded(receive, self._max_body_bytes), send)

    def _refusal(self, path: str, headers: Mapping[bytes, bytes]) -> tuple[int, str] | None:
        """Return status and text of the refusal, None where the request may pass."""
        if path == HEALTH_PATH or hmac.compare_digest(headers.get(SECRET_HEADER.encode(), b""), self._secret):
            return None
        if path not in self._fleet_paths:
            return 403, "for the coordinator alone"
        return None if self._is_signed(headers) else (401, "for enrolled sites alone")

    def _is_signed(self, headers: Mapping[bytes, bytes]) -> bool:
        try:
            key = self._enrolled[b64decode(headers[_PUBLIC_KEY], validate=True)]
            key.verify(b64decode(headers[_SIGNATURE], validate=True), headers[_TIMESTAMP], ec.ECDSA(hashes.SHA256()))
        except (KeyError, binascii.Error, InvalidSignature):
            return False
        return True


class _Bounded:
    """Receives a request's body up to a number of bytes, and takes a longer one for a caller who has gone."""

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._num_left = max_bytes

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._num_left -= len(message.get("body", b""))
        return message if self._num_left >= 0 else {"type": "http.disconnect"}


def _elliptic(pem: bytes) -> ec.EllipticCurvePublicKey:
    key = load_pem_public_key(pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise TypeError(f"Expected a public key on an elliptic curve, got {type(key).__name__}.")
    return key
