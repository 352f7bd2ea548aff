"""Checks of what a peer sends: names, numbers and byte strings of the protocol."""

import re

from shared_model.errors import ProtocolError
from shared_model.system.peer_text import peer_text

KEY_BYTES = 32
"""Of a public key, Ed25519 or X25519."""
SIGNATURE_BYTES = 64
"""Ed25519."""
_SITE = re.compile(r"[A-Za-z0-9_-]{1,64}")


def require_site(site: object) -> None:
    """Check the name of a site: the names that the configuration admits.

    Raises:
        ProtocolError: it is none.
    """
    if not isinstance(site, str) or _SITE.fullmatch(site) is None:
        shown = peer_text(site, most=64) if isinstance(site, str) else type(site).__name__
        raise ProtocolError(f"Expected a site's name of 1 to 64 letters, digits, '-' and '_', got {shown!r}.")


def require_bytes(value: object, num_bytes: int, name: str) -> None:
    """Check that ``value`` is a byte string of ``num_bytes``; ``name`` says of what, and is ours.

    Raises:
        ProtocolError: it is not.
    """
    if not isinstance(value, bytes) or len(value) != num_bytes:
        shown = f"{len(value)} bytes" if isinstance(value, bytes) else type(value).__name__
        raise ProtocolError(f"Expected {name} of {num_bytes} bytes, got {shown}.")


def require_count(value: object, least: int, most: int, name: str) -> None:
    """Check that ``value`` is a whole number from ``least`` to ``most``; ``name`` says of what, and is ours.

    Raises:
        ProtocolError: it is not.
    """
    if type(value) is not int or not least <= value <= most:
        # A number of a thousand digits cannot even be printed.
        shown = str(value) if type(value) is int and abs(value) < 2**64 else type(value).__name__
        raise ProtocolError(f"Expected {name} from {least} to {most}, got {shown}.")
