"""The application bundle: what Flower carries to every site, and whose SHA-256 the sites approve.

It is made from the packages that are imported here, wherever they lie, and from the folder ``application``. The same
source gives the same bytes from a checkout, an sdist and a wheel, on every machine: Flower sorts the names, fixes times
and modes, and compresses nothing.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from flwr.cli.build import build_fab_from_files

PACKAGES = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: of a checkout or of an environment."""
_APPLICATION = Path("server", "deployment", "application")
_APPLICATION_FILES = ("pyproject.toml", "README.md", "LICENSE")
_SOURCES = {"client": ("*.py",), "server": ("*.py",), "shared_model": ("*.py",), "configs": ("*.py", "*.yaml")}


def bundle_digest(packages: Path = PACKAGES) -> str:
    """Return the SHA-256 of ``build_bundle(packages)``, hexadecimal in lower case."""
    return digest_of(build_bundle(packages))


def digest_of(bundle: bytes) -> str:
    """Return the SHA-256 of a bundle, hexadecimal in lower case."""
    return hashlib.sha256(bundle).hexdigest()


def build_bundle(packages: Path = PACKAGES) -> bytes:
    """Return the bundle of the packages in a folder: a zip archive of Flower's format 1."""
    return build_fab_from_files(_files(packages))[0]


def _files(packages: Path) -> Mapping[str, bytes]:
    """Return the contents by name: every module and default value, and the application's own three files."""
    paths = {name: packages / _APPLICATION / name for name in _APPLICATION_FILES}
    for package, patterns in _SOURCES.items():
        for pattern in patterns:
            paths |= {path.relative_to(packages).as_posix(): path for path in (packages / package).rglob(pattern)}
    return {name: path.read_bytes() for name, path in sorted(paths.items())}
