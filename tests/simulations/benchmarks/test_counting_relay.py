"""A relay passes everything on, in both directions, and counts it."""

import socket
import socketserver
import threading

import pytest

from shared_model.system.processes import free_port
from simulations.benchmarks.counting_relay import CountingRelay

LARGE = bytes(range(256)) * 4096


class Upper(socketserver.BaseRequestHandler):
    """Takes all that comes, and then sends it back twice."""

    def handle(self):
        content = b"".join(iter(lambda: self.request.recv(1 << 16), b""))
        self.request.sendall(2 * content)


@pytest.fixture
def relay():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Upper) as server:
        threading.Thread(target=server.serve_forever).start()
        with CountingRelay(server.server_address[1]) as relay:
            yield relay
        server.shutdown()


def ask(port, content):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_it_passes_everything_on_and_counts_both_ways(relay):
    assert ask(relay.port, b"abc") == b"abcabc"
    assert ask(relay.port, LARGE) == 2 * LARGE
    assert relay.num_bytes == 3 * (3 + len(LARGE))


def test_connections_do_not_mix(relay):
    found = {}
    threads = [
        threading.Thread(target=lambda text=text: found.update({text: ask(relay.port, text)}))
        for text in (b"one", b"three", LARGE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: 2 * text for text in (b"one", b"three", LARGE)}


def test_where_nobody_listens_a_connection_ends():
    with CountingRelay(free_port()) as relay:
        assert ask(relay.port, b"") == b""
        assert relay.num_bytes == 0
