"""A hospital with films and a release, for tests of its page: phantom films, and a network of random numbers."""

import dataclasses
from pathlib import Path

import numpy as np
from pydicom import dcmwrite

from client.deployment.site_file import SiteFile
from client.reading.reader import Reader
from server.release.assembly import input_contract
from server.release.folder import write_release
from shared_model.config.composition import compose
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.network.efficientnet import VARIANTS
from shared_model.network.fusion import build_network
from shared_model.network.named_arrays import to_safetensors
from shared_model.network.state import constants_state, trainable_state
from shared_model.release.document import (
    MODEL_CARD_FILE,
    MODEL_FILE,
    Abstention,
    GreyContract,
    MeasuredCoverage,
    Provenance,
    PublicReference,
    Release,
    ScalingUncertainty,
    SitePrivacy,
    Threshold,
)
from shared_model.release.signature import digest_of
from shared_model.system.documents import to_json
from shared_model.vocabulary import Laterality, LesionType, Pathology, Split, View, clinical_width
from simulations.phantom.patients import Lesion
from simulations.phantom.presentation import presentation_film
from simulations.phantom.scanners import SCANNERS
from tests.hospital_kits import kit_in

LIMIT = "This release was made for a test: its network has seen no lesion."


def lesion_of(laterality):
    return Lesion(
        lesion_type=LesionType.MASS,
        split=Split.TEST,
        laterality=laterality,
        number=1,
        views=tuple(View),
        pathology=Pathology.MALIGNANT,
        recorded_density=2,
        shape_or_type="IRREGULAR",
        margins_or_distribution="SPICULATED",
        assessment=5,
        subtlety=5,
        aggressiveness=1.5,
    )


def write_film(path, *, patient="PH-0001", study="2.25.1", laterality=Laterality.LEFT, view=View.CC, seed=0, **changes):
    """Write one film and return the lesion's box on it, ``(x, y, width, height)``."""
    rng = np.random.default_rng(seed)
    dataset, box = presentation_film(lesion_of(laterality), view=view, density=2, scanner=SCANNERS["WFU"], rng=rng)
    dataset.SOPInstanceUID = f"2.25.{1000 + seed}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, "2.25.77"
    dataset.PatientID = dataset.PatientName = patient
    for name, value in changes.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, dataset, enforce_file_format=True)
    return box.x, box.y, box.width, box.height


def public_reference(rng):
    """Scores and grey levels of public lesions that nobody has."""
    measured = MeasuredCoverage(
        num_benign=200, num_malignant=150, coverage=0.906, coverage_benign=0.91, coverage_malignant=0.9, abstained=0.2,
        coverage_interval=None, coverage_benign_interval=None, coverage_malignant_interval=None,
        abstained_interval=None,
    )  # fmt: skip
    abstention = Abstention(
        # So low a level that every score is left one label.
        level=0.5,
        benign_scores=tuple(sorted(rng.beta(3, 4, 200))),
        malignant_scores=tuple(sorted(rng.beta(4, 3, 150))),
        measured=measured,
    )
    public = PublicReference(source="a test", overlaps_training=False, abstention=abstention, novelty=None)
    names = {"dark": 0.2, "middle": 0.4, "bright": 0.6, "contrast": 0.1, "white": 0.0}
    values = {name: tuple(sorted(level + 0.05 * rng.random(120))) for name, level in names.items()}
    grey = GreyContract(
        num_pictures=240, lowest=dict.fromkeys(names, -1.0), highest=dict.fromkeys(names, 1.0), values=values
    )
    return public, grey


def write_test_release(folder, *, has_public=False):
    """Write an unsigned release for films at a box and return its digest."""
    config = compose(["preset=smoke", "data.image.mode=roi", "data.views=all", "model.image_components=0"])
    network = build_network(config.model, clinical_width(config.data.features), seed=3)
    rng = np.random.default_rng(3)
    # A new network's last layer is zero: nothing would move its answers.
    moved = {
        name: np.asarray(array + 0.3 * rng.standard_normal(array.shape), dtype=np.float32)
        for name, array in trainable_state(network).items()
    }
    public, grey = public_reference(rng) if has_public else (None, None)
    files = {
        MODEL_FILE: to_safetensors({**moved, **constants_state(network)}),
        MODEL_CARD_FILE: b"# A release for tests\n",
    }
    release = Release(
        name="phantom films",
        is_signed=False,
        contract=input_contract(config, grey),
        threshold=Threshold(
            value=0.35, interval=ConfidenceInterval(low=0.3, high=0.42), source="a test", target_sensitivity=0.9
        ),
        scaling=ScalingUncertainty(
            source="a test",
            slopes=tuple(float(slope) for slope in np.linspace(0.8, 1.2, 40)),
            offsets=tuple(float(offset) for offset in np.linspace(-0.5, 0.5, 40)),
        ),
        public=public,
        figures=None,
        privacy_statement="No patient was trained on.",
        sites=(SitePrivacy(site="MGH", epsilon=8.0, delta=1e-5),),
        limits=("This is research software and no medical device.", LIMIT),
        provenance=Provenance(
            preset="smoke",
            source_fingerprint="0" * 64,
            config_fingerprint="0" * 64,
            run_finished="2026-01-01T00:00:00+00:00",
            versions={},
            encoder_sha256=VARIANTS[config.model.backbone].weights_sha256,
        ),
        files={name: digest_of(content) for name, content in files.items()},
    )
    return write_release(folder, to_json(release).encode(), files, None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """A hospital whose films wait to be read."""

    site: SiteFile
    reader: Reader
    release: Path
    films: Path
    boxes: dict[View, tuple[int, ...]]
    """Of the one patient's lesion in the left breast."""


def room_in(folder, *, has_public=False, **section):
    """Make a hospital with two studies: one of both views of both breasts, one with a single film.

    Its release knows scores and grey levels of public lesions if ``has_public``; ``section`` adds to ``reader``.
    """
    kit, films, release = kit_in(folder), folder / "films", folder / "release"
    boxes = {
        view: write_film(films / f"left{view}.dcm", view=view, seed=number) for number, view in enumerate(View, start=1)
    }
    for number, view in enumerate(View, start=3):
        write_film(films / f"right{view}.dcm", view=view, laterality=Laterality.RIGHT, seed=number)
    write_film(films / "alone.dcm", patient="PH-0002", study="2.25.2", seed=5)
    kit.change(reader={"studies": str(films), **section})
    digest = write_test_release(release, has_public=has_public)
    kit.site.approved_releases.write_text(f"{digest}\n")
    return Room(
        site=kit.site,
        reader=Reader.open(release, site=kit.site, accept_unsigned=True),
        release=release,
        films=films,
        boxes=boxes,
    )
