import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from client.pacs.web.fhir_server import post_transaction
from shared_model.errors import PacsError
from shared_model.system.audit_log import AuditLog, read

TEXT = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [{}, {}]})


@pytest.fixture
def server():
    """A server on loopback that says of each resource what ``statuses`` has."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.server.got.append(
                (self.headers["Authorization"], self.rfile.read(int(self.headers["Content-Length"])))
            )
            entries = [{"response": {"status": status}} for status in self.server.statuses]
            body = json.dumps({"resourceType": "Bundle", "entry": entries}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        made.got, made.statuses = [], ["201 Created", "200 OK"]
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def post(server, settings, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "token").chmod(0o600)
    pacs = settings(fhir_url=f"http://127.0.0.1:{server.server_port}", fhir_token_file="token")  # noqa: S106, a path
    return lambda: post_transaction(pacs, AuditLog(tmp_path / "audit.jsonl"), TEXT)


def test_each_resource_is_answered_for(post, server, tmp_path):
    assert post() == 1
    assert server.got == [("Bearer secret", TEXT.encode())]
    (line,) = read(tmp_path / "audit.jsonl")
    assert (line.event, line.facts) == ("fhir_posted", {"outcome": "ok", "num_resources": 2, "num_new": 1})


@pytest.mark.parametrize("statuses", [[], ["201"], ["201", "422 Unprocessable"], ["200"] * 3])
def test_a_part_is_a_failure(post, server, statuses, tmp_path):
    server.statuses = statuses
    with pytest.raises(PacsError, match="Expected all of 2 resources"):
        post()
    assert read(tmp_path / "audit.jsonl")[-1].facts["outcome"] == "failed"


def test_nobody_there_is_one_line(settings, tmp_path):
    # A port of loopback on which nobody listens: one that only privileged programs may take.
    pacs = settings(fhir_url="http://127.0.0.1:1")
    with pytest.raises(PacsError, match=r"Expected an answer of http://127\.0\.0\.1") as raised:
        post_transaction(pacs, AuditLog(tmp_path / "audit.jsonl"), TEXT)
    assert "\n" not in str(raised.value)
