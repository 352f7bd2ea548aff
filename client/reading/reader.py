"""The reader: a release that was opened once and stays warm, and one lesion after another read with it."""

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from client.data.image_files import open_image
from client.data.images import LesionFiles, prepare_lesion, read_image
from client.data.preprocessing import Float32Array
from client.data.tables.clinical_encoding import encode_record
from client.data.view_average import average_views
from client.deployment.site_file import SiteFile
from client.reading.gates import (
    MAX_VIEWS,
    OpenedPicture,
    check_box_on_breast,
    check_grey_levels,
    check_metadata,
    check_request,
    check_shape,
    has_dark_tissue,
)
from client.reading.release import OpenedRelease, open_release
from client.reading.request import LesionRequest, Picture, parsed_columns
from client.reading.result import (
    Answer,
    Band,
    ColumnRead,
    Contributions,
    Outcome,
    Reading,
    Reason,
    ViewRead,
    Why,
)
from shared_model.config.choices import ImageMode, Modality, Views
from shared_model.config.fingerprints import source_fingerprint
from shared_model.data.lesions import Lesions
from shared_model.errors import DicomError, TableError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import load_efficientnet_lite
from shared_model.network.scoring import predict
from shared_model.release.conformal import conformal_set
from shared_model.release.document import NOT_CALIBRATED
from shared_model.release.scaling import probability_interval
from shared_model.system.audit_log import AuditLog
from shared_model.vocabulary import Laterality, View, clinical_columns

_NEGATIVE, _DOUBTFUL = 0.5, 0.25
"""A lesion is refused where more than half of the looks take a picture for a negative, and abstained from where more
than a quarter do: two looks at a picture where there are public lesions to compare with, else one."""
Cells = Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionMap:
    """Where the network looked on one picture: a hint, and no evidence of where a lesion is."""

    view: View | None
    picture: Float32Array
    """``(S, S)`` in [0, 1], as the network sees it."""
    saliency: Float32Array
    """``(S, S)`` in [0, 1]: Grad-CAM."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """What the network reads of a lesion that passed the gates; CC before MLO."""

    pixels: Tensor
    """``(V, 1, S, S)``."""
    images: Tensor
    """``(V, D)``, or the pixels."""
    clinical: Tensor
    """``(V, C)``."""
    cells: tuple[Cells, ...]
    opened: tuple[OpenedPicture, ...]
    negative_share: float
    """Of the looks at grey levels and features that take a picture for a negative."""


class Reader:
    """A release with which lesions are read; open it once and keep it."""

    def __init__(self, opened: OpenedRelease, audit: AuditLog | None) -> None:
        self.opened, self.audit = opened, audit
        contract = opened.document.contract
        self._columns = () if contract.model.modality is Modality.IMAGE else clinical_columns(contract.features)
        self._code = source_fingerprint()
        if contract.model.reads_frozen_features:
            load_efficientnet_lite(contract.model.backbone)

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
        opened = open_release(folder, site=site, accept_unsigned=accept_unsigned)
        return cls(opened, None if site is None else AuditLog(site.audit_log))

    def read(self, request: LesionRequest) -> Reading:
        """Read one lesion; whatever its files and columns hold, the answer is a reading.

        Raises:
            OSError: the site's audit log cannot be written; then there is no reading.
        """
        return self.read_with_maps(request, has_maps=False)[0]

    def read_with_maps(self, request: LesionRequest, *, has_maps: bool = True) -> tuple[Reading, tuple[LesionMap, ...]]:
        """Read one lesion, and show where the network looked on each picture; none where it was not read."""
        opened: list[OpenedPicture] = []
        found = self._prepare(request, opened)
        views = tuple(_view_read(each) for each in _sorted(opened))
        if not isinstance(found, _Prepared):
            return self._logged(self._without_answer(Outcome.REFUSED, found, views, ())), ()
        cautions = _cautions(found, self._columns_wanted(), all_views=self._reads_all_views)
        answer = self._answer(found)
        if isinstance(answer, Why):
            return self._logged(self._without_answer(Outcome.ABSTAINED, [answer], views, cautions)), ()
        reading = self._reading(Outcome.READ, (), answer, views=views, cautions=(*cautions, *_doubts(answer)))
        return self._logged(reading), self._maps(found) if has_maps else ()

    @property
    def _reads_all_views(self) -> bool:
        return self.opened.document.contract.views is Views.ALL

    def _columns_wanted(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._columns if not column.optional)

    def _prepare(self, request: LesionRequest, opened: list[OpenedPicture]) -> "_Prepared | list[Why]":
        """Pass the gates one floor after the other; what is wrong on one floor is told together."""
        contract = self.opened.document.contract
        why = list(check_request(request.pictures, contract))
        cells, problems = self._cells(request.columns)
        if why or problems:
            return [*why, *problems]
        for picture in request.pictures:
            try:
                opened.append(_open(picture))
            except DicomError as error:
                why.append(Why(code=Reason.FILE, text=_without_path(error, picture.path)))
        opened.sort(key=_order)
        laterality = None if (side := cells.get("laterality")) is None else Laterality(side)
        why += check_metadata(opened, laterality)
        for each in opened:
            why += check_shape(each, contract)
        if why:
            return why
        laterality = laterality or next((each.grey.laterality for each in opened if each.grey.laterality), None)
        return self._pixels_and_cells(opened, cells, laterality)

    def _pixels_and_cells(
        self, opened: Sequence[OpenedPicture], cells: Cells, laterality: Laterality | None
    ) -> "_Prepared | list[Why]":
        contract = self.opened.document.contract
        why, pictures, looks = list[Why](), list[Float32Array](), list[bool]()
        for each in opened:
            if contract.image.mode is not ImageMode.CROP:
                why += check_box_on_breast(each)
            files = LesionFiles(
                lesion_paths=(),
                film_path=each.picture.path,
                box=each.picture.box,
                laterality=laterality,
                view=each.view,
            )
            try:
                picture = prepare_lesion(each.picture.path, each.grey, files, contract.image)
            except DicomError as error:
                why.append(Why(code=Reason.FILE, text=_without_path(error, each.picture.path)))
                continue
            why += check_grey_levels(picture, each.grey, contract.image, contract.grey_reference)
            pictures.append(picture)
            looks.append(has_dark_tissue(picture, each, contract.image, laterality))
        if why:
            return why
        views = [each.view for each in opened] or [None]
        rows = tuple(self._row(cells, view, laterality) for view in views)
        pixels = torch.from_numpy(np.stack(pictures)[:, None]) if pictures else torch.zeros(0, 1, 1, 1)
        images = self._images(pixels, len(rows))
        looks += self._nearer_as_negatives(pixels, images)
        negative_share = float(np.mean(looks)) if looks else 0.0
        if negative_share > _NEGATIVE:
            text = "Expected bright tissue on dark, got the reverse: it looks like a negative."
            return [Why(code=Reason.NEGATIVE, text=text)]
        return _Prepared(
            pixels=pixels,
            images=images,
            clinical=torch.from_numpy(np.stack([encode_record(row, contract.features) for row in rows])),
            cells=rows,
            opened=tuple(opened),
            negative_share=negative_share,
        )

    def _nearer_as_negatives(self, pixels: Tensor, images: Tensor) -> list[bool]:
        """Return of every picture whether its own negative is more like the public lesions; none without those."""
        if self.opened.reference is None:
            return []
        as_negatives = self._images(1 - pixels, len(pixels)).numpy()
        distances = self.opened.reference.distances
        return [bool(is_nearer) for is_nearer in distances(as_negatives) < distances(images.numpy())]

    def _cells(self, columns: Mapping[str, str]) -> tuple[Cells, list[Why]]:
        allowed = tuple(column.name for column in self._columns)
        try:
            cells = parsed_columns(columns, allowed)
        except TableError as error:
            return {}, [Why(code=Reason.COLUMNS, text=str(error))]
        types = tuple(map(str, self.opened.document.contract.lesion_types))
        kind = cells.get("abnormality_type")
        if kind is not None and kind not in types:
            text = f"Expected a lesion type on which the network was trained ({', '.join(types)}), got {kind}."
            return {}, [Why(code=Reason.COLUMNS, text=text)]
        if kind is None and len(types) == 1 and "abnormality_type" in allowed:
            cells["abnormality_type"] = types[0]
        return cells, []

    def _row(self, cells: Cells, view: View | None, laterality: Laterality | None) -> Cells:
        """Return the cells of one view: what its picture says of view and side counts as recorded."""
        row = dict(cells)
        names = {column.name for column in self._columns}
        if "view" in names and view is not None:
            row["view"] = str(view)
        if "laterality" in names and laterality is not None:
            row["laterality"] = str(laterality)
        return row

    def _images(self, pixels: Tensor, num_rows: int) -> Tensor:
        model = self.opened.document.contract.model
        if model.modality is Modality.CLINICAL:
            return torch.zeros(num_rows, 0)
        return frozen_features(pixels, model.backbone) if model.backbone.is_frozen else pixels

    def _lesions(self, prepared: _Prepared) -> Lesions:
        count = len(prepared.cells)
        has_image = self.opened.document.contract.model.modality is not Modality.CLINICAL
        lesions = Lesions(
            images=prepared.images,
            has_image=torch.full((count,), has_image),
            clinical=prepared.clinical,
            labels=torch.zeros(count),
            patients=torch.zeros(count, dtype=torch.int64),
        )
        return average_views(lesions, lesions.patients) if self._reads_all_views else lesions

    def _answer(self, prepared: _Prepared) -> "Answer | Why":
        if prepared.negative_share > _DOUBTFUL:
            return Why(code=Reason.NEGATIVE, text="It cannot be told whether the picture is a negative.")
        document, lesions = self.opened.document, self._lesions(prepared)
        probability = float(predict(self.opened.network, lesions)[0])
        public, distance = document.public, None
        if public is not None and public.novelty is not None and self.opened.reference is not None:
            distance = float(self.opened.reference.distances(lesions.images[:1].numpy())[0]) / public.novelty.limit
            if distance > 1:
                text = f"The picture is unlike those of the public lesions: {distance:.2f} times the limit."
                return Why(code=Reason.NOVELTY, text=text)
        level = label = None
        if public is not None and public.abstention is not None:
            level, found = (
                public.abstention.level,
                conformal_set(
                    probability,
                    benign_scores=public.abstention.benign_scores,
                    malignant_scores=public.abstention.malignant_scores,
                    level=public.abstention.level,
                ),
            )
            if not found.is_single:
                which = "benign and malignant are both possible" if found.has_benign else "neither label is usual"
                return Why(code=Reason.UNDECIDED, text=f"The network cannot tell: {which} at level {level:g}.")
            label = "benign" if found.has_benign else "malignant"
        score = float(logit(min(max(probability, 1e-12), 1 - 1e-12)))
        return Answer(
            probability=probability,
            interval=probability_interval(score, document.scaling),
            threshold=document.threshold.value,
            threshold_interval=document.threshold.interval,
            is_above_threshold=probability >= document.threshold.value,
            band=Band.of(probability),
            contributions=self._contributions(lesions, prepared),
            novelty_distance=distance,
            conformal_level=level,
            conformal_label=label,
        )

    def _contributions(self, lesions: Lesions, prepared: _Prepared) -> Contributions:
        # Captum takes a while to import, which refusals need not wait for.
        from shared_model.explanations.saliency import (  # noqa: PLC0415
            attributions_of_columns,
            share_of_modalities,
        )

        image, clinical, network = lesions.images[:1], lesions.clinical[:1], self.opened.network
        share = share_of_modalities(network, image, clinical)
        by_column = attributions_of_columns(network, image, clinical, self._columns)
        return Contributions(
            base=share.base,
            image=share.image,
            columns=share.clinical,
            image_share=share.image_share,
            by_column=tuple(
                ColumnRead(name=name, value=_joined(prepared.cells, name), logits=logits)
                for name, logits in by_column.items()
            ),
        )

    def _maps(self, prepared: _Prepared) -> tuple[LesionMap, ...]:
        from shared_model.explanations.saliency import LesionScorer, grad_cam  # noqa: PLC0415

        model, clinical = self.opened.document.contract.model, self._lesions(prepared).clinical[0]
        encoder = load_efficientnet_lite(model.backbone) if model.backbone.is_frozen else None
        maps = []
        for number, pixels in enumerate(prepared.pixels):
            others = torch.cat((prepared.images[:number], prepared.images[number + 1 :]))
            scorer = LesionScorer(
                self.opened.network,
                clinical,
                frozen_encoder=encoder,
                other_views=others if len(others) and encoder is not None else None,
            )
            saliency = grad_cam(scorer, pixels)
            maps.append(LesionMap(view=prepared.opened[number].view, picture=pixels[0].numpy(), saliency=saliency))
        return tuple(maps)

    def _without_answer(
        self, outcome: Outcome, why: Sequence[Why], views: tuple[ViewRead, ...], cautions: tuple[str, ...]
    ) -> Reading:
        return self._reading(outcome, tuple(why), None, views=views, cautions=cautions)

    def _reading(
        self,
        outcome: Outcome,
        why: tuple[Why, ...],
        answer: Answer | None,
        *,
        views: tuple[ViewRead, ...],
        cautions: tuple[str, ...],
    ) -> Reading:
        document, facts = self.opened.document, self.opened.facts
        if not facts.is_signed:
            cautions = (*cautions, "The release is not signed: nobody vouches for it.")
        elif not facts.is_signer_known:
            cautions = (*cautions, "No site was named, so nobody has checked whose signature the release has.")
        if self.audit is None:
            cautions = (*cautions, "No site was named, so this reading stands in no audit log.")
        return Reading(
            reading_id=secrets.token_hex(16),
            outcome=outcome,
            why=why,
            answer=answer,
            views=views,
            when_not_to_trust=(*cautions, *_uncalibrated(self.opened), *document.limits),
            release=facts,
            code=self._code,
        )

    def _logged(self, reading: Reading) -> Reading:
        """Write the line of the reading; nobody sees one that is not in the log."""
        if self.audit is not None:
            self.audit.record(
                "reading",
                reading=reading.reading_id,
                release=reading.release.digest,
                outcome=str(reading.outcome),
                why=",".join(sorted({str(each.code) for each in reading.why})),
                code=reading.code,
            )
        return reading


def read_lesion(
    release: Path,
    request: LesionRequest,
    *,
    site: SiteFile | None = None,
    accept_unsigned: bool = False,
) -> Reading:
    """Read one lesion with a release folder; who reads several opens a ``Reader`` once.

    Raises:
        ReleaseError: the release is damaged, was changed, or is not trusted.
        ConfigError, OSError: a file of the site cannot be used.
    """
    return Reader.open(release, site=site, accept_unsigned=accept_unsigned).read(request)


def _open(picture: Picture) -> OpenedPicture:
    grey = read_image(picture.path)
    try:
        with open_image(picture.path) as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise DicomError(f"{picture.path}: {error.strerror}") from error
    return OpenedPicture(picture=picture, grey=grey, sha256=digest)


def _order(opened: OpenedPicture) -> tuple[str, str]:
    """Return what sorts CC before MLO, and pictures of unknown view by their content."""
    return str(opened.view or ""), opened.sha256


def _sorted(opened: Iterable[OpenedPicture]) -> list[OpenedPicture]:
    return sorted(opened, key=_order)


def _view_read(opened: OpenedPicture) -> ViewRead:
    box = opened.picture.box
    return ViewRead(
        view=opened.view,
        laterality=opened.grey.laterality,
        box=None if box is None else (box.x, box.y, box.width, box.height),
        sha256=opened.sha256,
    )


def _without_path(error: DicomError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _joined(cells: Sequence[Cells], name: str) -> str | None:
    values = dict.fromkeys(value for row in cells if (value := row.get(name)) is not None)
    return ", ".join(values) or None


def _cautions(prepared: _Prepared, wanted: Sequence[str], *, all_views: bool) -> tuple[str, ...]:
    """Return what makes this reading less sure than the release's figures say."""
    opened, cells = prepared.opened, prepared.cells
    cautions = []
    if all_views and opened and len(opened) < MAX_VIEWS:
        cautions.append("One view of two: most lesions of the training were seen on both.")
    if any(each.grey.laterality is None and each.grey.view is None for each in opened):
        cautions.append("A file says neither view nor side: nobody has checked that it is the picture that was meant.")
    if prepared.negative_share:
        cautions.append("One look at a picture takes it for a negative; the others do not.")
    if any(each.view is None for each in opened):
        cautions.append("The view of a picture is not known.")
    if missing := [name for name in wanted if all(row.get(name) is None for row in cells)]:
        cautions.append(f"Not recorded, and read as neither high nor low: {', '.join(missing)}.")
    return tuple(cautions)


def _uncalibrated(opened: OpenedRelease) -> tuple[str, ...]:
    public = opened.document.public
    if public is None:
        return (f"For this release {NOT_CALIBRATED}.",)
    cautions = []
    if public.abstention is None:
        cautions.append("For this release abstention was not calibrated.")
    if public.novelty is None:
        cautions.append("For this release novelty was not calibrated.")
    if opened.document.contract.grey_reference is None:
        cautions.append("Grey levels were compared with no reference: only a plain negative would have been noticed.")
    return tuple(cautions)


def _doubts(answer: Answer) -> tuple[str, ...]:
    doubts = []
    if answer.threshold_interval.low <= answer.probability <= answer.threshold_interval.high:
        doubts.append("The probability lies within the uncertainty of the threshold: the call could be the other.")
    if answer.conformal_label is not None and (answer.conformal_label == "malignant") != answer.is_above_threshold:
        doubts.append(
            f"Only {answer.conformal_label} is left at level {answer.conformal_level:g}, and the threshold, which "
            "is to miss few cancers, calls it the other way."
        )
    return tuple(doubts)
