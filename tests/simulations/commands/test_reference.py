"""The command that makes shipped references again, on the phantom."""

import pytest

from shared_model.reference.grey_levels import load_grey_references
from simulations.commands.app import main
from simulations.phantom.write import write_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom")
    write_phantom(root, num_patients=24, seed=0, progress=lambda done: None)
    return root


def test_grey_levels_are_written_and_can_be_read(phantom, tmp_path, capsys):
    out = tmp_path / "levels.json"
    assert main(["reference", "grey-levels", f"data.root={phantom}", "--out", str(out)]) == 0
    made = load_grey_references(out)
    assert capsys.readouterr().out == f"{made.references[0].num_lesions} lesions summarised in {out}\n"
    assert 0 < made.references[0].middle.mean < 1


def test_the_benchmark_prints_a_row_for_every_alteration(phantom, capsys):
    assert main(["benchmark", "grey-levels", f"data.root={phantom}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("gamma 0.5") == 3
    assert "Left out: MGH / WFU / ISMD." in " ".join(printed.split())
