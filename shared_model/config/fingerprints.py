"""What code and configuration produced a result."""

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_model.config.experiment import ExperimentConfig

_ROOT = Path(__file__).resolve().parents[2]
_SHARED_SOURCE = (("client", "*.py"), ("shared_model", "*.py"), ("configs", "*.yaml"))
_PACKAGES = ("flwr", "torch", "torchvision", "opacus", "dp-accounting", "numpy", "pandas", "pydicom", "hydra-core")


@cache
def source_fingerprint() -> str:
    """Return the SHA-256 over every source file that a site runs, and the configuration tree.

    Server and site exchange it with every request: parameters of one version make no sense in another.
    """
    digest = hashlib.sha256()
    for folder, pattern in _SHARED_SOURCE:
        for path in sorted((_ROOT / folder).rglob(pattern)):
            content = path.read_bytes()
            digest.update(f"{path.relative_to(_ROOT).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def config_fingerprint(config: "ExperimentConfig") -> str:
    """Return the SHA-256 over the configuration as JSON."""
    return hashlib.sha256(config.to_json().encode()).hexdigest()


def versions(*extras: str) -> dict[str, str]:
    """Return the versions of Python, the platform and the packages that results depend on, with those of ``extras``."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in (*_PACKAGES, *extras):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
