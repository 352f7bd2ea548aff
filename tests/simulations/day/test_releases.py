"""The release of a day: what its commands are told, whatever the folder is called."""

import pytest

from shared_model.config.choices import ImageMode
from shared_model.config.composition import compose
from simulations.day import releases


@pytest.mark.parametrize("name", ["a day", "Monday, again", "day=1", "day (1) [x]", "it's {here}"])
def test_a_folder_of_any_name_is_the_one_that_is_trained_in(tmp_path, monkeypatch, name):
    said = []
    monkeypatch.setattr(releases, "required", lambda *words: said.append(words))
    releases.phantom_release(tmp_path / name, tmp_path)
    (command, *overrides), *_ = said
    config = compose(overrides)
    assert command == "simulate"
    assert (config.data.image.mode, str(config.data.root)) == (ImageMode.ROI, str(tmp_path / name / "phantom"))
