"""A reading of the page, and its films found again for the results that go to the PACS."""

import shutil

import pytest
import yaml
from pydicom import dcmread

from client.reader_page.asked import AskedReading, MarkedFilm
from client.reader_page.desk import Desk
from client.reader_page.kept_films import kept_with_films
from shared_model.errors import ConfigError, DicomError
from simulations.commands.app import main
from tests.reader_room import room_in


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A room of its own, whose films are moved about, and a reading of the left breast."""
    room = room_in(tmp_path_factory.mktemp("own"))
    desk = Desk(room.site, room.reader)
    study = next(each for each in desk.work_list.look().studies if each.patient_id == "PH-0001")
    films = tuple(
        MarkedFilm(film=film.film_id, view=film.header.view, box=tuple(map(int, room.boxes[film.header.view])))
        for film in study.films
        if film.header.laterality == "LEFT"
    )
    return room, desk.read(AskedReading(study=study.study_id, films=films, columns={}), user="ada").reading


def test_the_films_are_found_whatever_they_are_called(own):
    room, reading = own
    (room.films / "leftCC.dcm").rename(room.films / "renamed.dcm")
    shutil.copy(room.films / "alone.dcm", room.films / "leftCC.dcm")
    try:
        found, films = kept_with_films(room.site, reading.reading_id)
    finally:
        (room.films / "renamed.dcm").rename(room.films / "leftCC.dcm")
    assert found == reading
    assert [path.name for path in films] == ["renamed.dcm", "leftMLO.dcm"]


def test_a_film_that_has_changed_is_none_of_the_reading(own):
    room, reading = own
    path = room.films / "leftMLO.dcm"
    before = path.read_bytes()
    film = dcmread(path)
    film.InstitutionName = "elsewhere"
    film.save_as(path)
    try:
        with pytest.raises(DicomError, match="Expected the 2 films of the reading"):
            kept_with_films(room.site, reading.reading_id)
    finally:
        path.write_bytes(before)


def test_a_number_that_nobody_kept(own, tmp_path):
    room, _ = own
    with pytest.raises(ConfigError, match="Expected a reading that the page has kept"):
        kept_with_films(room.site, "0" * 32)


def test_the_command_takes_the_number_that_the_page_shows(own, tmp_path, capsys):
    room, reading = own
    site = room.site.ledger.parent / "site.yaml"
    site.write_text(yaml.safe_dump(yaml.safe_load(site.read_text()) | {"pacs": {}}))
    command = ["site", "pacs", "results", reading.reading_id, "--site", str(site), "--out", str(tmp_path)]
    assert main(command) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "report.dcm", "state-cc.dcm", "state-mlo.dcm", "picture-cc.dcm", "picture-mlo.dcm",
    }  # fmt: skip
    assert dcmread(tmp_path / "report.dcm").ContentDate == reading.read_at[:10].replace("-", "")
    assert main([*command, "--film", str(room.films / "leftCC.dcm")]) == 2
    assert "expected no --film with a number" in " ".join(capsys.readouterr().err.replace("│", " ").split())
