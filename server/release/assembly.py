"""A finished run -> the contents of its release. Counts of patients, identifiers and paths stay behind.

What goes in is the network (made of updates with noise), what the noisy histogram leaves open about its scaling, the
price at every site, and what was measured on lesions that the coordinator declares public.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.evaluation.training_histogram import TRAINING_HISTOGRAM_FILE, read_training_histogram
from server.release.model_card import to_model_card
from server.release.onnx_extra import require_onnx
from server.release.public_calibration import PublicCalibration, PublicLesions, calibrate_on_public
from server.release.uncertainty import NUM_DRAWS, Uncertainty, from_histogram, from_public_patients
from server.report.run_folder import PUBLIC_FILE
from server.results.document import AurocSource, Results
from shared_model.config.choices import Modality, NoiseSource, PrivacyMode
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.network.efficientnet import VARIANTS
from shared_model.network.fusion import FusionNet
from shared_model.network.named_arrays import is_finite, to_safetensors
from shared_model.network.scoring import predict
from shared_model.network.state import constants_state, trainable_state
from shared_model.release.document import (
    MODEL_CARD_FILE,
    MODEL_FILE,
    NOT_CALIBRATED,
    ONNX_FILE,
    REFERENCE_FILE,
    GreyContract,
    InputContract,
    Provenance,
    Release,
    ScalingUncertainty,
    SitePrivacy,
    TestFigures,
    Threshold,
    column_contracts,
)
from shared_model.release.signature import digest_of
from shared_model.system.documents import to_json
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import FeaturePolicy


@dataclass(frozen=True, kw_only=True)
class RunToRelease:
    """A finished run."""

    folder: Path
    config: ExperimentConfig
    results: Results
    network: FusionNet


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the coordinator decides about a release."""

    name: str
    is_signed: bool
    level: float
    """Of the conformal sets."""
    is_holdout_public: bool
    """Whether the figures of the coordinator's own test lesions may be told."""
    has_onnx: bool
    """Whether the network is there for other programs too."""


def assemble(run: RunToRelease, choices: Choices, public: PublicLesions | None) -> tuple[bytes, Mapping[str, bytes]]:
    """Return ``release.json`` and the other files by name.

    Args:
        run: with a threshold.
        choices: of the coordinator.
        public: lesions that the coordinator names; None takes the run's own, if it has any.

    Raises:
        ConfigError: the run has no threshold, nothing says how sure its scaling is, or the network cannot become an
            ONNX file.
        DataError: a file of the run cannot be read.
    """
    config, network = run.config, run.network
    own = _own_public(run.folder)
    threshold = _threshold(run)
    uncertainty, source = _uncertainty(run, own, threshold)
    calibration = _calibration(run, public or _as_public(own), choices)
    arrays = {**trainable_state(network), **constants_state(network)}
    if not is_finite(arrays):
        raise ConfigError(f"Expected a finite network in {run.folder}.")
    contract = input_contract(config, None if public is None else public.grey_reference)
    files = {MODEL_FILE: to_safetensors(arrays)}
    if choices.has_onnx:
        lesions = own if public is None else public.lesions
        files[ONNX_FILE] = _onnx(run, contract, lesions, {"model_sha256": digest_of(files[MODEL_FILE])})
    if calibration is not None and calibration.features is not None:
        files[REFERENCE_FILE] = to_safetensors(
            {"mean": calibration.features.mean, "whitening": calibration.features.whitening}
        )
    blank = {name: digest_of(b"") for name in (*files, MODEL_CARD_FILE)}
    release = Release(
        name=choices.name,
        is_signed=choices.is_signed,
        contract=contract,
        threshold=Threshold(
            value=threshold,
            interval=uncertainty.threshold,
            source=run.results.final.threshold_source.words,
            target_sensitivity=run.results.final.target_sensitivity,
        ),
        scaling=ScalingUncertainty(
            source=source, slopes=tuple(map(float, uncertainty.slopes)), offsets=tuple(map(float, uncertainty.offsets))
        ),
        public=None if calibration is None else calibration.reference,
        figures=_figures(run.results) if choices.is_holdout_public else None,
        privacy_statement=run.results.privacy.statement,
        sites=tuple(SitePrivacy(site=site.site, epsilon=site.epsilon, delta=site.delta) for site in run.results.sites),
        limits=_limits(run, is_calibrated=calibration is not None),
        provenance=_provenance(run),
        files=blank,
    )
    # The card is written from the document, which then names the card's digest.
    files[MODEL_CARD_FILE] = to_model_card(release).encode()
    release = dataclasses.replace(release, files={name: digest_of(content) for name, content in files.items()})
    return to_json(release).encode(), files


def _onnx(run: RunToRelease, contract: InputContract, public: Lesions | None, facts: Mapping[str, str]) -> bytes:
    require_onnx(contract.model)
    from server.release.onnx_export import to_onnx  # noqa: PLC0415, an extra
    from server.release.onnx_trial import require_equal  # noqa: PLC0415, an extra

    content = to_onnx(run.network, contract, facts=facts)
    require_equal(content, run.network, contract, public, seed=run.config.seed)
    return content


def _threshold(run: RunToRelease) -> float:
    threshold = run.results.final.threshold
    if threshold is None:
        raise ConfigError(
            f"Expected an operating threshold in {run.folder}: noise hid the patients that should have chosen it. Such "
            "a run cannot be released."
        )
    return threshold


def _own_public(folder: Path) -> Lesions | None:
    return Lesions.load(folder / PUBLIC_FILE) if (folder / PUBLIC_FILE).exists() else None


def _as_public(lesions: Lesions | None) -> PublicLesions | None:
    if lesions is None:
        return None
    return PublicLesions(
        lesions=lesions,
        source="the run's own public patients, on whom nothing was trained; the network's constants, scaling and "
        "threshold were chosen on them",
        overlaps_training=False,
        grey_reference=None,
    )


def _uncertainty(run: RunToRelease, public: Lesions | None, threshold: float) -> tuple[Uncertainty, str]:
    config, target = run.config, run.results.final.target_sensitivity
    generator = numpy_generator(config.seed, "release")
    if config.has_training_histogram:
        histogram = read_training_histogram(run.folder)
        if histogram is None:
            raise ConfigError(
                f"Expected {TRAINING_HISTOGRAM_FILE} in {run.folder}, which says how sure the scaling is; a run of an "
                "earlier version has none: run it again."
            )
        found = from_histogram(histogram, target_sensitivity=target, threshold=threshold, generator=generator)
        return found, f"{NUM_DRAWS} draws of the posterior given the histogram of training patients, with its noise"
    if public is None:
        raise ConfigError(
            "Expected evaluation.threshold_from=training, or public patients: nothing else says how sure the scaling "
            "of the run is."
        )
    found = from_public_patients(
        public.labels.numpy(),
        predict(run.network, public),
        public.patients.numpy(),
        target_sensitivity=target,
        threshold=threshold,
        generator=generator,
    )
    return found, f"{NUM_DRAWS} bootstrap samples of the run's public patients"


def _calibration(run: RunToRelease, public: PublicLesions | None, choices: Choices) -> PublicCalibration | None:
    if public is None:
        return None
    scores = predict(run.network, public.lesions)
    generator = numpy_generator(run.config.seed, "release folds")
    return calibrate_on_public(public, scores, level=choices.level, generator=generator)


def input_contract(config: ExperimentConfig, grey_reference: GreyContract | None) -> InputContract:
    """Return what a network of ``config`` reads; ``grey_reference`` are the grey levels of public lesions, if any."""
    return InputContract(
        image=config.data.image,
        # A path of the coordinator's machine, which a network that is trained does not need.
        model=dataclasses.replace(config.model, constants_file=None),
        features=config.data.features,
        views=config.data.views,
        lesion_types=config.data.lesion_types,
        columns=column_contracts(config.data.features, config.model.modality),
        grey_reference=grey_reference,
    )


def _figures(results: Results) -> TestFigures:
    final = results.final
    if final.auroc_source is not AurocSource.SERVER_HOLDOUT or final.num_lesions is None:
        raise ConfigError(
            "Expected the coordinator's own test lesions with --public-holdout; the figures of this run are of the "
            "sites' patients, and stay out of a release."
        )
    names = ("auroc", "sensitivity", "specificity")
    values = {name: getattr(final, name) for name in names}
    intervals = {f"{name}_interval": getattr(final, f"{name}_interval") for name in names}
    return TestFigures(num_lesions=final.num_lesions, **values, **intervals)


def _limits(run: RunToRelease, *, is_calibrated: bool) -> tuple[str, ...]:
    """Return when the answers are not to be trusted, whatever the lesion."""
    config = run.config
    limits = [
        "This is research software and no medical device: no decision about a patient may rest on it.",
        "It scores a lesion that somebody has found and marked; it finds none, and says nothing of the rest of the "
        "breast.",
        "The probability is that among lesions like those of the training, where malignant ones were more common than "
        "in screening.",
        "Other scanners, digital mammograms where it was trained on films, and other populations need a test of their "
        "own.",
        "The interval is of the scaling alone: of what the network does not know about this lesion it says nothing.",
    ]
    if not is_calibrated:
        limits.append(f"Of this release {NOT_CALIBRATED}: a picture unlike all that it was trained on gets an answer.")
    if config.privacy.mode is PrivacyMode.OFF or config.privacy.noise is NoiseSource.SEEDED:
        limits.append(f"The patients of its training are not protected. {run.results.privacy.statement}")
    if config.data.features is FeaturePolicy.READER and config.model.modality is not Modality.IMAGE:
        limits.append("The radiologist's own assessment is an input, and the network mostly repeats it.")
    return tuple(limits)


def _provenance(run: RunToRelease) -> Provenance:
    made, model = run.results.provenance, run.config.model
    return Provenance(
        preset=run.results.preset,
        source_fingerprint=made.source_fingerprint,
        config_fingerprint=made.config_fingerprint,
        run_finished=made.finished,
        versions=made.versions,
        encoder_sha256=VARIANTS[model.backbone].weights_sha256 if model.reads_frozen_features else None,
    )
