"""A release written as a folder, and signed with the key of the coordinator's server."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from server.deployment.private_keys import SERVER_PASSPHRASE, load_private_key
from shared_model.errors import ConfigError
from shared_model.release.document import CERTIFICATE_FILE, DOCUMENT_FILE, SIGNATURE_FILE
from shared_model.release.signature import digest_of, sign, verify
from shared_model.system.files import write_atomically

_KEY, _CERTIFICATE = "server.key", "server.pem"


def require_new(out: Path) -> None:
    """Check that a release may be written to ``out``.

    Raises:
        ConfigError: there is something.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"Expected out={out} to be a new or empty folder.")


def load_signer(kit: Path) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return key and certificate of the server's kit.

    Raises:
        ConfigError: a file cannot be read, or the passphrase of the key is missing or wrong.
    """
    key = load_private_key(kit / _KEY, variable=SERVER_PASSPHRASE)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"Expected {kit / _KEY} to be a key on an elliptic curve, as provisioning makes it.")
    try:
        return key, (kit / _CERTIFICATE).read_bytes()
    except OSError as error:
        raise ConfigError(f"Expected the server's certificate in {kit / _CERTIFICATE}: {error.strerror}.") from error


def write_release(
    out: Path, document: bytes, files: Mapping[str, bytes], signer: tuple[ec.EllipticCurvePrivateKey, bytes] | None
) -> str:
    """Write the folder, whole or not at all, and return the release's digest.

    Args:
        out: new, or an empty folder.
        document: ``release.json``.
        files: the others, by name.
        signer: key and certificate; None leaves the release unsigned.

    Raises:
        ConfigError: ``out`` is in use or cannot be written.
        ReleaseError: the certificate is not that of the key.
    """
    contents = {**files, DOCUMENT_FILE: document}
    if signer is not None:
        key, certificate = signer
        contents |= {SIGNATURE_FILE: sign(document, key), CERTIFICATE_FILE: certificate}
        verify(document, contents[SIGNATURE_FILE], certificate=certificate, authority=None)
    write_folder(out, contents)
    return digest_of(document)


def write_folder(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files, by name, into ``out``, whole or not at all.

    Raises:
        ConfigError: ``out`` is in use or cannot be written.
    """
    require_new(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary) / out.name
            for name, content in contents.items():
                write_atomically(folder / name, content)
            folder.rename(out)
    except OSError as error:
        raise ConfigError(f"Expected out={out} to be a folder that can be written: {error}.") from error
