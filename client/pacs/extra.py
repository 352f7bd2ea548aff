"""What ``pip install 'federated-mammography[pacs]'`` brings, asked for before it is used."""

from importlib.util import find_spec

from shared_model.errors import ConfigError

_PACKAGES = {"pynetdicom": "pynetdicom", "highdicom": "highdicom", "fhir": "fhir.resources"}


def require_extra() -> None:
    """Check that the packages are installed which only sites with a PACS need.

    Raises:
        ConfigError: one is not.
    """
    missing = [package for module, package in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(
            f"Expected {', '.join(missing)} to be installed; run: pip install 'federated-mammography[pacs]'"
        )
