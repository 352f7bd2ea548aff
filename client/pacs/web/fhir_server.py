"""A transaction posted to the hospital's FHIR server, and its answer checked entry by entry."""

from client.deployment.pacs_section import PacsSettings
from client.pacs.web.service import Answer, fhir_service
from shared_model.errors import PacsError
from shared_model.system.audit_log import AuditLog
from shared_model.system.documents import from_json

MAX_ANSWER_BYTES = 1 << 22
_JSON = "application/fhir+json"


def post_transaction(settings: PacsSettings, audit: AuditLog, text: str) -> int:
    """Post a transaction; return how many of its resources are new.

    A line of the audit log says how it went.

    Raises:
        ConfigError: no server is set up.
        PacsError: nobody answers, or the server did not do all of it. It does all or nothing, so posting again is safe.
    """
    num_entries = len(_entries(text.encode()))
    try:
        with fhir_service(settings) as service:
            headers = {"Content-Type": _JSON, "Accept": _JSON}
            answer = service.ask("POST", "", max_bytes=MAX_ANSWER_BYTES, headers=headers, content=text.encode())
        num_new = _num_new(answer, num_entries)
    except PacsError:
        audit.record("fhir_posted", outcome="failed", num_resources=num_entries)
        raise
    audit.record("fhir_posted", outcome="ok", num_resources=num_entries, num_new=num_new)
    return num_new


def _num_new(answer: Answer, num_entries: int) -> int:
    if answer.status != 200:
        raise PacsError(f"Expected the FHIR server to do the transaction, got HTTP status {answer.status}.")
    statuses = [_status(entry) for entry in _entries(answer.body)]
    num_done = sum(status in ("200", "201") for status in statuses)
    if num_done != num_entries or len(statuses) != num_entries:
        raise PacsError(f"Expected all of {num_entries} resources to be stored, the server says so of {num_done}.")
    return statuses.count("201")


def _entries(body: bytes) -> list[object]:
    try:
        bundle = from_json(body)
    except ValueError:
        bundle = None
    entries = bundle.get("entry") if isinstance(bundle, dict) else None
    return entries if isinstance(entries, list) else []


def _status(entry: object) -> str:
    response = entry.get("response") if isinstance(entry, dict) else None
    status = response.get("status") if isinstance(response, dict) else None
    return status[:3] if isinstance(status, str) else ""
