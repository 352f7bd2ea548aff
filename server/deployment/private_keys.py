"""Private keys in PEM files that may be encrypted; passphrases come from the environment, as others see a command line.

``ca.key`` and ``server.key`` are encrypted if their passphrase is set when they are made. A site's key cannot be:
Flower's SuperNode reads no encrypted one.
"""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared_model.errors import ConfigError

AUTHORITY_PASSPHRASE = "FEDMAMMO_CA_KEY_PASSPHRASE"  # noqa: S105, the name of a variable
SERVER_PASSPHRASE = "FEDMAMMO_SERVER_KEY_PASSPHRASE"  # noqa: S105, the name of a variable
_MAX_BYTES = 1023
"""OpenSSL reads no longer passphrase."""


def passphrase_in(variable: str) -> str | None:
    """Return the passphrase in a variable of the environment, None if that is not set.

    Raises:
        ConfigError: it is empty, longer than 1023 bytes, or no text.
    """
    passphrase = os.environ.get(variable)
    if passphrase is None:
        return None
    try:
        num_bytes = len(passphrase.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"Expected {variable} to be text in UTF-8.") from error
    if not 0 < num_bytes <= _MAX_BYTES:
        raise ConfigError(f"Expected {variable} to have 1 to {_MAX_BYTES} bytes, got {num_bytes}; unset it for none.")
    return passphrase


def is_encrypted(path: Path) -> bool:
    """Return whether a PEM file holds an encrypted key.

    Raises:
        OSError: it cannot be read.
    """
    return b"ENCRYPTED" in path.read_bytes()


def load_private_key(path: Path, *, variable: str) -> PrivateKeyTypes:
    """Read a private key.

    Args:
        path: PEM.
        variable: of the environment, which holds the passphrase if the key is encrypted.

    Raises:
        ConfigError: the file cannot be read or holds no private key, or the passphrase is missing or wrong.
    """
    passphrase = passphrase_in(variable)
    try:
        needs_passphrase = is_encrypted(path)
        if needs_passphrase and passphrase is None:
            raise ConfigError(f"Expected the passphrase of {path} in the environment: set {variable}.")
        password = passphrase.encode() if needs_passphrase and passphrase is not None else None
        return load_pem_private_key(path.read_bytes(), password)
    except OSError as error:
        raise ConfigError(f"Expected a private key in {path}: {error.strerror}.") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = f", and in {variable} its passphrase" if is_encrypted(path) else ""
        raise ConfigError(f"Expected a private key in {path}{hint}.") from error
