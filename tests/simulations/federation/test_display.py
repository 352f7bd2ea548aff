"""What a person sees before the first round."""

import io

import pytest
from rich.console import Console

from client.data.splits import Role
from client.data.tables.image_counts import ImageCount
from client.data.tables.lesion_table import LesionTable, build_lesion_table
from client.data.tables.rejects import reject_frame
from shared_model.config.composition import compose
from simulations.federation.display import SimulationDisplay
from simulations.federation.prepare import PreparedFederation


@pytest.fixture(scope="module")
def config():
    return compose(["preset=smoke", "data.root=unused", "run.dir=unused"])


def test_counts_of_every_role_and_of_rows_left_out(config):
    rejects = reject_frame(("m.csv", number, "P", "L", "no image file") for number in range(3))
    excluded = reject_frame(("m.csv", number, "P", "L", "tested") for number in range(5))
    unreadable = reject_frame([("m.csv", 1, "P", "L", "Expected age='7' in [18, 100].")])
    table = LesionTable(
        frame=build_lesion_table([]).frame,
        rejects=rejects,
        excluded=excluded,
        unreadable=unreadable,
        respelt=frozenset({"00001"}),
    )
    prepared = PreparedFederation(
        config=config,
        roster=None,
        table=table,
        images=ImageCount(num_with=9, num_lesions=12),
        num_lesions={Role.TRAIN: 60, Role.VALIDATION: 0, Role.TEST: 31, Role.PUBLIC: 12},
        num_patients={Role.TRAIN: 30, Role.VALIDATION: 0, Role.TEST: 16, Role.PUBLIC: 7},
        num_declared=30,
    )
    console = Console(file=io.StringIO(), width=200)
    with SimulationDisplay(config, console) as display:
        display.on_prepared(prepared)
    first, images, second, *rest = (line.strip() for line in console.file.getvalue().splitlines()[-6:])
    assert first == (
        "data         train 30 patients / 60 lesions, validation 0 patients / 0 lesions, "
        "test 16 patients / 31 lesions, public 7 patients / 12 lesions"
    )
    assert images == "images       9 of 12 lesions have an image"
    assert second == "3 rows rejected, 5 excluded as their patient is in a test split"
    assert rest == [
        "rejected: 3 x no image file",
        "1 cells are not understood and count as missing: 1 x Expected age='7' in [18, 100].",
        "1 patients are spelt in several ways, each taken as one: 00001",
    ]


@pytest.mark.parametrize(("num_declared", "is_told"), [(290, True), (300, False)])
def test_a_private_mean_of_few_patients_is_told_before_it_is_bought(num_declared, is_told):
    config = compose(["preset=cbis_mass", "data.root=unused", "run.dir=unused"])
    prepared = PreparedFederation(
        config=config,
        roster=None,
        table=build_lesion_table([]),
        images=None,
        num_lesions=dict.fromkeys(Role, 9),
        num_patients=dict.fromkeys(Role, 9),
        num_declared=num_declared,
    )
    console = Console(file=io.StringIO(), width=200)
    with SimulationDisplay(config, console) as display:
        display.on_prepared(prepared)
    assert ("model.feature_constants=shipped" in console.file.getvalue()) is is_told
