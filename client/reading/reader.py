"""The reader: a release that was opened once and stays warm, and one lesion after another read with it."""

import dataclasses
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from client.deployment.site_file import SiteFile
from client.reading import cautions
from client.reading.answering import LesionMap, answer, lesion_maps
from client.reading.gates import OpenedPicture
from client.reading.preparation import Refusal, prepare
from client.reading.release import OpenedRelease, open_release
from client.reading.request import LesionRequest
from client.reading.result import Answer, Outcome, Reading, ViewRead, Why
from shared_model.config.fingerprints import source_fingerprint
from shared_model.network.efficientnet import load_efficientnet_lite
from shared_model.system.audit_log import AuditLog

if TYPE_CHECKING:
    from shared_model.metrics.recalibration import Recalibration

EVENT = "reading"
"""Of the audit log: one line for every reading."""


class Reader:
    """A release with which lesions are read; open it once and keep it."""

    def __init__(self, release: OpenedRelease, audit: AuditLog | None) -> None:
        """Load what every reading needs.

        Args:
            release: as ``open_release`` returned it.
            audit: where every reading is a line; None logs nothing, and every reading says so.
        """
        self.release, self._audit, self._code = release, audit, source_fingerprint()
        model = release.document.contract.model
        if model.reads_frozen_features:
            load_efficientnet_lite(model.backbone)

    @classmethod
    def open(cls, folder: Path, *, site: SiteFile | None = None, accept_unsigned: bool = False) -> "Reader":
        """Open a release folder.

        Args:
            folder: of the release.
            site: whose approval is asked and in whose audit log every reading is a line; None asks and logs nothing.
            accept_unsigned: whether a release without signature may be used.

        Raises:
            ReleaseError: it is damaged, was changed, or is not trusted.
            ConfigError: a file of the site cannot be read.
        """
        release = open_release(folder, site=site, accept_unsigned=accept_unsigned)
        return cls(release, None if site is None else AuditLog(site.audit_log))

    def read(self, request: LesionRequest) -> Reading:
        """Read one lesion; whatever its files and columns hold, the answer is a reading.

        Raises:
            OSError, ConfigError: the site's audit log cannot be written; then there is no reading.
        """
        return self.read_with_maps(request, has_maps=False)[0]

    def read_with_maps(
        self, request: LesionRequest, *, has_maps: bool = True, local: "Recalibration | None" = None
    ) -> tuple[Reading, tuple[LesionMap, ...]]:
        """Read one lesion, and show where the network looked on each picture; there are no maps unless it was read.

        Args:
            request: the lesion.
            has_maps: whether maps are made, which takes as long as the reading does.
            local: how this site's own outcomes move probabilities, as a second number.

        Raises:
            OSError, ConfigError: as ``read``.
        """
        prepared = prepare(request, self.release)
        if isinstance(prepared, Refusal):
            return self._logged(self._without_answer(Outcome.REFUSED, prepared.why, prepared.opened)), ()
        doubts = list(cautions.of_lesion(prepared, self.release))
        found = answer(prepared, self.release, local)
        if isinstance(found, Why):
            return self._logged(self._without_answer(Outcome.ABSTAINED, (found,), prepared.opened, doubts)), ()
        maps = lesion_maps(prepared, self.release) if has_maps else ()
        reading = self._reading(Outcome.READ, (), prepared.opened, [*cautions.of_answer(found), *doubts], found)
        return self._logged(_with_maps(reading, maps)), maps

    def _without_answer(
        self, outcome: Outcome, why: tuple[Why, ...], opened: Sequence[OpenedPicture], doubts: Sequence[str] = ()
    ) -> Reading:
        return self._reading(outcome, why, opened, doubts, None)

    def _reading(
        self,
        outcome: Outcome,
        why: tuple[Why, ...],
        opened: Sequence[OpenedPicture],
        doubts: Sequence[str],
        found: Answer | None,
    ) -> Reading:
        of_release = cautions.of_release(self.release, is_logged=self._audit is not None)
        return Reading(
            reading_id=secrets.token_hex(16),
            read_at=datetime.now(UTC).isoformat(timespec="seconds"),
            outcome=outcome,
            why=why,
            answer=found,
            views=tuple(_view_read(each) for each in opened),
            when_not_to_trust=(*doubts, *of_release),
            release=self.release.facts,
            code=self._code,
        )

    def _logged(self, reading: Reading) -> Reading:
        """Write the line of the reading; nobody sees one that is not in the log."""
        if self._audit is not None:
            self._audit.record(
                EVENT,
                reading=reading.reading_id,
                release=reading.release.digest,
                outcome=str(reading.outcome),
                why=",".join(sorted({str(each.code) for each in reading.why})),
                code=reading.code,
            )
        return reading


def read_lesion(
    release: Path, request: LesionRequest, *, site: SiteFile | None = None, accept_unsigned: bool = False
) -> Reading:
    """Read one lesion with a release folder; who reads several opens a ``Reader`` once.

    Raises:
        ReleaseError: the release is damaged, was changed, or is not trusted.
        ConfigError, OSError: a file of the site cannot be used.
    """
    return Reader.open(release, site=site, accept_unsigned=accept_unsigned).read(request)


def _with_maps(reading: Reading, maps: Sequence[LesionMap]) -> Reading:
    if not maps:
        return reading
    views = (dataclasses.replace(view, map=each.on_film) for view, each in zip(reading.views, maps, strict=True))
    return dataclasses.replace(reading, views=tuple(views))


def _view_read(opened: OpenedPicture) -> ViewRead:
    box = opened.picture.box
    return ViewRead(
        view=opened.view,
        laterality=opened.grey.laterality,
        box=None if box is None else (box.x, box.y, box.width, box.height),
        sha256=opened.sha256,
        grey_levels=None if opened.levels is None else dataclasses.asdict(opened.levels),
        map=None,
    )
