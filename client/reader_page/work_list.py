"""The films in a folder as studies: read by header alone, a bounded number at a time, and again only if they change.

What a browser is told of a film or study is a keyed digest; a path never comes from it.
"""

import hashlib
import hmac
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom.film_header import FilmHeader, read_film_header
from shared_model.errors import DicomError
from shared_model.system.peer_text import peer_text
from shared_model.vocabulary import Laterality

MAX_FILES = 50_000
"""In the folder; more are counted and not looked at."""
MAX_DEPTH = 6
"""Of folders below it."""
HEADERS_AT_ONCE = 100
"""Read in one look; some 0.2 s."""
_State = tuple[int, int, int, int]
"""Of a file: when it was written, size, inode, and when anything of it changed, which nobody can set back."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """One film of the list."""

    film_id: str
    path: Path
    header: FilmHeader
    state: _State
    """Of the file when its header was read."""

    @property
    def modified(self) -> int:
        """Nanoseconds since 1970, of the file."""
        return self.state[0]

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is still the one that was listed."""
        try:
            return _state_of(self.path.lstat()) == self.state
        except OSError:
            return False

    @property
    def name(self) -> str:
        """Side, view and size, for a person."""
        side, view = self.header.laterality or "side not known", self.header.view or "view not known"
        return f"{side} {view}, {self.header.columns} x {self.header.rows}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """The films of one examination."""

    study_id: str
    patient_key: str
    """Keyed digest of the patient's identifier; equal for all studies of one patient."""
    patient_id: str
    """For the page alone: it stands in no log and in no file of ours."""
    date: str
    films: tuple[Film, ...]

    @property
    def sides(self) -> tuple[Laterality | None, ...]:
        """Breasts of which there are films, left first; None stands for films that do not say."""
        found = {film.header.laterality for film in self.films}
        return tuple(side for side in (*Laterality, None) if side in found)

    def of(self, side: Laterality | None) -> tuple[Film, ...]:
        """Return the films of one breast."""
        return tuple(film for film in self.films if film.header.laterality is side)

    @property
    def modified(self) -> int:
        """When its last film came."""
        return max(film.modified for film in self.films)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The list as far as it has been read."""

    studies: tuple[Study, ...]
    """Last come first."""
    problems: tuple[tuple[str, str], ...]
    """Name and reason of every file that is no film."""
    num_unread: int
    """Files whose turn has not come."""
    num_left_out: int
    """Files beyond ``MAX_FILES``."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    state: _State
    header: FilmHeader | None
    problem: str


class WorkList:
    """The list of one folder; threads may share it."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """Begin without having looked.

        Args:
            folder: of the films; links in it are not followed.
            key: makes the identifiers.
        """
        self._folder, self._key = folder, key
        self._lock = threading.Lock()
        self._known: dict[Path, _Known] = {}
        self._listed = Listed(studies=(), problems=(), num_unread=0, num_left_out=0)
        self._studies: Mapping[str, Study] = {}
        self._films: Mapping[str, Film] = {}

    def look(self, most: int = HEADERS_AT_ONCE) -> Listed:
        """Look at the folder, read the headers of at most ``most`` new or changed files, and return the list.

        While another thread looks, the list is what it was.

        Raises:
            OSError: the folder cannot be read.
        """
        if not self._lock.acquire(blocking=False):
            return self._listed
        try:
            found, num_left_out = self._found()
            changed = [path for path, state in found.items() if path not in self._known or _differs(self, path, state)]
            for path in changed[:most]:
                self._known[path] = _read(path, found[path])
            self._known = {path: known for path, known in self._known.items() if path in found}
            self._publish(num_unread=len(changed[most:]), num_left_out=num_left_out)
        finally:
            self._lock.release()
        return self._listed

    def study(self, study_id: str) -> Study | None:
        """Return a study of the last look."""
        return self._studies.get(study_id)

    def film(self, film_id: str) -> Film | None:
        """Return a film of the last look."""
        return self._films.get(film_id)

    def state(self, path: Path) -> _State | None:
        """Return by what a file was known when its header was read."""
        known = self._known.get(path)
        return None if known is None else known.state

    def _found(self) -> tuple[dict[Path, _State], int]:
        found: dict[Path, _State] = {}
        num_left_out = 0
        for path, status in _files(self._folder, MAX_DEPTH):
            if len(found) < MAX_FILES:
                found[path] = _state_of(status)
            else:
                num_left_out += 1
        return found, num_left_out

    def _publish(self, *, num_unread: int, num_left_out: int) -> None:
        films: dict[tuple[str, str, str], list[Film]] = {}
        problems = []
        for path, known in self._known.items():
            if known.header is None:
                # A name may hold bytes that are no text.
                problems.append((peer_text(path.name), peer_text(known.problem)))
                continue
            # With the state, so that what a browser asks for is the very file that it was shown.
            film_id = self._digest("film", str(path), *map(str, known.state))
            film = Film(film_id=film_id, path=path, header=known.header, state=known.state)
            # Without identifier of its study a film is one by itself, rather than one of a stranger's.
            header = known.header
            films.setdefault((header.patient_id, header.issuer, header.study or str(path)), []).append(film)
        studies = [self._study(*whose, found) for whose, found in films.items()]
        studies.sort(key=lambda study: (-study.modified, study.study_id))
        self._studies = {study.study_id: study for study in studies}
        self._films = {film.film_id: film for study in studies for film in study.films}
        self._listed = Listed(
            studies=tuple(studies),
            problems=tuple(sorted(problems)),
            num_unread=num_unread,
            num_left_out=num_left_out,
        )

    def _study(self, patient_id: str, issuer: str, study: str, films: list[Film]) -> Study:
        study_id = self._digest("study", patient_id, issuer, study)
        return Study(
            study_id=study_id,
            # Whoever has no identifier is nobody's earlier patient.
            patient_key=self._digest("patient", patient_id, issuer) if patient_id else study_id,
            patient_id=patient_id,
            date=max(film.header.study_date for film in films),
            films=tuple(sorted(films, key=lambda film: (film.name, film.film_id))),
        )

    def _digest(self, *parts: str) -> str:
        content = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hmac.digest(self._key, content, hashlib.sha256).hex()[:32]


def _state_of(status: os.stat_result) -> _State:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _differs(work_list: WorkList, path: Path, state: _State) -> bool:
    return work_list.state(path) != state


def _read(path: Path, state: _State) -> _Known:
    try:
        return _Known(state=state, header=read_film_header(path), problem="")
    except DicomError as error:
        return _Known(state=state, header=None, problem=str(error).removeprefix(f"{path}: "))


def _files(folder: Path, depth: int) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the regular files below ``folder`` whose names do not begin with a dot."""
    with os.scandir(folder) as entries:
        below = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
            except OSError:
                # Gone since the folder was listed.
                continue
    for each in below if depth > 0 else ():
        try:
            yield from _files(each, depth - 1)
        except OSError:
            continue
