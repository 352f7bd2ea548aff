"""A release of a network that has learnt nothing, with all that takes time in a reading: for measurements alone."""

from pathlib import Path

import numpy as np

from server.release.assembly import input_contract
from server.release.folder import write_release
from shared_model.config.composition import compose
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.network.efficientnet import FEATURE_WIDTH, VARIANTS
from shared_model.network.fusion import build_network
from shared_model.network.named_arrays import to_safetensors
from shared_model.network.state import constants_state, trainable_state
from shared_model.release.document import (
    MODEL_CARD_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    Novelty,
    Provenance,
    PublicReference,
    Release,
    ScalingUncertainty,
    SitePrivacy,
    Threshold,
)
from shared_model.release.signature import digest_of
from shared_model.system.documents import to_json
from shared_model.vocabulary import clinical_width

_WORDS = "made for a measurement; its network has seen no lesion"


def write_untrained_release(folder: Path, mode: str) -> str:
    """Write a release of the preset ``cbis_mass`` for ``data.image.mode`` ``mode``, unsigned; return its digest.

    It has features of public lesions that nobody has, since a reading looks at its own negative beside them.
    """
    config = compose(["preset=cbis_mass", "data.root=.", f"data.image.mode={mode}"])
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    reference = {
        "mean": np.zeros(FEATURE_WIDTH, dtype=np.float32),
        # So narrow that no lesion lies beyond the limit.
        "whitening": 1e-6 * np.eye(FEATURE_WIDTH, dtype=np.float32),
    }
    files = {
        MODEL_FILE: to_safetensors({**trainable_state(network), **constants_state(network)}),
        REFERENCE_FILE: to_safetensors(reference),
        MODEL_CARD_FILE: f"A release {_WORDS}.\n".encode(),
    }
    release = Release(
        name="untrained",
        is_signed=False,
        contract=input_contract(config, None),
        threshold=Threshold(
            value=0.5, interval=ConfidenceInterval(low=0.4, high=0.6), source=_WORDS, target_sensitivity=0.9
        ),
        scaling=ScalingUncertainty(
            source=_WORDS,
            slopes=tuple(map(float, np.linspace(0.8, 1.2, 1000))),
            offsets=tuple(map(float, np.linspace(-0.5, 0.5, 1000))),
        ),
        public=PublicReference(
            source=_WORDS,
            overlaps_training=False,
            abstention=None,
            novelty=Novelty(num_lesions=1, limit=1.0, flagged=0.0),
        ),
        figures=None,
        privacy_statement="Nobody was trained on.",
        sites=(SitePrivacy(site="nobody", epsilon=0.0, delta=None),),
        limits=(f"This release was {_WORDS}.",),
        provenance=Provenance(
            preset="cbis_mass",
            source_fingerprint="0" * 64,
            config_fingerprint="0" * 64,
            run_finished="never",
            versions={},
            encoder_sha256=VARIANTS[config.model.backbone].weights_sha256,
        ),
        files={name: digest_of(content) for name, content in files.items()},
    )
    return write_release(folder, to_json(release).encode(), files, None)
