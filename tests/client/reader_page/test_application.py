"""Every address of the page, what it refuses, and what it leaves in log and file."""

import re
import stat

import numpy as np
import pytest

from client.reader_page.asked import MAX_WHY
from shared_model.system.audit_log import read
from shared_model.vocabulary import View
from tests.reader_room import LIMIT

NOBODY = "0" * 32


def test_the_work_list_shows_studies_and_goes_on_past_a_broken_film(page):
    (page.room.films / "broken.dcm").write_bytes(b"no film")
    (page.room.films / "empty.dcm").write_bytes(b"")
    answer = page.client.get("/")
    assert answer.status_code == 200
    for words in ("PH-0001", "PH-0002", "broken.dcm", "2 files could not be read", "not for decisions about patients"):
        assert words in answer.text
    assert str(page.room.films) not in answer.text


def test_a_study_shows_one_breast_and_links_the_other(page):
    study = page.study()
    text = page.client.get(f"/studies/{study.study_id}?side=RIGHT").text
    right = {film.film_id for film in study.films if film.header.laterality == "RIGHT"}
    assert set(re.findall(r'value="([0-9a-f]{32})"', text)) == right
    assert 'href="?side=LEFT"' in text
    assert "not for decisions about patients" in text


def test_the_form_offers_the_contracts_columns_but_what_the_films_say(page):
    text = page.client.get(f"/studies/{page.study().study_id}").text
    offered = set(re.findall(r'data-column="(\w+)"', text))
    assert offered == {column.name for column in page.desk.contract.columns} - {"view", "laterality"}


def test_a_part_of_a_film_is_what_its_file_holds(page):
    film = page.study("PH-0002").films[0]
    answer = page.client.get(f"/films/{film.film_id}?x=200&y=300&width=64&height=32")
    assert answer.headers["x-part"] == "64,32"
    sent = np.frombuffer(answer.content, dtype="<u2").reshape(32, 64)
    whole = page.desk.film(film.film_id).pixels
    np.testing.assert_array_equal(sent, whole[300:332, 200:264])
    coarse = page.client.get(f"/films/{film.film_id}?step=4")
    rows, columns = whole.shape
    assert coarse.headers["x-part"] == f"{-(-columns // 4)},{-(-rows // 4)}"


@pytest.mark.parametrize(
    "query", ["x=-1", "x=1e3", "x=²", "width=9999999", "width=20000", "step=65", "x=1152", "height=99999"]
)
def test_a_part_beyond_the_film_is_refused(page, query):
    film = page.study("PH-0002").films[0]
    answer = page.client.get(f"/films/{film.film_id}?{query}")
    assert answer.status_code == 422
    assert "Expected" in answer.text


def test_a_reading_is_shown_kept_and_logged_without_the_patient(page):
    before = len(read(page.room.site.audit_log))
    answer = page.post("/readings", page.lesion(mass_shape="OVAL-IRREGULAR", breast_density="3"))
    assert answer.status_code == 200
    for words in ("probability of malignancy", "threshold is 35.0 %", "mass shape: oval-irregular", LIMIT, "a hint"):
        assert words in answer.text
    reading_id = re.search(r'data-reading="([0-9a-f]{32})"', answer.text)[1]
    for layer in ("picture", "heat"):
        shown = page.client.get(f"/readings/{reading_id}/maps/0/{layer}")
        assert shown.content.startswith(b"\x89PNG")
    lines = read(page.room.site.audit_log)[before:]
    assert [line.event for line in lines] == ["reading", "reading_shown"]
    assert lines[1].facts == {"reading": reading_id, "user": "ada"}
    logged = page.room.site.audit_log.read_text()
    study = page.study()
    for secret in ("PH-0001", study.study_id, study.patient_key, "2.25.1", str(page.room.films)):
        assert secret not in logged
    earlier = page.client.get(f"/studies/{study.study_id}/readings").text
    assert reading_id in earlier
    assert "1 time" in page.client.get("/").text


def test_a_lesion_that_does_not_fit_is_refused_with_the_reason(page):
    body = page.lesion()
    body["films"][0]["box"] = [1100, 10, 40, 40]
    text = page.post("/readings", body).text
    assert "Refused" in text
    assert "on the breast" in text
    assert "There is no probability" in text
    text = page.post("/readings", page.lesion(mass_shape="<script>")).text
    assert "<script>" not in text
    assert "Refused" in text


def test_what_a_film_says_becomes_no_markup(page):
    from tests.reader_room import write_film  # noqa: PLC0415, only here

    path = page.room.films / "markup.dcm"
    write_film(path, patient="<b onload=x>", study="2.25.9", seed=9)
    try:
        text = page.client.get("/").text
    finally:
        path.unlink()
    assert "<b onload" not in text
    assert "&lt;b onload=x&gt;" in text


@pytest.mark.parametrize(
    "changed",
    [
        {"study": "short"},
        {"films": []},
        {"columns": {"breast_density": 3}},
        {"columns": None},
        {"extra": 1},
        {"films": [{"film": NOBODY, "view": "CC", "box": [1, 2, 3]}]},
        {"films": [{"film": NOBODY, "view": "CC", "box": [1, 2, 3, 1.5]}]},
        {"films": [{"film": NOBODY, "view": "CC", "box": [-1, 2, 3, 4]}]},
        {"films": [{"film": NOBODY, "view": "CC", "box": [1, 2, 30000, 4]}]},
        {"films": [{"film": NOBODY, "view": "XX", "box": [1, 2, 3, 4]}]},
        {"films": [{"film": "../../etc/passwd".ljust(33, "x"), "view": "CC", "box": None}]},
    ],
)
def test_a_body_that_is_wrong_is_one_line(page, changed):
    answer = page.post("/readings", page.lesion() | changed)
    assert answer.status_code == 422
    assert answer.text
    assert "\n" not in answer.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"study": 1, "study": 2}', "[" * 9000])
def test_a_body_that_is_no_question(page, content):
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    assert page.client.post("/readings", content=content, headers=headers).status_code == 422


def test_a_box_without_area_is_one_line(page):
    body = page.lesion()
    body["films"][0]["box"] = [10, 10, 0, 5]
    answer = page.post("/readings", body)
    assert (answer.status_code, "\n" in answer.text) == (422, False)


def test_no_film_of_another_study_is_read(page):
    body = page.lesion()
    body["films"][0]["film"] = page.study("PH-0002").films[0].film_id
    answer = page.post("/readings", body)
    assert (answer.status_code, answer.text.split(",")[0]) == (404, "Expected films of this study")


@pytest.mark.parametrize(
    "path",
    [
        "/films/" + NOBODY, "/studies/" + NOBODY, "/studies/" + NOBODY + "/readings", "/films/..%2f..%2fetc%2fpasswd",
        "/assets/..%2fpages.py", "/assets/pages.py", "/assets/%2e%2e/pages.py", f"/readings/{NOBODY}/maps/0/heat",
        "/films/left.dcm", "/nothing",
    ],
)  # fmt: skip
def test_what_is_not_there_and_what_is_no_page(page, path):
    answer = page.client.get(path)
    assert answer.status_code == 404
    assert "\n" not in answer.text
    assert "root:" not in answer.text


def test_one_lesion_at_a_time(page):
    assert page.desk._reading.acquire(blocking=False)
    try:
        answer = page.post("/readings", page.lesion())
    finally:
        page.desk._reading.release()
    assert (answer.status_code, answer.text) == (409, "Another lesion is being read; try again in a moment.")


def test_opinion_and_outcome_are_kept_at_the_site_for_its_owner(page):
    answer = page.post("/readings", page.lesion())
    reading_id = re.search(r'data-reading="([0-9a-f]{32})"', answer.text)[1]
    why = '=HYPERLINK("http://x") seen "before"\nin May'
    given = page.post("/opinions", {"reading": reading_id, "verdict": "disagree", "why": why})
    assert given.status_code == 200
    assert page.post("/pathologies", {"reading": reading_id, "pathology": "benign"}).status_code == 200
    kept = page.desk.kept.get(reading_id)
    assert (kept.opinions[0].why, kept.opinions[0].user, kept.pathology) == (why, "ada", "benign")
    assert stat.S_IMODE(page.room.site.opinions.stat().st_mode) == 0o600
    assert page.room.site.opinions.parent == page.room.site.ledger.parent
    lines = [line for line in read(page.room.site.audit_log) if line.event in {"opinion", "pathology"}]
    assert lines[-2].facts == {"reading": reading_id, "user": "ada", "verdict": "disagree"}
    assert lines[-1].facts == {"reading": reading_id, "user": "ada"}
    table = page.client.get("/readings.csv")
    assert table.headers["content-disposition"].startswith("attachment")
    assert "'=HYPERLINK" in table.text
    assert "PH-0001" not in table.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/opinions", {"reading": NOBODY, "verdict": "agree", "why": ""}, 404),
        ("/pathologies", {"reading": NOBODY, "pathology": "benign"}, 404),
        ("/opinions", {"reading": NOBODY, "verdict": "perhaps", "why": ""}, 422),
        ("/opinions", {"reading": NOBODY, "verdict": None, "why": ""}, 422),
        ("/opinions", {"reading": NOBODY, "verdict": "agree", "why": "x" * (MAX_WHY + 1)}, 422),
        ("/pathologies", {"reading": NOBODY, "pathology": "malign"}, 422),
    ],
)
def test_opinions_that_are_none(page, path, body, status):
    answer = page.post(path, body)
    assert (answer.status_code, "\n" in answer.text) == (status, False)


def test_a_film_that_cannot_be_decoded_is_one_line_without_its_path(page):
    path = page.room.films / "cut.dcm"
    path.write_bytes((page.room.films / "alone.dcm").read_bytes()[:60_000])
    try:
        films = [film for study in page.desk.work_list.look().studies for film in study.films if film.path == path]
        answer = page.client.get(f"/films/{films[0].film_id}")
    finally:
        path.unlink()
    assert answer.status_code == 422
    assert str(page.room.films) not in answer.text


def test_a_log_that_cannot_be_written_gives_no_reading(page, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/somewhere/of/PH-0001")

    monkeypatch.setattr(page.desk._audit, "record", refuse)
    before = page.desk.kept.counts()
    answer = page.post("/readings", page.lesion())
    assert (answer.status_code, answer.text) == (500, "It failed; the log of this process says why.")
    assert page.desk.kept.counts() == before


def test_both_views_are_asked_for_under_their_own_names(page):
    text = page.client.get(f"/studies/{page.study().study_id}").text
    for view in View:
        assert f'aria-label="{view} film: drag to mark the lesion"' in text
