"""A real PACS for rehearsals and tests: Debian's Orthanc, in a network with loopback alone."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from shared_model.errors import ConfigError, PacsError
from shared_model.system.processes import start_process, stop_process
from simulations.day.loopback import is_alone

PROGRAM = Path("/usr/sbin/Orthanc")
_PLUGINS = Path("/usr/share/orthanc/plugins")
_WEB, _WORKLISTS = "libOrthancDicomWeb.so", "libModalityWorklists.so"
TITLE, SITE = "LAB", "FEDMAMMO"
"""AE titles of the PACS, and of the site as it knows it."""
_HTTP, _DICOM, LISTENS = 18142, 14242, 11112
"""Its ports of HTTP and DICOM, and the site's."""
ROOT = f"http://127.0.0.1:{_HTTP}"
"""Of its REST interface; DICOMweb is below it."""
USER, PASSWORD = "reader", "local-only"
_SECONDS = 60.0
_POLL_SECONDS = 0.2


def missing() -> str:
    """Return what this machine lacks, in one line; empty if nothing."""
    is_there = PROGRAM.exists() and (_PLUGINS / _WEB).exists()
    return (
        ""
        if is_there
        else "Orthanc with its DICOMweb plugin is not installed: apt-get install orthanc orthanc-dicomweb"
    )


def section(folder: Path, *, calling: tuple[str, ...] = (TITLE,)) -> dict[str, object]:
    """Return the section ``pacs`` of a ``site.yaml`` in ``folder``, and write the password's file there."""
    password = folder / "orthanc.password"
    password.write_text(PASSWORD, encoding="utf-8")
    password.chmod(0o600)
    return {
        "called": TITLE,
        "host": "127.0.0.1",
        "port": _DICOM,
        "calling": list(calling),
        "listen_port": LISTENS,
        "web_url": f"{ROOT}/dicom-web",
        "web_user": USER,
        "web_password_file": password.name,
    }


def forward(study: str) -> tuple[int, int]:
    """Let the PACS send the mammograms of a study to the site (C-STORE); return how many arrived and how many failed.

    Raises:
        PacsError: it does not answer.
    """
    query = {"StudyInstanceUID": study, "Modality": "MG"}
    films = _ask("POST", "/tools/find", {"Level": "Instance", "Query": query})
    answer = _ask("POST", f"/modalities/{SITE}/store", {"Resources": films, "Permissive": True})
    if not isinstance(answer, dict):
        raise PacsError("Expected Orthanc to say how many films it sent.")
    num_failed = int(answer["FailedInstancesCount"])
    return int(answer["InstancesCount"]) - num_failed, num_failed


def instances(study: str) -> frozenset[str]:
    """Return the SOP Instance UIDs of a study, asked by QIDO-RS.

    Raises:
        PacsError: the PACS does not answer.
    """
    found = _ask("GET", f"/dicom-web/studies/{study}/instances", None)
    return frozenset(str(item["00080018"]["Value"][0]) for item in found) if isinstance(found, list) else frozenset()


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Run Orthanc with all it keeps in ``folder``; what an earlier one kept there is there again.

    Raises:
        ConfigError: others than this machine would reach it, or it does not start.
    """
    if not is_alone():
        raise ConfigError(
            "Expected loopback to be the only interface: Orthanc listens on all; run it in unshare --net."
        )
    for name in ("db", "worklists"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "worklists" / "lockfile").touch()
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(_configuration(folder)), encoding="utf-8")
    log = folder / "orthanc.log"
    process = start_process((str(PROGRAM), str(configuration)), environment={}, folder=folder, log=log)
    try:
        while process.poll() is None:
            try:
                httpx.get(f"{ROOT}/system", auth=(USER, PASSWORD), trust_env=False)
            except httpx.TransportError:
                time.sleep(_POLL_SECONDS)
            else:
                break
        else:
            raise ConfigError(f"Expected Orthanc to start; see {log}.")
        yield
    finally:
        stop_process(process)


def _configuration(folder: Path) -> dict[str, object]:
    return {
        "Name": TITLE,
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "HttpPort": _HTTP,
        "DicomPort": _DICOM,
        "DicomAet": TITLE,
        "DicomCheckCalledAet": True,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(_PLUGINS / name) for name in (_WEB, _WORKLISTS) if (_PLUGINS / name).exists()],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        "DicomModalities": {name: [name, "127.0.0.1", LISTENS] for name in (SITE, "OTHER")},
        "DicomAlwaysAllowFindWorklist": True,
        "Worklists": {"Enable": True, "Database": str(folder / "worklists")},
    }


def _ask(method: str, path: str, body: object) -> Any:  # noqa: ANN401, whatever JSON it is
    try:
        answer = httpx.request(method, ROOT + path, json=body, auth=(USER, PASSWORD), trust_env=False, timeout=_SECONDS)
        answer.raise_for_status()
        return answer.json() if answer.content else []
    except (httpx.HTTPError, ValueError) as error:
        raise PacsError(f"Expected Orthanc to answer {path}: {type(error).__name__}.") from error
