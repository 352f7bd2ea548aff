"""Films that change or vanish while somebody looks: what is read is what was shown, or nothing is read."""

import os

import pytest

from client.reader_page.application import reader_page
from client.reader_page.desk import Desk
from client.reader_page.gate import Access
from client.reader_page.kept import Verdict
from client.reader_page.work_list import WorkList
from shared_model.vocabulary import View
from tests.asgi_client import AsgiClient
from tests.client.reader_page.conftest import HOST, Page
from tests.reader_room import room_in, write_film


@pytest.fixture
def page(tmp_path):
    room = room_in(tmp_path / "room")
    access, desk = Access(hosts=frozenset({HOST}), user="ada", token="t" * 32, proxy=None), Desk(room.site, room.reader)
    client = AsgiClient(app=reader_page(desk, access), base_url=f"http://{HOST}{access.prefix}")
    return Page(room=room, desk=desk, access=access, client=client)


def film_of(page, view):
    return next(film for film in page.study().films if film.header.view is view and film.header.laterality == "LEFT")


@pytest.mark.parametrize("is_listed_again", [False, True])
def test_another_film_under_a_name_is_not_read_for_the_one_that_was_shown(page, is_listed_again):
    asked, path = page.lesion(), film_of(page, View.CC).path
    assert page.client.get(f"/films/{asked['films'][0]['film']}").status_code == 200
    write_film(path, seed=99)
    if is_listed_again:
        page.desk.work_list.look()
    answer = page.post("/readings", asked)
    assert answer.status_code == 404
    assert "changed" in answer.text or "Expected films of this study" in answer.text
    assert page.desk.kept.newest(9).readings == ()


def test_a_film_that_was_changed_is_not_shown_under_its_old_name(page):
    film = film_of(page, View.CC)
    write_film(film.path, seed=99)
    assert page.client.get(f"/films/{film.film_id}").status_code == 404
    assert page.client.get(f"/films/{film_of(page, View.CC).film_id}").status_code == 200


def test_a_film_that_changes_during_its_reading_gives_none(page, monkeypatch):
    asked, path, read = page.lesion(), film_of(page, View.CC).path, page.desk._reader.read_with_maps

    def read_and_swap(request, **how):
        found = read(request, **how)
        write_film(path, seed=99)
        return found

    monkeypatch.setattr(page.desk._reader, "read_with_maps", read_and_swap)
    assert page.post("/readings", asked).status_code == 404
    assert page.desk.kept.newest(9).readings == ()


def test_a_name_that_is_no_unicode_stops_nothing(page):
    folder = os.fsencode(page.desk.work_list._folder)
    with open(folder + b"/M\xfcller.txt", "wb") as file:  # noqa: PTH123, a name that no Path can be typed of
        file.write(b"no film")
    write_film(page.desk.work_list._folder / os.fsdecode(b"Gr\xfcn.dcm"), patient="PH-0009", seed=9)
    page.desk.work_list.look()
    answer = page.client.get("/")
    assert answer.status_code == 200
    assert "PH-0009" in answer.text
    assert "M ller.txt" in answer.text
    assert page.client.get(f"/films/{page.study('PH-0009').films[0].film_id}").status_code == 200


def test_text_that_is_no_unicode_is_refused_before_it_is_logged(page):
    reading = page.post("/readings", page.lesion()).text.split('data-reading="')[1][:32]
    logged = page.room.site.audit_log.read_text()
    body = f'{{"reading": "{reading}", "verdict": "{Verdict.AGREE}", "why": "\\ud800"}}'
    headers = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    answer = page.client.post("/opinions", content=body.encode(), headers=headers)
    assert answer.status_code == 422
    assert page.room.site.audit_log.read_text() == logged


def test_films_of_one_study_are_told_apart_by_content_of_their_files(tmp_path):
    write_film(tmp_path / "film.dcm")
    listed = WorkList(tmp_path, b"k" * 32)
    before = listed.look().studies[0]
    write_film(tmp_path / "film.dcm", seed=1)
    after = listed.look().studies[0]
    assert before.study_id == after.study_id
    assert before.films[0].film_id != after.films[0].film_id
