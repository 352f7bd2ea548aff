"""The gate: who passes, and that nobody else is listened to."""

import asyncio
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from server.deployment.gate import Gate

SECRET, NOW = "0123456789abcdef", "2026-01-01T00:00:00+00:00"
FLEET = ("/v1/fleet/pull-messages", "/v1/fleet/register-node")
KEY, STRANGER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signed(key, *, public_of=None, timestamp=NOW, over=NOW):
    """Return the headers of a SuperNode."""
    signature = key.sign(over.encode(), ec.ECDSA(hashes.SHA256()))
    return {
        "flwr-public-key": b64encode(pem(public_of or key)).decode(),
        "flwr-signature": b64encode(signature).decode(),
        "flwr-timestamp": timestamp,
    }


class App:
    """What stands behind the gate: reads the whole body and says so."""

    def __init__(self):
        self.bodies = []

    async def __call__(self, scope, receive, send):
        body, message = b"", {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            body += message["body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"passed"})


def ask(path, headers=(), *, parts=(b"body",), kind="http", max_body_bytes=100):
    """Send one request through a gate; return status, the bodies that were read, and how many parts were received."""
    app, sent, num_received = App(), [], 0
    gate = Gate(app, secret=SECRET, fleet_paths=FLEET, enrolled=[pem(KEY)], max_body_bytes=max_body_bytes)

    async def receive():
        nonlocal num_received
        num_received += 1
        return {"type": "http.request", "body": parts[num_received - 1], "more_body": num_received < len(parts)}

    async def send(message):
        sent.append(message)

    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in dict(headers).items()]
    scope = {"type": kind, "path": path, "headers": raw, "method": "POST"}
    asyncio.run(gate(scope, receive, send))
    return sent[0].get("status"), app.bodies, num_received


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/fleet/pull-messages", signed(KEY)),
        ("/health", {}),
        ("/v1/control/start-run", {"X-Coordinator-Secret": SECRET}),
        ("/v1/runtime/acquire-task", {"X-Coordinator-Secret": SECRET}),
    ],
)
def test_a_site_the_coordinator_and_a_question_for_health_pass(path, headers):
    assert ask(path, headers) == (200, [b"body"], 1)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/control/start-run", "/v1/control/list-runs", "/v1/control/list-nodes", "/v1/control/register-node"),
        *("/v1/control/stop-run", "/v1/control/unregister-node", "/v1/runtime/acquire-task", "/v1/runtime/pull-object"),
        *("/docs", "/openapi.json", "/", "", "/health/", "/healthz", "/v1/fleet/", "/v1/fleet/../control/list-runs"),
        *("/v1/fleet/pull-messages/", "//v1/fleet/pull-messages", "/V1/fleet/pull-messages"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-coordinator-secret": ""},
        {"x-coordinator-secret": SECRET[:-1]},
        {"x-coordinator-secret": "\xe9" * 16},
        signed(KEY),
        signed(STRANGER),
    ],
    ids=["nothing", "empty", "a part", "no ASCII", "a site", "a stranger"],
)
def test_the_coordinator_s_paths_are_closed_to_all_others(path, headers):
    assert ask(path, headers) == (403, [], 0)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(STRANGER),
        signed(STRANGER, public_of=KEY),
        signed(KEY, over="another time"),
        signed(KEY) | {"flwr-signature": "!"},
        signed(KEY) | {"flwr-signature": ""},
        signed(KEY) | {"flwr-public-key": "\xff"},
        {name: value for name, value in signed(KEY).items() if name != "flwr-timestamp"},
    ],
    ids=["nothing", "own key", "a site's public key", "of another time", "no base64", "empty", "no ASCII", "no time"],
)
def test_who_cannot_sign_as_a_site_is_not_read(headers):
    assert ask("/v1/fleet/pull-messages", headers) == (401, [], 0)


@given(
    path=st.text(max_size=40),
    headers=st.dictionaries(
        st.sampled_from(["flwr-public-key", "flwr-signature"])
        | st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12),
        st.text("abcdef0123456789=+/", max_size=20),
    ),
)
def test_nobody_passes_by_chance(path, headers):
    if path != "/health":
        status, bodies, num_received = ask(path, headers)
        assert (status in {401, 403}, bodies, num_received) == (True, [], 0)


def test_a_websocket_is_closed():
    assert ask("/v1/control/stream-logs", kind="websocket") == (None, [], 0)


def test_a_body_without_end_is_cut_off():
    parts = [b"x" * 60] * 1000
    with pytest.raises(ConnectionError):
        ask("/v1/fleet/pull-messages", signed(KEY), parts=parts)
    assert ask("/v1/fleet/pull-messages", signed(KEY), parts=parts[:2], max_body_bytes=120)[0] == 200


def test_start_and_end_of_the_server_are_passed_on():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope["type"])

    asyncio.run(Gate(app, secret=SECRET, fleet_paths=FLEET, enrolled=[])({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_a_gate_without_a_secret_or_with_another_kind_of_key_is_a_mistake():
    with pytest.raises(ValueError, match="Expected a secret"):
        Gate(App(), secret="", fleet_paths=FLEET, enrolled=[])
    with pytest.raises(TypeError, match="on an elliptic curve, got RSAPublicKey"):
        Gate(App(), secret=SECRET, fleet_paths=FLEET, enrolled=[pem(rsa.generate_private_key(65537, 2048))])
