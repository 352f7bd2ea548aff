"""A dossier written as a folder: the page, the document, and copies of the files that they cite."""

from pathlib import Path

from server.dossier.assembly import assemble_dossier
from server.dossier.catalogue import load_catalogue
from server.dossier.document import FILES_FOLDER, to_dossier_html, to_dossier_json
from server.dossier.sources import read_sources
from server.release.folder import require_new, write_folder

PAGE_FILE, DOCUMENT_FILE = "dossier.html", "dossier.json"


def write_dossier(release: Path, run: Path, out: Path) -> None:
    """Write the dossier of ``release``, made from ``run``, into ``out``, whole or not at all.

    Args:
        release: folder of a release.
        run: folder of the finished run that it was made from.
        out: new, or an empty folder.

    Raises:
        ReleaseError: the release is damaged or changed.
        ConfigError: the folders do not belong together, a claim has no figure, or ``out`` cannot be written.
    """
    require_new(out)
    sources = read_sources(release, run)
    dossier = assemble_dossier(sources, load_catalogue())
    contents = {
        PAGE_FILE: to_dossier_html(dossier).encode(),
        DOCUMENT_FILE: to_dossier_json(dossier).encode(),
        **{f"{FILES_FOLDER}/{name}": content for name, content in sources.files.items()},
    }
    write_folder(out, contents)
