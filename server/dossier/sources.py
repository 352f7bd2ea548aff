"""What a dossier is made from: a release, the run that it came from, and the run's report, all of one piece."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from server.report.decisions import DECISIONS_FILE, to_decisions_json
from server.report.html_report import REPORT_FILE, to_html
from server.report.stored_run import StoredRun
from server.results.document import RESULTS_FILE, Results
from shared_model.errors import ConfigError, ReleaseError
from shared_model.release.document import (
    CERTIFICATE_FILE,
    DOCUMENT_FILE,
    FORMAT_VERSION,
    MODEL_CARD_FILE,
    SIGNATURE_FILE,
    Release,
)
from shared_model.release.signature import digest_of, verify
from shared_model.system.checked import build
from shared_model.system.documents import from_json

_ANCHOR = re.compile(r'\bid="([\w-]+)"')


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A release and its run."""

    release: Release
    digest: str
    """Of the release."""
    run: StoredRun
    files: Mapping[str, bytes]
    """What a claim may cite, by name: the release's document and card, results, decisions and report of the run."""

    @property
    def documents(self) -> Mapping[str, tuple[str, object]]:
        """The files that hold figures: alias to name and plain values."""
        names = {"results": RESULTS_FILE, "decisions": DECISIONS_FILE, "release": DOCUMENT_FILE}
        return {alias: (name, from_json(self.files[name])) for alias, name in names.items()}

    @property
    def anchors(self) -> frozenset[str]:
        """The sections of the report."""
        return frozenset(_ANCHOR.findall(self.files[REPORT_FILE].decode()))


def read_sources(release_folder: Path, run_folder: Path) -> Sources:
    """Read both folders; the report is made anew, so that it is of these results.

    Raises:
        ReleaseError: the release is damaged, or was changed after it was signed.
        ConfigError: the run is not finished, the release is of another run, or the results were changed since.
    """
    release, files = _read_release(release_folder)
    run = StoredRun.load(run_folder)
    made, of_release = run.results.provenance, release.provenance
    ours = (made.source_fingerprint, made.config_fingerprint, made.finished)
    if ours != (of_release.source_fingerprint, of_release.config_fingerprint, of_release.run_finished):
        raise ConfigError(f"Expected {run_folder} to be the run that {release_folder} was made from; it is another.")
    _require_unchanged(release, run.results, run_folder)
    return Sources(
        release=release,
        digest=digest_of(files[DOCUMENT_FILE]),
        run=run,
        files={
            **files,
            RESULTS_FILE: _read(run_folder, RESULTS_FILE),
            DECISIONS_FILE: to_decisions_json(run.decisions).encode(),
            REPORT_FILE: to_html(run).encode(),
        },
    )


def _require_unchanged(release: Release, results: Results, run_folder: Path) -> None:
    """Check that the results still say what the release took from them: nothing else ties them to it."""
    final = results.final
    pairs: dict[str, tuple[object, object]] = {
        "threshold": (final.threshold, release.threshold.value),
        "privacy statement": (results.privacy.statement, release.privacy_statement),
        "privacy of the sites": (
            [(site.site, site.epsilon, site.delta) for site in results.sites],
            [(site.site, site.epsilon, site.delta) for site in release.sites],
        ),
    }
    if release.figures is not None:
        pairs |= {
            each.name: (getattr(final, each.name), getattr(release.figures, each.name))
            for each in fields(release.figures)
        }
    if changed := [name for name, (found, wanted) in pairs.items() if found != wanted]:
        raise ConfigError(
            f"Expected {RESULTS_FILE} in {run_folder} to say what the release says; another: {', '.join(changed)}."
        )


def _read_release(folder: Path) -> tuple[Release, dict[str, bytes]]:
    content = _read(folder, DOCUMENT_FILE)
    try:
        values = from_json(content)
    except ValueError as error:
        raise ReleaseError(f"Expected {DOCUMENT_FILE} in {folder} to be JSON: {error}") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise ReleaseError(
            f"Expected format_version={str(version)[:20]} = {FORMAT_VERSION} in {folder}; release the run again."
        )
    release = build(Release, values, path="release")
    for name, digest in release.files.items():
        if digest_of(_read(folder, name)) != digest:
            raise ReleaseError(
                f"Expected {name} in {folder} to be the file that {DOCUMENT_FILE} names; it was changed."
            )
    if release.is_signed:
        signature, certificate = _read(folder, SIGNATURE_FILE), _read(folder, CERTIFICATE_FILE)
        verify(content, signature, certificate=certificate, authority=None)
    return release, {DOCUMENT_FILE: content, MODEL_CARD_FILE: _read(folder, MODEL_CARD_FILE)}


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise ConfigError(f"Expected {name} in {folder}: {error.strerror}.") from error
