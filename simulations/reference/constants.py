"""Feature constants, heads and what is usual, from a download of CBIS-DDSM: the file of ``model.feature_constants``.

Only patients of the official training split count, and of named hospitals if these are given. The head of every set of
columns is trained as one site without privacy would train it, which draws nothing: the same data give the same bytes on
the same machine.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from client.data.dataset import load_all_lesions
from client.data.tables.lesion_table import LesionTable, check_rejects
from client.data.tables.site_table import read_roster, read_table, restrict
from client.training.dp_sgd import LocalTraining, train_round
from client.training.noise import NoiseGenerator
from server.evaluation.feature_constants import feature_scale, fit_feature_constants
from server.evaluation.shipped_constants import CBIS_DDSM
from server.federation.server_optimizer import ServerState, apply_update
from shared_model.config.choices import DataSource, Fusion, Modality, PrivacyMode
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import CohortError, ConfigError
from shared_model.network.efficientnet import VARIANTS
from shared_model.network.fusion import build_network
from shared_model.network.named_arrays import Float32Array, difference
from shared_model.network.standardisation import FeatureConstants
from shared_model.network.state import load_feature_constants, load_trainable, trainable_state
from shared_model.reference.reference_file import (
    FORMAT_VERSION,
    IMAGE_HEAD,
    RESIDUAL_LEVELS,
    ReferenceFacts,
    column_names,
    head_array,
    to_bytes,
)
from shared_model.vocabulary import FeaturePolicy, Split, clinical_width

NUM_COMPONENTS = 16
"""Chosen among 16 and 32 by cross-validation; see docs/results.md."""
RECIPE = (
    "preset=cbis_mass",
    "privacy=off",
    "model.feature_constants=public",
    f"model.image_components={NUM_COMPONENTS}",
)
"""Overrides before those of the command: a head is trained as ``configs/training/off.yaml`` says."""
HEADS = (IMAGE_HEAD, FeaturePolicy.SAFE, FeaturePolicy.DESCRIPTORS)
"""None reads the radiologist's own verdict."""
LICENCE = "CC BY 3.0"
CITATION = (
    "Sawyer-Lee, Gimenez, Hoogi, Rubin 2016, Curated Breast Imaging Subset of Digital Database for Screening "
    "Mammography (CBIS-DDSM), The Cancer Imaging Archive, doi 10.7937/K9/TCIA.2016.7O02S9CY; Lee et al. 2017, Sci. "
    "Data 4:170177"
)
_PATHS = ("data.root", "data.roster", "data.cache_dir", "run.dir", "federation.ledger_dir")
"""Keys whose values are this machine's own, also where they are no more than a name."""


def reference_constants(overrides: Sequence[str], *, sites: Sequence[str] = ()) -> bytes:
    """Return the content of the file that the patients of a download give.

    Args:
        overrides: of the configuration; ``data.root`` is needed.
        sites: hospitals of ``data.roster`` whose patients count; all if empty.

    Raises:
        ConfigError: an override is wrong or does not fit; or the roster does not name a site.
        DataError: the data cannot be read, or are too few.
    """
    config = compose([*RECIPE, "run.dir=unused", *overrides])
    _require_usable(config)
    table = _training_table(config, sites)
    check_rejects(table, config.data.max_reject_fraction)
    lesions, table = load_all_lesions(table, config)
    check_rejects(table, config.data.max_reject_fraction)
    if len(set(lesions.labels.tolist())) < 2:
        raise CohortError("Expected benign and malignant lesions in the training split, got one class.")
    features = lesions.images[lesions.has_image]
    constants = fit_feature_constants(features, num_components=config.model.image_components)
    arrays = {"mean": constants.mean, "projection": constants.projection, **_usual(features, constants)}
    for name in HEADS:
        arrays[head_array(name)] = _trained_head(_reading(config, name), table, constants)
    return to_bytes(_facts(config, table, len(lesions), sites, overrides), arrays)


def _require_usable(config: ExperimentConfig) -> None:
    for is_met, key, value, expectation in (
        (config.privacy.mode is PrivacyMode.OFF, "privacy", config.privacy.mode, "off: the data are public"),
        (config.data.source is DataSource.CBIS_DDSM, "data.source", config.data.source, "cbis_ddsm"),
        (config.model.modality is not Modality.CLINICAL, "model.modality", config.model.modality, "fusion or image"),
        (config.model.backbone.is_frozen, "model.backbone", config.model.backbone, "one with frozen weights"),
        (config.model.image_components > 0, "model.image_components", config.model.image_components, "> 0"),
        (config.model.hidden_width == 0, "model.hidden_width", config.model.hidden_width, "0"),
        (config.training.sampling_rate == 1, "training.sampling_rate", config.training.sampling_rate, "1"),
    ):
        if not is_met:
            raise ConfigError(f"Expected {key}={value} to be {expectation} for constants of public lesions.")


def _training_table(config: ExperimentConfig, sites: Sequence[str]) -> LesionTable:
    """Return the rows of the training split, of the patients of ``sites`` if there are any."""
    table = read_table(config)
    kept = {str(patient) for patient in table.frame["patient_id"][table.frame["split"] == Split.TRAIN]}
    if sites:
        roster = read_roster(config.data, sites=sites)
        known = set() if roster is None else set(roster.values())
        missing = [site for site in sites if site not in known]
        if roster is None or missing:
            raise ConfigError(
                f"Expected --sites {', '.join(missing or sites)} in data.roster={config.data.roster}, which names "
                f"{', '.join(sorted(known)) or 'none'}."
            )
        kept &= {str(patient) for patient, site in roster.items() if site in sites}
    if not kept:
        raise CohortError("Expected patients of the training split, got none.")
    table = restrict(table, kept)
    return dataclasses.replace(table, frame=table.frame[table.frame["split"] == Split.TRAIN].reset_index(drop=True))


def _usual(features: torch.Tensor, constants: FeatureConstants) -> dict[str, Float32Array]:
    """Return what the components are over the lesions, and how much of them is left out."""
    values = features.double().numpy()
    scale = feature_scale(values)
    centred = values - constants.mean.astype(np.float64)
    components = centred @ constants.projection.astype(np.float64)
    left_out = ((centred * scale) ** 2).sum(axis=1) - (components**2).sum(axis=1)
    residuals = np.sqrt(np.maximum(left_out, 0.0))
    found = {
        "scale": scale,
        "component_mean": components.mean(axis=0),
        "component_std": components.std(axis=0, ddof=1),
        "residual_quantiles": np.quantile(residuals, RESIDUAL_LEVELS),
    }
    return {name: array.astype(np.float32) for name, array in found.items()}


def _reading(config: ExperimentConfig, head: str) -> ExperimentConfig:
    """Return the configuration of a network that reads what the head of this name does."""
    if head == IMAGE_HEAD:
        return dataclasses.replace(config, model=dataclasses.replace(config.model, modality=Modality.IMAGE))
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, modality=Modality.FUSION, fusion=Fusion.EARLY),
        data=dataclasses.replace(config.data, features=FeaturePolicy(head)),
    )


def _trained_head(config: ExperimentConfig, table: LesionTable, constants: FeatureConstants) -> Float32Array:
    """Return the weights of a linear head after a training without privacy on all lesions as one cohort."""
    lesions, _ = load_all_lesions(table, config)
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    load_feature_constants(network, constants)
    training, strategy = LocalTraining(config=config.training, plan=None), config.strategy
    # Whole cohorts without noise draw nothing.
    noise = NoiseGenerator.from_system_entropy()
    state = ServerState.from_parameters(trainable_state(network))
    last_not_averaged = config.training.num_rounds * (1 - strategy.average_last_fraction)
    for server_round in range(1, config.training.num_rounds + 1):
        load_trainable(network, state.parameters)
        train_round(network, lesions, training=training, noise=noise)
        update = difference(trainable_state(network), state.parameters)
        state = apply_update(state, update, strategy, is_averaged=server_round > last_not_averaged)
    (weights,) = state.average.values()
    return weights


def _facts(
    config: ExperimentConfig, table: LesionTable, num_lesions: int, sites: Sequence[str], overrides: Sequence[str]
) -> ReferenceFacts:
    shown = [override for override in overrides if _is_shown(*override.partition("=")[::2])]
    named = [f"--sites {','.join(sites)}"] if sites else []
    return ReferenceFacts(
        format_version=FORMAT_VERSION,
        data_set=CBIS_DDSM,
        licence=LICENCE,
        citation=CITATION,
        sites=tuple(sites),
        split=Split.TRAIN,
        patients=tuple(sorted({str(patient) for patient in table.frame["patient_id"]})),
        num_lesions=num_lesions,
        command=" ".join(["fedmammo reference constants data.root=PATH", *shown, *named]),
        backbone=config.model.backbone,
        weights_sha256=VARIANTS[config.model.backbone].weights_sha256,
        lesion_types=config.data.lesion_types,
        views=config.data.views,
        image=config.data.image,
        columns={name: column_names(name) for name in HEADS},
        content_sha256="",
    )


def _is_shown(key: str, value: str) -> bool:
    """Return whether an override is no path, of a key of ``_PATHS`` or of any other."""
    return key.lstrip("+") not in _PATHS and not set(value) & set("/\\")
