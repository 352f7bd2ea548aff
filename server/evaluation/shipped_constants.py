"""Numbers of public lesions in the network of a run: feature constants, and the head that it begins with."""

import unicodedata
from pathlib import Path

from shared_model.config.choices import ConstantsFrom, DataSource, InitialHead
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import ConfigError
from shared_model.network.fusion import FusionNet
from shared_model.network.state import load_feature_constants, load_trainable, trainable_state
from shared_model.reference.reference_file import SHIPPED_FILE, Reference, read_reference

CBIS_DDSM = "CBIS-DDSM"
"""The data set of ``data.source=cbis_ddsm``, as files name it."""


def load_shipped(config: ExperimentConfig) -> Reference | None:
    """Return the checked numbers that the run begins with; None where it asks for none.

    Raises:
        ConfigError: the file cannot be read, is none, is of other encoder, images or columns; or the run is over the
            patients whom it is made of, as far as a configuration can tell.
    """
    if config.model.feature_constants is not ConstantsFrom.SHIPPED:
        return None
    path = config.model.constants_file
    reference = read_reference(SHIPPED_FILE if path is None else Path(path))
    reference.require_fits(config)
    _require_other_patients(reference, config)
    return reference


def set_shipped(network: FusionNet, reference: Reference, config: ExperimentConfig) -> None:
    """Set the constants, and the head if ``model.initial_head=shipped``."""
    load_feature_constants(network, reference.constants)
    if config.model.initial_head is InitialHead.SHIPPED:
        # The one trainable array of a linear head: the configuration allows no other.
        (name,) = trainable_state(network)
        load_trainable(network, {name: reference.head(config)})


def _require_other_patients(reference: Reference, config: ExperimentConfig) -> None:
    """Check that sites that read the tables of the same data set are other hospitals.

    Identifiers are compared where there are any: in a simulation, before it trains.
    """
    facts = reference.facts
    if config.data.source is not DataSource.CBIS_DDSM or _folded(facts.data_set) != _folded(CBIS_DDSM):
        return
    named = set(map(_folded, facts.sites))
    if not named or named & set(map(_folded, config.federation.sites)):
        raise ConfigError(
            f"Expected constants of other patients than those of data.source=cbis_ddsm, got those of {facts.origin}: "
            "make them with fedmammo reference constants --sites of hospitals that are not in federation.sites, or set "
            "data.source=manifest where the sites have patients of their own."
        )


def _folded(name: str) -> str:
    """Return letters and digits of a name alone, without regard to case: rosters are compared without regard to space.

    It takes some names for equal that are not; a run is then refused, and no patient counted twice.
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))
