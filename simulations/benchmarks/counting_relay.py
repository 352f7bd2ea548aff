"""A relay between processes of this machine that counts the bytes which it passes on."""

import socket
import socketserver
import threading
from contextlib import suppress
from typing import Self

_LOOPBACK = "127.0.0.1"
_CHUNK_BYTES = 2**16


class CountingRelay(socketserver.ThreadingTCPServer):
    """Passes whatever arrives at ``port`` on to another port, and back; to be used in a ``with`` block."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, target: int) -> None:
        """Listen on a free port of the loopback interface, on behalf of port ``target`` there."""
        super().__init__((_LOOPBACK, 0), _Connection)
        self.target = target
        self._num_bytes, self._lock = 0, threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def num_bytes(self) -> int:
        """All bytes so far, both ways, with what TLS adds and without what TCP adds."""
        return self._num_bytes

    def count(self, num_bytes: int) -> None:
        """Count bytes that were passed on."""
        with self._lock:
            self._num_bytes += num_bytes


class _Connection(socketserver.BaseRequestHandler):
    server: CountingRelay
    request: socket.socket

    def handle(self) -> None:
        """Pass on until both sides have ended."""
        # A side that is gone, or was never there, ends the connection, as without a relay.
        with suppress(OSError), socket.create_connection((_LOOPBACK, self.server.target)) as target:
            back = threading.Thread(target=self._pass_on, args=(target, self.request), daemon=True)
            back.start()
            self._pass_on(self.request, target)
            back.join()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while content := source.recv(_CHUNK_BYTES):
                sink.sendall(content)
                self.server.count(len(content))
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
