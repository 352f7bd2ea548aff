"""The way to the coordinator, with real proxies and TLS servers on the loopback."""

import contextlib
import select
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.deployment import connection
from client.deployment.checks import Status, may_start
from client.deployment.connection import AwayError, CertificateError, ProxyInTheWayError, ask, proxy_for
from client.deployment.preflight import preflight
from shared_model.errors import ConfigError
from shared_model.system.processes import free_port
from simulations.commands.app import main


@contextlib.contextmanager
def running(web):
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        yield
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


@contextlib.contextmanager
def tls_server(port, certificate, key):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        def log_message(self, *arguments):
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    web = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    with running(web):
        yield


@contextlib.contextmanager
def proxy(*, status=None, asked=None):
    """A proxy that answers CONNECT with ``status``, and without one lets everything through."""

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self):
            if asked is not None:
                asked.append(self.path)
            if status is not None:
                self.send_error(status)
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as there:
                self.send_response(200)
                self.end_headers()
                self.close_connection = True
                while True:
                    for source in select.select([self.connection, there], [], [], 10)[0]:
                        data = source.recv(65536)
                        if not data:
                            return
                        (there if source is self.connection else self.connection).sendall(data)

        def log_message(self, *arguments):
            pass

    port = free_port()
    with running(ThreadingHTTPServer(("127.0.0.1", port), Handler)):
        yield f"http://127.0.0.1:{port}"


def certificate_of(folder, issuer, *, begins=timedelta(days=-1), ends=timedelta(days=1)):
    """Write a self-signed certificate for localhost, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "other.pem", folder / "other.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """No proxy but the one that a test sets, and no exception for the loopback, which the command would make."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.fixture
def coordinator(kit):
    """The coordinator's TLS server for the hospital ``kit``."""
    with tls_server(kit.port, kit.server / "server.pem", kit.server / "server.key"):
        yield kit


def by_name(kit):
    return {check.name: check for check in preflight(kit.site)}


def test_without_a_proxy(coordinator):
    answer = ask(coordinator.site)
    assert answer.not_after > datetime.now(UTC)
    assert answer.date is not None
    assert proxy_for(coordinator.site) is None


@pytest.mark.fault
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_lets_it_through_is_gone_by_and_named(coordinator, environment, variable):
    asked = []
    with proxy(asked=asked) as address:
        environment.setenv(variable, address)
        assert ask(coordinator.site).date is not None
    assert asked == [f"localhost:{coordinator.port}"]
    assert proxy_for(coordinator.site) == f"{variable}={address}"


@pytest.mark.parametrize(
    ("server", "excepted", "is_by_proxy"),
    [
        ("fl.example.org:9092", "example.org", False),
        ("example.org:9092", ".example.org", True),
        ("fl.example.org:9092", "other.org, fl.example.org", False),
        ("fl.example.org:9092", "ample.org", True),
        ("[::1]:9092", "::1", False),
        ("10.1.2.3:9092", "10.0.0.0/8", True),
        ("10.1.2.3:9092", "*", False),
    ],
)
def test_exceptions_are_read_as_the_process_reads_them(kit, environment, server, excepted, is_by_proxy):
    kit.change(server=server)
    environment.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    environment.setenv("NO_PROXY", excepted)
    assert (proxy_for(kit.site) is not None) is is_by_proxy


@pytest.mark.fault
def test_a_proxy_that_swallows_stops_the_start_in_one_line(begun, environment):
    """Earlier every check was ok, since preflight went straight, and the site was deaf."""
    with tls_server(begun.port, begun.server / "server.pem", begun.server / "server.key"), proxy(status=503) as address:
        environment.setenv("HTTPS_PROXY", address)
        checks = by_name(begun)
        assert checks["server"].status is Status.FAILED
        assert checks["server"].detail.startswith(
            f"HTTPS_PROXY={address} does not let {begun.site.server} through: 503"
        )
        assert "set NO_PROXY=localhost" in checks["server"].detail
        assert checks["proxy"].detail == f"HTTPS_PROXY={address}"
        environment.setenv("NO_PROXY", "localhost")
        checks = by_name(begun)
    assert "proxy" not in checks
    assert checks["server"].status is Status.OK


def test_the_command_keeps_the_loopback_free(begun, environment, capsys):
    with tls_server(begun.port, begun.server / "server.pem", begun.server / "server.key"), proxy(status=503) as address:
        environment.setenv("HTTPS_PROXY", address)
        # So that what the command sets is undone.
        environment.setenv("NO_PROXY", "somewhere.else")
        environment.setenv("no_proxy", "somewhere.else")
        assert main(["site", "preflight", "--site", str(begun.path)]) == 0
    assert "HTTPS_PROXY" not in capsys.readouterr().out


@pytest.mark.fault
@pytest.mark.parametrize("status", [502, 504])
def test_a_proxy_before_a_coordinator_that_is_down_is_waited_for(begun, environment, status):
    with proxy(status=status) as address:
        environment.setenv("HTTPS_PROXY", address)
        checks = by_name(begun)
    assert checks["server"].status is Status.WARNING
    assert may_start(list(checks.values()))


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:1", "socks5://127.0.0.1:1080", "nonsense://x", "http://[", "http://user:secret@127.0.0.1:1"],
)
def test_a_proxy_that_cannot_be_used_and_no_password_is_shown(kit, environment, address):
    environment.setenv("ALL_PROXY", address)
    with pytest.raises(ProxyInTheWayError, match=r"ALL_PROXY=.* does not let localhost") as error:
        ask(kit.site)
    assert "secret" not in str(error.value)


@pytest.mark.fault
def test_a_proxy_that_never_answers(kit, environment, monkeypatch):
    monkeypatch.setattr(connection, "_TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(ProxyInTheWayError, match="timed out"):
            ask(kit.site)


def test_nobody_there(kit):
    with pytest.raises(AwayError, match="refused"):
        ask(kit.site)


@pytest.mark.parametrize("is_by_proxy", [False, True])
def test_interception_names_the_issuer_that_was_presented(begun, environment, tmp_path, is_by_proxy):
    certificate, key = certificate_of(tmp_path, "Hospital Web Gateway")
    with tls_server(begun.port, certificate, key), proxy() as address:
        if is_by_proxy:
            environment.setenv("HTTPS_PROXY", address)
        check = by_name(begun)["certificate"]
    assert check.status is Status.FAILED
    assert "was a certificate of the issuer CN=Hospital Web Gateway" in check.detail
    assert (f"by way of HTTPS_PROXY={address}" in check.detail) is is_by_proxy
    assert "its firewall opens the connection" in check.remedy


@pytest.mark.parametrize(
    ("begins", "ends", "state"), [(-20, -10, "expired"), (10, 20, "not yet valid")], ids=["expired", "not yet valid"]
)
def test_a_certificate_out_of_its_time_points_to_the_clock_with_both_dates(kit, tmp_path, begins, ends, state):
    """To a machine whose clock is a year off, a good certificate looks like this."""
    certificate, key = certificate_of(
        tmp_path, "The federation", begins=timedelta(days=begins), ends=timedelta(days=ends)
    )
    kit.site.authority.write_bytes(certificate.read_bytes())
    with tls_server(kit.port, certificate, key), pytest.raises(CertificateError) as error:
        ask(kit.site)
    first, last = (f"{datetime.now(UTC) + timedelta(days=days):%Y-%m-%d}" for days in (begins, ends))
    assert str(error.value).startswith(f"{state}: it is valid from {first}")
    assert f"to {last}" in str(error.value)
    assert "this machine's clock says" in str(error.value)
    assert "check this machine's clock" in error.value.remedy


def test_an_issuer_chosen_to_hurt_is_cut_and_printable(kit, tmp_path):
    certificate, key = certificate_of(tmp_path, "evil\x1b[2J" + "x" * 50)
    with tls_server(kit.port, certificate, key), pytest.raises(CertificateError) as error:
        ask(kit.site)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("server", ["localhost", "localhost:port", "localhost:99999999", "", "https://localhost:1"])
def test_a_server_that_is_none_is_named(kit, server):
    kit.change(server=server)
    with pytest.raises(ConfigError, match=r"Expected server=.* to be host:port"):
        ask(kit.site)


def test_an_authority_that_is_none(kit):
    kit.site.authority.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"Expected the authority's certificate in .*ca\.pem"):
        ask(kit.site)
