"""A request made into what the network reads, or the reasons why it must not: all gates, in the order of their cost."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from client.data import jpeg, png
from client.data.dicom.examination import Examination, read_examination
from client.data.grey_levels import grey_levels
from client.data.image_files import open_image, unreadable
from client.data.images import LesionFiles, prepare_lesion, read_image
from client.data.preprocessing import Float32Array, seen_square
from client.data.tables.record_encoding import encode_record
from client.data.view_average import average_views
from client.reading.gates import (
    OpenedPicture,
    check_box_on_breast,
    check_grey_levels,
    check_metadata,
    check_request,
    check_shape,
    has_dark_tissue,
)
from client.reading.release import OpenedRelease
from client.reading.request import LesionRequest, Picture, parsed_columns
from client.reading.result import Reason, Why
from shared_model.config.choices import FeatureEngine, ImageMode, Modality, Views
from shared_model.data.lesions import Lesions
from shared_model.errors import DicomError, TableError
from shared_model.network.backbone import frozen_features
from shared_model.release.document import InputContract
from shared_model.vocabulary import ClinicalColumn, Laterality, View, clinical_columns

NEGATIVE, DOUBTFUL = 0.5, 0.25
"""A lesion is refused where more than half of the looks take a picture for a negative, and abstained from where more
than a quarter do: two looks at a picture where there are public lesions to compare with, else one."""
_LOOKS_NEGATIVE = Why(
    code=Reason.NEGATIVE, text="Expected bright tissue on dark, got the reverse: it looks like a negative."
)
Cells = Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedLesion:
    """What the network reads of a lesion that passed the gates; CC before MLO."""

    opened: tuple[OpenedPicture, ...]
    pixels: Tensor
    """``(V, 1, S, S)`` in [0, 1]; without rows where no picture is read."""
    images: Tensor
    """``(V, D)``, or the pixels."""
    cells: tuple[Cells, ...]
    """Of every view."""
    lesions: Lesions
    """Every view's row, all alike where the network reads their mean; its labels mean nothing."""
    negative_share: float
    """Of the looks at grey levels and features that take a picture for a negative."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a lesion must not be read."""

    opened: tuple[OpenedPicture, ...]
    why: tuple[Why, ...]


def columns_read(contract: InputContract) -> tuple[ClinicalColumn, ...]:
    """Return the clinical columns that the network reads."""
    return () if contract.model.modality is Modality.IMAGE else clinical_columns(contract.features)


def prepare(request: LesionRequest, release: OpenedRelease) -> PreparedLesion | Refusal:
    """Pass the gates floor by floor: request and columns, files, pixels. What is wrong on one floor is told together.

    Whatever the files and columns hold, nothing is raised for it.
    """
    contract = release.document.contract
    cells, problems = _cells(request.columns, contract)
    why = [*check_request(request.pictures, contract), *problems]
    if why:
        return Refusal(opened=(), why=tuple(why))
    opened, why = _opened(request.pictures)
    laterality = None if (side := cells.get("laterality")) is None else Laterality(side)
    why += check_metadata(opened, laterality)
    why += _check_view(opened, cells.get("view"))
    for each in opened:
        why += check_shape(each, contract)
    if why:
        return Refusal(opened=opened, why=tuple(why))
    laterality = laterality or next((each.grey.laterality for each in opened if each.grey.laterality), None)
    opened, pictures, why = _pictures(opened, contract, laterality)
    if why:
        return Refusal(opened=opened, why=tuple(why))
    return _looked_at(opened, pictures, cells, laterality, release)


def _cells(columns: Mapping[str, str], contract: InputContract) -> tuple[dict[str, str | None], list[Why]]:
    allowed = tuple(column.name for column in columns_read(contract))
    try:
        cells = parsed_columns(columns, allowed)
    except TableError as error:
        return {}, [Why(code=Reason.COLUMNS, text=str(error))]
    types = tuple(map(str, contract.lesion_types))
    kind = cells.get("abnormality_type")
    if kind is not None and kind not in types:
        text = f"Expected a lesion type on which the network was trained ({', '.join(types)}), got {kind}."
        return {}, [Why(code=Reason.COLUMNS, text=text)]
    if kind is None and len(types) == 1 and "abnormality_type" in allowed:
        cells["abnormality_type"] = types[0]
    return cells, []


def _opened(pictures: Sequence[Picture]) -> tuple[tuple[OpenedPicture, ...], list[Why]]:
    """Open the files; those that can be are sorted, CC before MLO, so that no order of theirs matters."""
    opened, why = list[OpenedPicture](), list[Why]()
    for picture in pictures:
        try:
            opened.append(_open(picture))
        except DicomError as error:
            why.append(_file_problem(error, picture))
    return tuple(sorted(opened, key=lambda each: (str(each.view or ""), each.sha256))), why


def _check_view(opened: Sequence[OpenedPicture], column: str | None) -> list[Why]:
    """Return what speaks against the view in the columns, which must be one that was opened."""
    views = [str(each.view) for each in opened if each.view is not None]
    if column is None or not views or column in views:
        return []
    return [Why(code=Reason.VIEW, text=f"Expected view={column} of the columns to be that of a picture: {views[0]}.")]


def _open(picture: Picture) -> OpenedPicture:
    """Read a file several times, and know by its digest that it was the same one each time.

    Raises:
        DicomError: it cannot be read, or was changed meanwhile.
    """
    digest, is_dicom = _digest(picture.path)
    grey = read_image(picture.path)
    examination = read_examination(picture.path) if is_dicom else Examination()
    if _digest(picture.path)[0] != digest:
        raise DicomError("Expected a file that nobody changes while it is read; try again.")
    return OpenedPicture(picture=picture, grey=grey, sha256=digest, examination=examination)


def _digest(path: Path) -> tuple[str, bool]:
    """Return the SHA-256 of a file, and whether it may be a DICOM file."""
    try:
        with open_image(path) as file:
            content = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    return hashlib.sha256(content).hexdigest(), not content.startswith((png.SIGNATURE, jpeg.SIGNATURE))


def _file_problem(error: Exception, picture: Picture) -> Why:
    text = str(error).removeprefix(f"{picture.path}: ")
    return Why(code=Reason.FILE, text=" ".join(text.split()))


def _pictures(
    opened: Sequence[OpenedPicture], contract: InputContract, laterality: Laterality | None
) -> tuple[tuple[OpenedPicture, ...], list[Float32Array], list[Why]]:
    """Return what the network sees of every picture, made as in training, and what its pixels say against it.

    The pictures come back with what is known of that; one that cannot be made stays as it was.
    """
    known, pictures, why = list(opened), list[Float32Array](), list[Why]()
    for number, each in enumerate(opened):
        path, found = each.picture.path, list[Why]()
        if contract.image.mode is not ImageMode.CROP:
            found += check_box_on_breast(each)
        files = LesionFiles(
            lesion_paths=(), film_path=path, box=each.picture.box, laterality=laterality, view=each.view
        )
        try:
            picture = prepare_lesion(path, each.grey, files, contract.image)
        except DicomError as error:
            why += [*found, _file_problem(error, each.picture)]
            continue
        found += check_grey_levels(picture, each.grey, contract.image, contract.grey_reference)
        if found and contract.image.mode is not ImageMode.CROP:
            found = _negative_first(found, is_negative=has_dark_tissue(picture, each, contract.image, laterality))
        why += found
        pictures.append(picture)
        known[number] = dataclasses.replace(
            each,
            levels=grey_levels(picture, contract.image.mode),
            seen=seen_square(
                each.grey, contract.image, laterality=laterality or each.grey.laterality, box=each.picture.box
            ),
        )
    return tuple(known), pictures, why


def _negative_first(found: list[Why], *, is_negative: bool) -> list[Why]:
    """Say first what a person can mend: on a negative film air is taken for the breast, and no grey level fits."""
    return [_LOOKS_NEGATIVE, *found] if is_negative else found


def _looked_at(
    opened: tuple[OpenedPicture, ...],
    pictures: Sequence[Float32Array],
    cells: Cells,
    laterality: Laterality | None,
    release: OpenedRelease,
) -> PreparedLesion | Refusal:
    contract = release.document.contract
    pixels = torch.from_numpy(np.stack(pictures)[:, None]) if pictures else torch.zeros(0, 1, 1, 1)
    images = _images(pixels, contract)
    looks = [
        has_dark_tissue(picture, each, contract.image, laterality)
        for picture, each in zip(pictures, opened, strict=True)
    ]
    looks += _nearer_as_negatives(pixels, images, release)
    negative_share = float(np.mean(looks)) if looks else 0.0
    if negative_share > NEGATIVE:
        return Refusal(opened=opened, why=(_LOOKS_NEGATIVE,))
    rows = tuple(_row(cells, view, laterality, contract) for view in [each.view for each in opened] or [None])
    return PreparedLesion(
        opened=opened,
        pixels=pixels,
        images=images,
        cells=rows,
        lesions=_lesions(images, rows, contract),
        negative_share=negative_share,
    )


def _images(pixels: Tensor, contract: InputContract) -> Tensor:
    if contract.model.modality is Modality.CLINICAL:
        return torch.zeros(1, 0)
    backbone = contract.model.backbone
    # Whatever the training's engine was: a reading needs torch for its maps anyway, and the difference is rounding.
    return frozen_features(pixels, backbone, FeatureEngine.TORCH) if backbone.is_frozen else pixels


def _nearer_as_negatives(pixels: Tensor, images: Tensor, release: OpenedRelease) -> list[bool]:
    """Return of every picture whether its own negative is more like the public lesions; none without those."""
    if release.reference is None:
        return []
    as_negatives = _images(1 - pixels, release.document.contract)
    is_nearer = release.reference.distances(as_negatives.numpy()) < release.reference.distances(images.numpy())
    return [bool(each) for each in is_nearer]


def _row(cells: Cells, view: View | None, laterality: Laterality | None, contract: InputContract) -> Cells:
    """Return the cells of one view: what its picture says of view and side counts as recorded."""
    row, names = dict(cells), {column.name for column in columns_read(contract)}
    if "view" in names and view is not None:
        row["view"] = str(view)
    if "laterality" in names and laterality is not None:
        row["laterality"] = str(laterality)
    return row


def _lesions(images: Tensor, rows: Sequence[Cells], contract: InputContract) -> Lesions:
    count = len(rows)
    lesions = Lesions(
        images=images,
        has_image=torch.full((count,), contract.model.modality is not Modality.CLINICAL),
        clinical=torch.from_numpy(np.stack([encode_record(row, contract.features) for row in rows])),
        labels=torch.zeros(count),
        patients=torch.zeros(count, dtype=torch.int64),
    )
    return average_views(lesions, lesions.patients) if contract.views is Views.ALL else lesions
