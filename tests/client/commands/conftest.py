"""A hospital's kit, in whose folder the commands run."""

import pytest

from client.deployment.initialisation import initialise
from tests.hospital_kits import kit_in


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A hospital of 48 patients that has begun its ledger; the working folder is that of its kit."""
    kit = kit_in(tmp_path)
    initialise(kit.site)
    monkeypatch.chdir(kit.folder)
    return kit
