import httpx
import pytest

from client.deployment.report_kind import ReportKind
from client.pacs import sending
from client.pacs.results.files import write_results
from client.pacs.sending import Way, read_results, send
from client.pacs.web.service import Service
from shared_model.errors import DicomError, PacsError
from shared_model.system.audit_log import AuditLog, read
from shared_model.vocabulary import View
from tests.pacs_films import STUDY, reading_of


@pytest.fixture
def results(films, tmp_path):
    written = write_results(reading_of({View.CC: films[View.CC]}), tmp_path / "out", ReportKind.COMPREHENSIVE)
    return read_results(written)


@pytest.fixture
def send_to(settings, tmp_path, monkeypatch, results):
    """Send the results to a PACS that answers as ``answer`` says, and return what became of each, and the audit log."""

    class Opened:
        def __init__(self, answer):
            self.service = Service(httpx.Client(transport=httpx.MockTransport(answer)), "https://pacs")

        def __enter__(self):
            return self.service

        def __exit__(self, *_):
            pass

    def make(answer):
        monkeypatch.setattr(sending, "web_service", lambda _: Opened(answer))
        return send(settings(), AuditLog(tmp_path / "audit.jsonl"), results, way=Way.STOW)

    return make


def stored(results, *instances):
    return {"00081199": {"Value": [{"00081155": {"Value": [results[number].instance]}} for number in instances]}}


def test_a_part_that_was_not_stored_is_named(send_to, results, tmp_path):
    answers = iter([stored(results, 0), stored(results, 0), {}])
    sent = send_to(lambda _: httpx.Response(200, json=next(answers)))
    assert [each.failure for each in sent] == [None, "no word about the instance", "no word about the instance"]
    assert read(tmp_path / "audit.jsonl")[-1].facts == {"way": "stow", "num_stored": 1, "num_failed": 2}


def test_a_connection_lost_between_two_files_fails_the_rest(send_to, results):
    answers = iter([httpx.Response(200, json=stored(results, 0))])

    def answer(_):
        found = next(answers, None)
        if found is None:
            raise httpx.ConnectError("gone")
        return found

    sent = send_to(answer)
    assert [each.failure is None for each in sent] == [True, False, False]
    assert all(str(each.failure).startswith("not sent: ") for each in sent[1:])


def test_nobody_there_is_an_error_and_a_line_of_the_log(send_to, tmp_path):
    def gone(_):
        raise httpx.ConnectError("nobody")

    with pytest.raises(PacsError, match="Expected an answer of https://pacs"):
        send_to(gone)
    assert read(tmp_path / "audit.jsonl")[-1].facts["num_failed"] == 3
    assert STUDY not in (tmp_path / "audit.jsonl").read_text()


def test_what_was_not_written_here_is_not_sent(films, tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM")
    ct = films[View.CC].read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.7\0", b"1.2.840.10008.5.1.4.1.1.2\0")
    (tmp_path / "ct.dcm").write_bytes(ct)
    for name in ("text.dcm", "ct.dcm", "missing.dcm"):
        with pytest.raises(DicomError, match=name):
            read_results([tmp_path / name])
