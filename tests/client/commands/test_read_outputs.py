"""``fedmammo read --sr --fhir``: the files that ``fedmammo site pacs results`` writes of the same result, beside it."""

import importlib.util
import json
import shutil

import pytest
import yaml

from client.pacs import extra
from client.reading.result import Outcome, read_result
from simulations.commands.app import main
from tests.reader_room import room_in

SYSTEM = "urn:oid:1.2.3"


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    made = room_in(folder)
    path = made.site.approved_releases.parent / "site.yaml"
    values = yaml.safe_load(path.read_text()) | {"pacs": {"patient_system": SYSTEM}}
    path.write_text(yaml.safe_dump(values))
    return made, path


@pytest.fixture
def command(room):
    made, site = room
    boxes = {view: ",".join(map(str, box)) for view, box in made.boxes.items()}
    return [
        "read", "--release", str(made.release), "--site", str(site), "--accept-unsigned",
        "--cc", str(made.films / "leftCC.dcm"), "--box-cc", boxes["CC"],
        "--mlo", str(made.films / "leftMLO.dcm"), "--box-mlo", boxes["MLO"],
        "--columns", "abnormality_type=mass",
    ]  # fmt: skip


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_both_commands_write_the_same(room, command, tmp_path, capsys):
    made, site = room
    out = tmp_path / "result.json"
    assert main([*command, "--out", str(out), "--sr", "--fhir"]) == 0
    assert str(tmp_path / "result" / "report.dcm") in capsys.readouterr().out
    films = [word for name in ("leftCC", "leftMLO") for word in ("--film", str(made.films / f"{name}.dcm"))]
    again = ["site", "pacs", "results", str(out), *films, "--out", str(tmp_path / "again"), "--site", str(site)]
    assert main(again) == 0
    found = contents(tmp_path / "result")
    assert found == contents(tmp_path / "again")
    assert set(found) == {
        "report.dcm", "state-cc.dcm", "state-mlo.dcm", "picture-cc.dcm", "picture-mlo.dcm", "fhir-r4b.json",
        "fhir-r5.json",
    }  # fmt: skip
    assert all(view.map is not None for view in read_result(out).views), "the picture has a map"


@pytest.mark.parametrize("said_by", ["option", "site"])
def test_a_cad_report_stands_in_place_of_the_other(room, command, tmp_path, said_by):
    made, site = room
    out, words = tmp_path / "result.json", ["--report", "cad"]
    if said_by == "site":
        values = yaml.safe_load(site.read_text())
        own = site.with_name("own.yaml")
        own.write_text(yaml.safe_dump(values | {"pacs": {"report": "cad"}}))
        command[command.index("--site") + 1], site, words = str(own), own, []
    assert main([*command, "--out", str(out), "--sr", *words]) == 0
    found = contents(tmp_path / "result")
    assert set(found) == {"cad-report.dcm", "state-cc.dcm", "state-mlo.dcm", "picture-cc.dcm", "picture-mlo.dcm"}
    films = [word for name in ("leftCC", "leftMLO") for word in ("--film", str(made.films / f"{name}.dcm"))]
    again = ["site", "pacs", "results", str(out), *films, "--out", str(tmp_path / "again"), "--site", str(site)]
    assert main([*again, *words]) == 0
    assert contents(tmp_path / "again").items() >= found.items()
    assert main([*command, "--out", str(out), "--sr", "--report", "comprehensive"]) == 0
    assert "cad-report.dcm" not in contents(tmp_path / "result"), "of the older reading"


def test_only_what_was_asked_for_and_nothing_of_an_older_reading(command, tmp_path):
    out = tmp_path / "result.json"
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "state-mlo.dcm").write_text("of another lesion")
    (tmp_path / "result" / "notes.txt").write_text("mine")
    assert main([*command, "--out", str(out), "--fhir"]) == 0
    assert set(contents(tmp_path / "result")) == {"fhir-r4b.json", "fhir-r5.json", "notes.txt"}


def test_a_refused_reading_keeps_its_status(command, tmp_path, capsys):
    out = tmp_path / "result.json"
    place = command.index("--columns") + 1
    command[place] = "abnormality_type=mass,breast_density=9"
    assert main([*command, "--out", str(out), "--sr"]) == 3
    assert read_result(out).outcome is Outcome.REFUSED
    assert "Nothing for PACS or FHIR: Expected a reading of films that could be opened" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["picture-cc.dcm", "film.dcm"])
def test_no_result_goes_into_the_folder_of_the_films(room, command, tmp_path, capsys, name):
    made, _ = room
    film = tmp_path / "result" / name
    film.parent.mkdir()
    film.write_bytes((made.films / "leftCC.dcm").read_bytes())
    command[command.index("--cc") + 1] = str(film)
    assert main([*command, "--out", str(tmp_path / "result.json"), "--sr"]) != 0
    assert list(tmp_path.rglob("*")) == [film.parent, film]
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_results_of_a_file_do_not_go_into_the_folder_of_the_films_either(room, command, tmp_path, capsys):
    made, site = room
    films = tmp_path / "films"
    films.mkdir()
    for name, view in (("leftCC", "--cc"), ("leftMLO", "--mlo")):
        copy = films / f"{name}.dcm"
        copy.write_bytes((made.films / copy.name).read_bytes())
        command[command.index(view) + 1] = str(copy)
    out, before = tmp_path / "result.json", sorted(films.iterdir())
    assert main([*command, "--out", str(out)]) == 0
    given = [word for path in before for word in ("--film", str(path))]
    assert main(["site", "pacs", "results", str(out), *given, "--out", str(films), "--site", str(site)]) == 1
    assert "Expected films elsewhere than in" in capsys.readouterr().err
    assert sorted(films.iterdir()) == before


@pytest.mark.parametrize("option", ["--out", "--picture"])
@pytest.mark.parametrize("name", ["columns.csv", "site.yaml", "release/release.json", "release/more.json"])
def test_nothing_that_is_read_is_taken_away(room, command, tmp_path, capsys, option, name):
    made, site = room
    (tmp_path / "site.yaml").write_bytes(site.read_bytes())
    (tmp_path / "columns.csv").write_text("abnormality_type\nmass\n")
    shutil.copytree(made.release, tmp_path / "release")
    for word, value in (("--columns", "columns.csv"), ("--site", "site.yaml"), ("--release", "release")):
        command[command.index(word) + 1] = str(tmp_path / value)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([*command, option, str(tmp_path / name)]) == 2
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "expected --out and --picture to name files" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["result", "result/report.dcm"])
def test_the_picture_and_the_results_are_apart(command, tmp_path, capsys, name):
    out, picture = tmp_path / "result.json", tmp_path / name
    assert main([*command, "--out", str(out), "--sr", "--picture", str(picture)]) == 2
    assert "expected --out and --picture to name files" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changed", [{"box": [1, 2]}, {"box": [1, 2, 0, 4]}, {"box": [-1, 2, 3, 4]}, {"view": "MLO"}], ids=str
)
def test_a_damaged_result_is_told_in_one_line(room, command, tmp_path, capsys, changed):
    made, site = room
    out = tmp_path / "result.json"
    assert main([*command, "--out", str(out)]) == 0
    values = json.loads(out.read_text())
    out.write_text(json.dumps(values | {"views": [values["views"][0] | changed, values["views"][1]]}))
    films = [word for name in ("leftCC", "leftMLO") for word in ("--film", str(made.films / f"{name}.dcm"))]
    capsys.readouterr()
    assert main(["site", "pacs", "results", str(out), *films, "--out", str(tmp_path / "x"), "--site", str(site)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--sr"],
        ["--sr", "--out", "result"],
        ["--report", "cad", "--out", "result.json"],
        ["--fhir", "--out", "result.json"],
    ],
)
def test_wrong_usage_reads_nothing(command, tmp_path, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    place = command.index("--site")
    assert main([*command[:place], *command[place + 2 :], *words]) == 2
    assert "expected --" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_one_line_says_how_to_get_them(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        extra, "find_spec", lambda name: None if name == "highdicom" else importlib.util.find_spec(name)
    )
    assert main([*command, "--out", str(tmp_path / "result.json"), "--sr"]) == 1
    said = capsys.readouterr().err.strip()
    assert "pip install 'federated-mammography[pacs]'" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
