"""What the page does for a browser: list studies, show films, read a lesion, keep what is thought of it."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from client.deployment.site_file import SiteFile
from client.reader_page.asked import AskedReading, GivenOpinion, GivenPathology
from client.reader_page.kept import KeptReading, KeptReadings
from client.reader_page.shown_films import ShownFilm, ShownFilms
from client.reader_page.since_release import SinceRelease, local_recalibration, since_release
from client.reader_page.work_list import Film, Study, WorkList
from client.reading.answering import LesionMap
from client.reading.reader import Reader
from client.reading.request import LesionRequest, Picture
from shared_model.errors import FederatedMammographyError
from shared_model.metrics.recalibration import Recalibration
from shared_model.release.document import InputContract
from shared_model.system.audit_log import AuditLog

_NUM_MAPS = 16
"""Readings whose maps stay; they are in no file."""
_NUM_COUNTED = 10_000
"""Readings that are added up; some seconds."""
_HEAT = 190
"""Opacity of a map where it is strongest, of 255."""


class UnknownError(FederatedMammographyError):
    """Somebody asked for what is not there, or not any more."""


class BusyError(FederatedMammographyError):
    """Another lesion is being read."""


@dataclass(frozen=True, kw_only=True)
class ShownMap:
    """PNG files of one picture and of where the network looked on it."""

    view: str
    picture: bytes
    heat: bytes
    """With its opacity: to be laid over the picture."""


class Desk:
    """Everything behind the page; threads may share it."""

    def __init__(self, site: SiteFile, reader: Reader) -> None:
        """Begin with a reader that is warm.

        Raises:
            ConfigError: the site file has no section for the page, or what the page keeps cannot be used.
        """
        self.site, self._reader = site.site, reader
        self.recalibration = site.require_reader().recalibration
        self.kept = KeptReadings(site.opinions)
        self.work_list = WorkList(Path(site.require_reader().studies), self.kept.key)
        self._films, self._audit = ShownFilms(), AuditLog(site.audit_log)
        self._reading = threading.Lock()
        self._maps: OrderedDict[str, tuple[ShownMap, ...]] = OrderedDict()

    @property
    def contract(self) -> InputContract:
        """What the release reads."""
        return self._reader.release.document.contract

    @property
    def release_name(self) -> str:
        """Name and first digits of the digest."""
        facts = self._reader.release.facts
        return f"{facts.name} {facts.digest[:12]}"

    def study(self, study_id: str) -> Study:
        """Return a study of the work list.

        Raises:
            UnknownError: there is none, or not any more.
        """
        study = self.work_list.study(study_id)
        if study is None:
            # After a start the list is empty until somebody has looked.
            self.work_list.look()
            study = self.work_list.study(study_id)
        if study is None:
            raise UnknownError("Expected a study of the work list; it may have gone. Open the work list again.")
        return study

    def film(self, film_id: str) -> ShownFilm:
        """Return a film for the screen.

        Raises:
            UnknownError: there is no such film, or its file has changed since it was listed.
            DicomError: it cannot be decoded.
        """
        film = self._listed(film_id)
        _require_unchanged(film)
        shown = self._films.get(film.path, film.state)
        _require_unchanged(film)
        return shown

    def read(self, asked: AskedReading, *, user: str) -> KeptReading:
        """Read one lesion, and keep the reading.

        Raises:
            BusyError: another one is being read.
            UnknownError: study or film is not on the list, or its file is not the one that was listed.
            ValueError: a box has no area, or a film is of another study.
            ConfigError, OSError: audit log or kept readings cannot be written; then there is no reading.
        """
        study = self.study(asked.study)
        own = {film.film_id: film for film in study.films}
        if unknown := [each.film for each in asked.films if each.film not in own]:
            raise UnknownError(f"Expected films of this study, got {unknown[0]}.")
        films = [own[each.film] for each in asked.films]
        pictures = tuple(Picture(path=own[each.film].path, view=each.view, box=each.as_box()) for each in asked.films)
        if not self._reading.acquire(blocking=False):
            raise BusyError("Another lesion is being read; try again in a moment.")
        try:
            _require_unchanged(*films)
            request = LesionRequest(pictures=pictures, columns=asked.columns)
            reading, maps = self._reader.read_with_maps(request, local=self._local(study.patient_key))
            _require_unchanged(*films)
            self._audit.record("reading_shown", reading=reading.reading_id, user=user)
            self.kept.add(reading, study=study.study_id, patient=study.patient_key, user=user)
            self._maps[reading.reading_id] = tuple(map(_shown_map, maps))
            while len(self._maps) > _NUM_MAPS:
                self._maps.popitem(last=False)
        finally:
            self._reading.release()
        return self.reading(reading.reading_id)

    def maps(self, reading_id: str) -> tuple[ShownMap, ...]:
        """Return the maps of a reading; none where it was not read, or some readings ago."""
        return self._maps.get(reading_id, ())

    def reading(self, reading_id: str) -> KeptReading:
        """Return a reading that was kept.

        Raises:
            UnknownError: there is none.
        """
        kept = self.kept.get(reading_id)
        if kept is None:
            raise UnknownError("Expected a reading of this site; there is none of that identifier.")
        return kept

    def keep_opinion(self, given: GivenOpinion, *, user: str) -> KeptReading:
        """Keep what a doctor thinks of a reading; the words stand in no log.

        Raises:
            UnknownError: there is no such reading.
        """
        self.reading(given.reading)
        self._audit.record("opinion", reading=given.reading, user=user, verdict=str(given.verdict))
        self.kept.add_opinion(given.reading, given.verdict, given.why.strip(), user=user)
        return self.reading(given.reading)

    def keep_pathology(self, given: GivenPathology, *, user: str) -> KeptReading:
        """Keep what a lesion turned out to be; which of both stands in no log.

        Raises:
            UnknownError: there is no such reading.
        """
        self.reading(given.reading)
        self._audit.record("pathology", reading=given.reading, user=user)
        self.kept.add_pathology(given.reading, given.pathology, user=user)
        return self.reading(given.reading)

    def since_release(self) -> SinceRelease:
        """Return what the readings with this release add up to; of very many, the newest."""
        release, found = self._reader.release, self.kept.newest(_NUM_COUNTED)
        return since_release(
            found.readings,
            release.facts.digest,
            release.document.public,
            grey=release.document.contract.grey_reference,
            recalibration=self.recalibration,
            num_not_shown=found.num_not_shown,
        )

    def _local(self, patient: str) -> Recalibration | None:
        if self.recalibration is None:
            return None
        kept, digest = self.kept.with_outcome(_NUM_COUNTED).readings, self._reader.release.facts.digest
        return local_recalibration(kept, digest, patient, self.recalibration)

    def export(self, *, user: str) -> bytes:
        """Return what is kept as CSV."""
        self._audit.record("export", user=user)
        return self.kept.to_csv()

    def _listed(self, film_id: str) -> Film:
        film = self.work_list.film(film_id)
        if film is None:
            raise UnknownError("Expected a film of the work list; it may have gone. Open the work list again.")
        return film


def _require_unchanged(*films: Film) -> None:
    if not all(film.is_unchanged for film in films):
        raise UnknownError("Expected the film that was listed; its file has changed. Open the work list again.")


def _shown_map(found: LesionMap) -> ShownMap:
    heat = np.rint(np.clip(found.saliency, 0, 1) * 255).astype(np.uint8)
    coloured = cv2.applyColorMap(heat, cv2.COLORMAP_INFERNO)
    opacity = np.rint(np.clip(found.saliency, 0, 1) * _HEAT).astype(np.uint8)
    return ShownMap(
        view=str(found.view or "view not known"),
        picture=_png(np.rint(np.clip(found.picture, 0, 1) * 255).astype(np.uint8)),
        heat=_png(np.dstack((coloured, opacity))),
    )


def _png(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])
