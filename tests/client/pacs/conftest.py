"""One examination of the phantom, and a site that knows a PACS."""

import pytest

from client.deployment.pacs_section import read_section
from simulations.phantom.write import write_phantom
from tests.pacs_films import write_films


@pytest.fixture(scope="session")
def phantom_films(tmp_path_factory):
    """The root of a phantom of 12 patients."""
    root = tmp_path_factory.mktemp("pacs") / "phantom"
    write_phantom(root, num_patients=12, seed=3, num_workers=1)
    return root


@pytest.fixture
def films(phantom_films, tmp_path):
    """CC and MLO of one study."""
    return write_films(phantom_films, tmp_path / "films")


@pytest.fixture
def settings(tmp_path):
    """Make the section ``pacs`` of a site in ``tmp_path``."""

    def make(**values):
        return read_section(values, tmp_path)

    return make
