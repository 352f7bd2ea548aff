"""The grey-level references that ship: whose they are, which pictures they fit, and what is no such file."""

import dataclasses
from pathlib import Path

import pytest

from shared_model.config.choices import Denoising, ImageMode, Normalisation
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import ConfigError
from shared_model.reference.grey_levels import GreyReferences, load_grey_references
from shared_model.system.checked import build
from shared_model.system.documents import from_json, to_json

IMAGE = ImageConfig(
    mode=ImageMode.CROP,
    size=128,
    context=1.5,
    normalisation=Normalisation.FULL_RANGE,
    denoising=Denoising.NONE,
    clahe_clip_limit=0.0,
    face_left=True,
)


def test_the_shipped_ones_name_their_source_and_licence():
    shipped = load_grey_references()
    assert "CBIS-DDSM" in shipped.source
    assert "10.7937/K9/TCIA.2016.7O02S9CY" in shipped.source
    assert shipped.licence.startswith("CC BY 3.0")
    assert {each.num_lesions for each in shipped.references} == {1318}


@pytest.mark.parametrize("method", list(Normalisation))
def test_crops_have_one_for_each_normalisation(method):
    found = load_grey_references().fitting(dataclasses.replace(IMAGE, normalisation=method, size=224))
    assert (found.mode, found.normalisation) == (ImageMode.CROP, method)


@pytest.mark.parametrize("change", [{"mode": ImageMode.FILM}, {"mode": ImageMode.ROI}, {"clahe_clip_limit": 2.0}])
def test_other_pictures_have_none(change):
    assert load_grey_references().fitting(dataclasses.replace(IMAGE, **change)) is None


def test_they_are_read_as_they_were_written(tmp_path):
    shipped = load_grey_references()
    (tmp_path / "levels.json").write_text(to_json(shipped))
    assert load_grey_references(tmp_path / "levels.json") == shipped


@pytest.mark.parametrize("content", [b"", b"[]", b'{"source": "x"}', b"\xff"])
def test_what_is_no_reference(tmp_path, content):
    (tmp_path / "levels.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"GreyReferences|levels\.json|Missing|Expected"):
        load_grey_references(tmp_path / "levels.json")


def test_none_at_all():
    with pytest.raises(ConfigError, match=r"Expected grey-level references in .*missing\.json"):
        load_grey_references(Path("missing.json"))


def test_two_of_a_kind_are_refused():
    values = from_json(to_json(load_grey_references()))
    values["references"].append(values["references"][0])
    with pytest.raises(ConfigError, match="to differ in mode and normalisation"):
        build(GreyReferences, values)
