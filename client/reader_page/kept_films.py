"""A reading that the page has kept, with the very films that were read: what results for the PACS are made of."""

from pathlib import Path

from client.deployment.site_file import SiteFile
from client.pacs.results.of_reading import film_digest
from client.reader_page.kept import KeptReadings
from client.reader_page.work_list import MAX_FILES, WorkList
from client.reading.result import Reading
from shared_model.errors import ConfigError, DicomError


def kept_with_films(site: SiteFile, reading_id: str) -> tuple[Reading, tuple[Path, ...]]:
    """Return a kept reading and the files of the site's folder that it read, found by what they hold.

    Raises:
        ConfigError: the page has kept no such reading, or its files cannot be used.
        DicomError: a film that was read is not in the folder any more, or has changed.
    """
    missing = ConfigError(f"Expected a reading that the page has kept in {site.opinions}, got none of {reading_id}.")
    if not site.opinions.exists():
        raise missing
    readings = KeptReadings(site.opinions)
    kept = readings.get(reading_id)
    if kept is None:
        raise missing
    work_list = WorkList(Path(site.require_reader().studies), readings.key)
    work_list.look(MAX_FILES)
    study = work_list.study(kept.study)
    by_digest = {film_digest(film.path): film.path for film in ([] if study is None else study.films)}
    wanted = [view.sha256 for view in kept.reading.views]
    if not set(wanted) <= set(by_digest):
        raise DicomError(
            f"Expected the {len(wanted)} films of the reading in {site.require_reader().studies}, unchanged; fetch the "
            "study again, or read the lesion again."
        )
    return kept.reading, tuple(by_digest[digest] for digest in wanted)
