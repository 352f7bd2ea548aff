"""What the network says of a lesion that passed the gates: an answer or the reason for none, and where it looked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch

from client.data.preprocessing import Float32Array, SeenSquare
from client.reading.preparation import DOUBTFUL, Cells, PreparedLesion, columns_read
from client.reading.release import OpenedRelease
from client.reading.result import (
    MAP_SIDE,
    Answer,
    Band,
    ColumnRead,
    Contributions,
    FilmMap,
    LocalProbability,
    Reason,
    Why,
)
from shared_model.explanations.contributions import attributions_of_columns, share_of_modalities
from shared_model.network.efficientnet import load_efficientnet_lite
from shared_model.network.scoring import predict
from shared_model.release.conformal import conformal_set
from shared_model.release.document import Release
from shared_model.release.scaling import probability_interval
from shared_model.vocabulary import View

if TYPE_CHECKING:
    from shared_model.metrics.recalibration import Recalibration


@dataclass(frozen=True, kw_only=True, eq=False)
class LesionMap:
    """Where the network looked on one picture: a hint, and no evidence of where a lesion is."""

    view: View | None
    picture: Float32Array
    """``(S, S)`` in [0, 1], as the network sees it."""
    saliency: Float32Array
    """``(S, S)`` in [0, 1]: Grad-CAM."""
    on_film: FilmMap
    """The same on the picture as its file has it."""


def answer(prepared: PreparedLesion, release: OpenedRelease, local: "Recalibration | None" = None) -> Answer | Why:
    """Return the answer, or why the reader abstains.

    Args:
        prepared: the lesion.
        release: with which it is read.
        local: as this site's own outcomes would move the probability; it moves neither call nor band.
    """
    if prepared.negative_share > DOUBTFUL:
        return Why(code=Reason.NEGATIVE, text="It cannot be told whether a picture is a negative.")
    distance = _novelty_distance(prepared, release)
    if distance is not None and distance > 1:
        text = f"The lesion looks unlike those of the training and the public ones: {distance:.2f} times the limit."
        return Why(code=Reason.NOVELTY, text=text)
    document = release.document
    probability = float(predict(release.network, prepared.lesions)[0])
    label = _label(probability, document)
    if isinstance(label, Why):
        return label
    abstention = None if document.public is None else document.public.abstention
    return Answer(
        probability=probability,
        interval=probability_interval(probability, document.scaling),
        threshold=document.threshold.value,
        threshold_interval=document.threshold.interval,
        is_above_threshold=probability >= document.threshold.value,
        band=Band.of(probability),
        contributions=_contributions(prepared, release),
        novelty_distance=distance,
        conformal_level=None if abstention is None else abstention.level,
        conformal_label=label,
        local=None if local is None else _local(local, probability),
    )


def _local(fitted: "Recalibration", probability: float) -> LocalProbability:
    return LocalProbability(
        probability=fitted.probability(probability),
        interval=fitted.interval(probability),
        slope=fitted.slope,
        offset=fitted.offset,
        is_slope_fitted=fitted.is_slope_fitted,
        num_benign=fitted.num_negatives,
        num_malignant=fitted.num_positives,
    )


def _novelty_distance(prepared: PreparedLesion, release: OpenedRelease) -> float | None:
    """Return the distance from the public lesions in units of the limit; None where it was not calibrated."""
    public = release.document.public
    if public is None or public.novelty is None or release.reference is None:
        return None
    return float(release.reference.distances(prepared.lesions.images[:1].numpy())[0]) / public.novelty.limit


def _label(probability: float, document: Release) -> str | Why | None:
    """Return the one label left at the release's level, or why there is none; None where it was not calibrated."""
    abstention = None if document.public is None else document.public.abstention
    if abstention is None:
        return None
    found = conformal_set(
        probability,
        benign_scores=abstention.benign_scores,
        malignant_scores=abstention.malignant_scores,
        level=abstention.level,
    )
    if found.is_single:
        return "benign" if found.has_benign else "malignant"
    which = "benign and malignant are both possible" if found.has_benign else "neither label is usual for its score"
    return Why(code=Reason.UNDECIDED, text=f"The network cannot tell: {which} at level {abstention.level:g}.")


def _contributions(prepared: PreparedLesion, release: OpenedRelease) -> Contributions:
    image, clinical = prepared.lesions.images[:1], prepared.lesions.clinical[:1]
    share = share_of_modalities(release.network, image, clinical)
    columns = columns_read(release.document.contract)
    return Contributions(
        base=share.base,
        image=share.image,
        columns=share.clinical,
        image_share=share.image_share,
        by_column=tuple(
            ColumnRead(name=name, value=_joined(prepared.cells, name), logits=logits)
            for name, logits in attributions_of_columns(release.network, image, clinical, columns).items()
        ),
    )


def _joined(cells: Sequence[Cells], name: str) -> str | None:
    values = dict.fromkeys(value for row in cells if (value := row.get(name)) is not None)
    return ", ".join(values) or None


def lesion_maps(prepared: PreparedLesion, release: OpenedRelease) -> tuple[LesionMap, ...]:
    """Return where the network looked on every picture, CC first."""
    from shared_model.explanations.saliency import LesionScorer, grad_cam  # noqa: PLC0415, Captum takes a while

    backbone = release.document.contract.model.backbone
    encoder = load_efficientnet_lite(backbone) if backbone.is_frozen else None
    maps = []
    for number, (pixels, opened) in enumerate(zip(prepared.pixels, prepared.opened, strict=True)):
        others = torch.cat((prepared.images[:number], prepared.images[number + 1 :]))
        scorer = LesionScorer(
            release.network,
            prepared.lesions.clinical[0],
            frozen_encoder=encoder,
            other_views=others if len(others) else None,
        )
        saliency = grad_cam(scorer, pixels)
        if opened.seen is None:
            raise ValueError("Expected a picture that the network was shown.")
        maps.append(
            LesionMap(
                view=opened.view,
                picture=pixels[0].numpy(),
                saliency=saliency,
                on_film=film_map(saliency, opened.seen),
            )
        )
    return tuple(maps)


def film_map(saliency: Float32Array, seen: SeenSquare) -> FilmMap:
    """Return a map ``(S, S)``, in [0, 1], turned and scaled back to the picture."""
    turned = saliency[:, ::-1] if seen.is_mirrored else saliency
    small = cv2.resize(np.ascontiguousarray(turned), (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA)
    levels = np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)
    return FilmMap(square=(seen.x, seen.y, seen.side), values=levels.tobytes().hex())
