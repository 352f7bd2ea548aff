"""Who is answered: host, origin, token, proxy, body; and the headers of every answer."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from client.deployment.reader_section import Proxy
from client.reader_page.gate import MAX_BODY_BYTES, Access, Gate
from tests.asgi_client import AsgiClient

HOST, TOKEN = "127.0.0.1:8800", "s" * 32
OWN = Access(hosts=frozenset({HOST}), user="ada", token=TOKEN, proxy=None)
PROXY = Proxy(address="10.0.0.7", user_header="X-Remote-User", hosts=("reader.hospital.example",))
BEHIND = Access(hosts=frozenset(PROXY.hosts), user=None, token=None, proxy=PROXY)
SAME = {"Sec-Fetch-Site": "same-origin"}


async def who(request: Request):
    return PlainTextResponse(request.state.user)


def client_of(access, *, host=HOST, peer="127.0.0.1"):
    app = Gate(Starlette(routes=[Route("/", who, methods=["GET", "POST"])]), access)
    return AsgiClient(app=app, base_url=f"http://{host}", peer=peer)


def test_the_owner_is_answered_under_the_token():
    answer = client_of(OWN).get(f"/{TOKEN}/")
    assert (answer.status_code, answer.text) == (200, "ada")


@pytest.mark.parametrize("path", ["/", f"/{'x' * 32}/", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"/{TOKEN}", "/" + "a" * 600])
def test_another_token_is_told_nothing(path):
    answer = client_of(OWN).get(path)
    assert answer.status_code == 404
    assert TOKEN not in answer.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:8801", "127.0.0.1:8800.evil.example"])
def test_another_name_that_leads_here_is_refused(host):
    assert client_of(OWN).get(f"/{TOKEN}/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "image"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "script"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, 200),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, 200),
        ("GET", {"Origin": "http://evil.example"}, 403),
        ("POST", {}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "none"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Origin": "http://evil.example"}, 403),
        ("POST", SAME | {"Origin": "http://evil.example"}, 403),
        ("POST", {"Origin": f"http://{HOST}"}, 200),
        ("POST", SAME, 200),
    ],
)
def test_only_the_page_itself_asks(method, headers, status):
    headers = {"Content-Type": "application/json"} | headers
    assert client_of(OWN).request(method, f"/{TOKEN}/", headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_of_another_page_can_send_is_refused(kind):
    answer = client_of(OWN).post(f"/{TOKEN}/", content=b"{}", headers=SAME | {"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 30, "-1", "x"])
def test_a_huge_body_is_refused_unread(length):
    headers = SAME | {"Content-Type": "application/json", "Content-Length": length}
    assert client_of(OWN).post(f"/{TOKEN}/", content=b"{}", headers=headers).status_code == 413


@pytest.mark.parametrize("path", ["/", f"/{TOKEN}/", f"/{TOKEN}/nothing"])
def test_every_answer_has_the_strict_headers(path):
    headers = client_of(OWN).get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in headers


def behind(peer="10.0.0.7", **headers):
    return client_of(BEHIND, host=PROXY.hosts[0], peer=peer).get("/", headers=headers)


def test_behind_a_proxy_its_user_asks():
    answer = behind(**{"X-Remote-User": "dr.grace"})
    assert (answer.status_code, answer.text) == (200, "dr.grace")


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("127.0.0.1", {"X-Remote-User": "dr.grace"}),
        ("10.0.0.8", {"X-Remote-User": "dr.grace", "X-Forwarded-For": "10.0.0.7"}),
        ("10.0.0.7", {}),
        ("10.0.0.7", {"X-Remote-User": " "}),
        ("10.0.0.7", {"X-Remote-User": "x" * 101}),
        ("10.0.0.7", {"X-Remote-User": "a\tb"}),
    ],
)
def test_nobody_else_and_nobody_without_a_name(peer, headers):
    assert behind(peer, **headers).status_code == 403


def test_two_names_of_a_user_are_none():
    client = client_of(BEHIND, host=PROXY.hosts[0], peer="10.0.0.7")
    assert client.get("/", headers=[("X-Remote-User", "eve"), ("X-Remote-User", "dr.grace")]).status_code == 403
