"""How much a peer may make this process read: pynetdicom itself takes what the peer announces."""

import logging
import typing
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.events import Event

VERIFICATION = UID("1.2.840.10008.1.1")
"""SOP class of C-ECHO (PS3.6 A)."""
MAX_PDU_BYTES = 1 << 20
"""Largest unit that is read at once; ours ask for 16 KiB, and a request to associate has a few kilobytes."""
_SILENCE_SECONDS = 60.0
"""How long a peer may be silent within a unit."""

# What peers send, patients' names among it, is nothing for a log.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


@dataclass
class _Budget:
    """Bytes of one association since this side last answered."""

    spent: int = 0


def bounding(max_bytes: int) -> list[evt.EventHandlerType]:
    """Return the handlers that close an association which sends too much before it gets an answer.

    Args:
        max_bytes: that one message, a film's or all matches of a query, may have.
    """

    def bound(event: Event) -> None:
        # pynetdicom makes its socket before it tells of the connection, and has no other place for a bound.
        budget, socket = _Budget(), typing.cast(Any, event.assoc.dul.socket)
        receive = socket.recv
        socket.socket.settimeout(_SILENCE_SECONDS)

        def receive_bounded(num_bytes: int) -> bytearray:
            budget.spent += num_bytes
            if num_bytes > MAX_PDU_BYTES or budget.spent > max_bytes:
                # pynetdicom takes it for a lost connection, and closes.
                raise OSError("The peer sends more than is read here.")
            received: bytearray = receive(num_bytes)
            return received

        socket.recv = receive_bounded
        event.assoc.bind(evt.EVT_DIMSE_SENT, lambda _: setattr(budget, "spent", 0))

    return [(evt.EVT_CONN_OPEN, bound)]
