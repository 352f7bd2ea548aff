"""DICOMweb against a PACS that a test makes answer what it likes."""

import json

import httpx
import pytest

from client.pacs.queries import StudyQuery
from client.pacs.web import dicom_web
from client.pacs.web.multipart import unwrapped, wrapped
from client.pacs.web.service import Service, web_service
from shared_model.errors import ConfigError, DicomError, PacsError
from shared_model.vocabulary import View
from tests.pacs_films import PATIENT, STUDY, header_of, write_films

SC = "1.2.840.10008.5.1.4.1.1.7"


def value(*values):
    return {"vr": "UI", "Value": list(values)}


class Pacs:
    """Answers from its attributes."""

    def __init__(self, films):
        self.studies = [{"0020000D": value(STUDY), "00100020": value(PATIENT)}]
        self.files = {str(header_of(path).SOPInstanceUID): path.read_bytes() for path in films.values()}
        self.instances = [
            {"00080016": value(SC), "0020000E": value("1.2.5"), "00080018": value(uid)} for uid in self.files
        ]

    def __call__(self, request):
        parts = request.url.path.strip("/").split("/")
        if parts == ["studies"]:
            return httpx.Response(200, json=self.studies)
        if parts[-1] == "instances":
            return httpx.Response(200, json=self.instances)
        media_type, body = wrapped(self.files[parts[-1]])
        return httpx.Response(200, content=body, headers={"content-type": media_type})


def service(answer):
    return Service(httpx.Client(transport=httpx.MockTransport(answer)), "https://pacs")


@pytest.fixture
def pacs(films):
    return Pacs(films)


def test_an_honest_pacs_gives_the_films(pacs):
    found = list(dicom_web.fetch_films(service(pacs), STUDY))
    assert [film.patient for film in found] == [PATIENT, PATIENT]


def test_another_patients_film_or_study_is_refused(pacs, phantom_films, tmp_path):
    others = write_films(phantom_films, tmp_path / "b", patient="SOMEBODY-ELSE")
    pacs.files = {uid: others[View.CC].read_bytes() for uid in pacs.files}
    with pytest.raises(PacsError, match="got another's; nothing of it is kept"):
        list(dicom_web.fetch_films(service(pacs), STUDY))
    others = write_films(phantom_films, tmp_path / "c", study="1.2.9")
    pacs.files = {uid: others[View.CC].read_bytes() for uid in pacs.files}
    with pytest.raises(PacsError, match="got another's"):
        list(dicom_web.fetch_films(service(pacs), STUDY))


def test_answers_that_do_not_fit_the_question_are_not_believed(pacs):
    pacs.studies.append({"0020000D": value("1.2.9"), "00100020": value("SOMEBODY-ELSE")})
    pacs.studies.append({"0020000D": value("../../x"), "00100020": value(PATIENT)})
    found = dicom_web.find_studies(service(pacs), StudyQuery(patient=PATIENT))
    assert [study.study for study in found.studies] == [STUDY]
    assert found.num_ignored == 2


def test_an_endless_answer_is_cut_off(monkeypatch, pacs):
    monkeypatch.setattr(dicom_web, "MAX_JSON_BYTES", 1000)
    pacs.studies *= 100
    with pytest.raises(PacsError, match="at most 1000 bytes"):
        dicom_web.find_studies(service(pacs), StudyQuery(patient=PATIENT))


def test_too_many_matches_and_films_are_refused(pacs):
    pacs.instances *= 40
    with pytest.raises(PacsError, match="1 to 64 films in the study, got 80"):
        list(dicom_web.fetch_films(service(pacs), STUDY))
    pacs.studies *= 1001
    with pytest.raises(PacsError, match="ask more narrowly"):
        dicom_web.find_studies(service(pacs), StudyQuery(patient=PATIENT))


def test_identifiers_of_the_pacs_are_no_paths(pacs):
    pacs.instances[0]["0020000E"] = value("../../../admin")
    with pytest.raises(DicomError, match="Expected identifiers"):
        list(dicom_web.fetch_films(service(pacs), STUDY))


@pytest.mark.parametrize("content", [b"", b"[", b"{}", b"[[[[", b"null", b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_an_answer_that_is_none(content):
    with pytest.raises(PacsError, match="Expected matches"):
        dicom_web.find_studies(service(lambda _: httpx.Response(200, content=content)), StudyQuery(patient=PATIENT))


def test_a_redirection_is_not_followed():
    asked = []

    def elsewhere(request):
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": "https://evil/studies"}, content=b"[]")

    with pytest.raises(PacsError, match="status 302"):
        dicom_web.find_studies(service(elsewhere), StudyQuery(patient=PATIENT))
    assert asked == ["pacs"]


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({"00081199": {"Value": [{"00081155": value("1.2.7")}]}}, None),
        ({"00081199": {"Value": [{"00081155": value("1.2.8")}]}}, "no word about the instance"),
        (
            {"00081198": {"Value": [{"00081155": value("1.2.7"), "00081197": {"Value": [272]}}]}},
            "failure reason 272",
        ),
        ([], "an answer that is no data set"),
    ],
)
def test_what_the_pacs_says_of_each_instance(answer, failure):
    asked = service(lambda _: httpx.Response(200, content=json.dumps(answer)))
    assert dicom_web.store(asked, study=STUDY, instance="1.2.7", content=b"x") == failure


@pytest.mark.parametrize("query", [{}, {"patient": "*"}, {"patient": "A\\B"}, {"accession": "?"}, {"study": "1.2/3"}])
def test_a_question_that_asks_for_everybody_is_none(query):
    with pytest.raises(ConfigError, match="Expected"):
        StudyQuery(**query)


def test_multipart_bodies_with_one_part():
    content = b"DICM\r\n\r\n--x\r\n\0"
    assert unwrapped(*wrapped(content)) == content
    media_type, body = wrapped(content)
    for broken in (body[:-20], body[:30], b"", body.replace(b"\r\n\r\n", b"")):
        with pytest.raises(PacsError, match="Expected a whole multipart"):
            unwrapped(media_type, broken)
    with pytest.raises(PacsError, match="got several"):
        unwrapped(media_type, body[:-2] + b"\r\n\r\n" + body)
    with pytest.raises(PacsError, match="Expected a multipart answer"):
        unwrapped("text/html", b"<html>")


def test_secrets_come_from_a_file_for_its_owner_alone(settings, tmp_path):
    token = tmp_path / "token"
    pacs = settings(web_url="https://pacs", web_token_file="token")  # noqa: S106, a path
    with pytest.raises(ConfigError, match="Expected a token or password"), web_service(pacs):
        pass
    token.write_text("a-bearer-of-trust")
    token.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600") as raised, web_service(pacs):
        pass
    assert "bearer" not in str(raised.value)
    token.chmod(0o600)
    with web_service(pacs):
        pass
