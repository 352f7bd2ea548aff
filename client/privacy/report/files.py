"""Privacy reports as files: a page to read, JSON and a table for other programs."""

from collections.abc import Callable, Mapping
from pathlib import Path

from client.privacy.report.contents import PrivacyReport
from client.privacy.report.formats import to_csv, to_json
from client.privacy.report.web_page import to_html
from shared_model.system.files import write_atomically

WRITERS: Mapping[str, Callable[[PrivacyReport], str]] = {".html": to_html, ".json": to_json, ".csv": to_csv}
"""By the ending of a file's name, in lower case."""


def write_report(report: PrivacyReport, path: Path) -> None:
    """Write the report in the format that the ending of ``path`` says.

    Raises:
        KeyError: the ending is none of ``WRITERS``.
        OSError: ``path`` cannot be written.
    """
    write_atomically(path, WRITERS[path.suffix.lower()](report).encode())
