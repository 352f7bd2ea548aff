"""What a person sees before the first round."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from client.data.splits import Role
from shared_model.config.composition import compose
from simulations.federation.display import SimulationDisplay
from simulations.federation.prepare import PreparedFederation


@pytest.fixture(scope="module")
def config():
    return compose(["preset=smoke", "data.root=unused", "run.dir=unused"])


def test_counts_of_every_role_and_of_rows_left_out(config):
    prepared = PreparedFederation(
        config=config,
        roster=None,
        table=SimpleNamespace(rejects=range(3), excluded=range(5)),
        num_lesions={Role.TRAIN: 60, Role.VALIDATION: 0, Role.TEST: 31, Role.PUBLIC: 12},
        num_patients={Role.TRAIN: 30, Role.VALIDATION: 0, Role.TEST: 16, Role.PUBLIC: 7},
    )
    console = Console(file=io.StringIO(), width=200)
    with SimulationDisplay(config, console) as display:
        display.on_prepared(prepared)
    first, second = (line.strip() for line in console.file.getvalue().splitlines()[-2:])
    assert first == (
        "data         train 30 patients / 60 lesions, validation 0 patients / 0 lesions, "
        "test 16 patients / 31 lesions, public 7 patients / 12 lesions"
    )
    assert second == "3 rows rejected, 5 excluded as their patient is in a test split"
