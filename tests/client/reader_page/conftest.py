"""A hospital's page as its application, and one that knows who asks."""

import dataclasses

import pytest

from client.reader_page.application import reader_page
from client.reader_page.desk import Desk
from client.reader_page.gate import Access
from tests.asgi_client import AsgiClient
from tests.reader_room import room_in

HOST = "127.0.0.1:8800"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Page:
    room: object
    desk: Desk
    access: Access
    client: AsgiClient

    def post(self, path, body, **headers):
        return self.client.post(path, json=body, headers={"Sec-Fetch-Site": "same-origin"} | headers)

    def study(self, patient="PH-0001"):
        self.desk.work_list.look()
        return next(study for study in self.desk.work_list.look().studies if study.patient_id == patient)

    def lesion(self, patient="PH-0001", **columns):
        """The body that asks for the lesion of the left breast."""
        study = self.study(patient)
        films = [
            {"film": film.film_id, "view": str(film.header.view), "box": list(self.room.boxes[film.header.view])}
            for film in study.films
            if film.header.laterality == "LEFT"
        ]
        return {"study": study.study_id, "films": films, "columns": columns}


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    return room_in(tmp_path_factory.mktemp("room"))


@pytest.fixture(scope="module")
def page(room):
    access = Access(hosts=frozenset({HOST}), user="ada", token="t" * 32, proxy=None)
    desk = Desk(room.site, room.reader)
    client = AsgiClient(app=reader_page(desk, access), base_url=f"http://{HOST}{access.prefix}")
    return Page(room=room, desk=desk, access=access, client=client)
