"""A hospital's kit."""

import pytest

from client.deployment.initialisation import initialise
from tests.hospital_kits import kit_in


@pytest.fixture
def kit(tmp_path):
    """A hospital of 48 patients, of whom 5 are in the test split; it has not begun its ledger."""
    return kit_in(tmp_path)


@pytest.fixture
def begun(kit):
    """The same hospital after its ledger was begun: it declares 40 patients."""
    initialise(kit.site)
    return kit
