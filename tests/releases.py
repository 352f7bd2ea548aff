"""A small release of a network on crops and safe columns, written and signed as the coordinator would."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import torch

from client.data.images import read_image
from client.data.preprocessing import preprocess
from server.deployment.certificate_authority import authority_certificate, certificate_pem, new_key, server_certificate
from server.release.folder import write_release
from server.release.public_calibration import PublicLesions, calibrate_on_public
from shared_model.config import compose
from shared_model.config.choices import FeatureEngine
from shared_model.data.lesions import Lesions
from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import VARIANTS
from shared_model.network.fusion import build_network
from shared_model.network.named_arrays import to_safetensors
from shared_model.network.scoring import predict
from shared_model.network.state import constants_state, trainable_state
from shared_model.release.document import (
    MODEL_CARD_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    InputContract,
    Provenance,
    Release,
    ScalingUncertainty,
    SitePrivacy,
    Threshold,
    column_contracts,
)
from shared_model.release.signature import digest_of
from shared_model.system.documents import to_json
from shared_model.vocabulary import clinical_width

OVERRIDES = (
    "preset=cbis_mass", "data.root=.", "data.image.size=64", "model.backbone=efficientnet_lite0", "run.dir=unused",
    "federation.sites=[HOME]", "federation.min_sites=1",
)  # fmt: skip


def mass(path: Path, seed: int, *, is_malignant: bool = False, size: int = 64) -> Path:
    """Write a PNG of a bright round mass on darker tissue; a malignant one is rough."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(rows, columns) * (1 + 0.3 * is_malignant * np.sin(9 * np.arctan2(rows, columns)))
    grey = (
        70 + 110 / (1 + np.exp((radius - 0.25) * 40)) + generator.normal(scale=6 + 14 * is_malignant, size=(size, size))
    )
    cv2.imwrite(str(path), np.clip(grey, 0, 255).astype(np.uint8))
    return path


def negative(path: Path, out: Path) -> Path:
    cv2.imwrite(str(out), 255 - cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return out


def keys():
    """Key and certificate of a server, and the certificate of the authority that signed it."""
    authority, server, now = new_key(), new_key(), datetime.now(UTC)
    certificate = server_certificate(server, authority_key=authority, hosts=["a.example"], valid_days=9, now=now)
    return (server, certificate_pem(certificate)), certificate_pem(authority_certificate(authority, now))


def public_lesions(folder: Path, config, count: int = 160) -> PublicLesions:
    folder.mkdir(parents=True)
    pictures = [
        preprocess(
            read_image(mass(folder / f"{n}.png", n, is_malignant=n % 2 == 1)),
            config.data.image,
            laterality=None,
            box=None,
        )
        for n in range(count)
    ]
    lesions = Lesions(
        images=frozen_features(
            torch.from_numpy(np.stack(pictures)[:, None]), config.model.backbone, FeatureEngine.TORCH
        ),
        has_image=torch.ones(count, dtype=torch.bool),
        clinical=torch.zeros(count, clinical_width(config.data.features)),
        labels=(torch.arange(count) % 2).float(),
        patients=torch.arange(count),
    )
    return PublicLesions(lesions=lesions, source="masses that nobody has", overlaps_training=False, grey_reference=None)


def network_that_tells(config, public: PublicLesions):
    """Return a network whose image weights point from the benign to the malignant mean."""
    network = build_network(config.model, clinical_width(config.data.features), seed=0)
    images, labels = public.lesions.images, public.lesions.labels
    (weight,) = network.parameters()
    unit = images / images.norm(dim=1, keepdim=True)
    direction = unit[labels == 1].mean(0) - unit[labels == 0].mean(0)
    middle = (unit[labels == 1].mean(0) + unit[labels == 0].mean(0)) / 2
    scale = 8 / float(direction @ direction)
    with torch.no_grad():
        weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
        weight[0, : len(direction)] = scale * direction
        weight[0, -1] = -scale * float(direction @ middle) / 0.1
    return network


def document(config, files, *, is_signed, public=None, **changes) -> Release:
    model, features = config.model, config.data.features
    values = {
        "name": "test",
        "is_signed": is_signed,
        "contract": InputContract(
            image=config.data.image, model=model, features=features, views=config.data.views,
            lesion_types=config.data.lesion_types, columns=column_contracts(features, model.modality),
            grey_reference=None,
        ),
        "threshold": Threshold(
            value=0.4, interval=ConfidenceInterval(low=0.35, high=0.45), source="patients", target_sensitivity=0.9
        ),
        "scaling": ScalingUncertainty(
            source="draws", slopes=tuple(np.linspace(0.8, 1.2, 40)), offsets=tuple(np.linspace(-0.2, 0.2, 40))
        ),
        "public": public,
        "figures": None,
        "privacy_statement": "Private.",
        "sites": (SitePrivacy(site="HOME", epsilon=8.0, delta=1e-4),),
        "limits": ("No medical device.",),
        "provenance": Provenance(
            preset="cbis_mass", source_fingerprint="a", config_fingerprint="b", run_finished="then", versions={},
            encoder_sha256=VARIANTS[model.backbone].weights_sha256 if model.reads_frozen_features else None,
        ),
        "files": {name: digest_of(content) for name, content in files.items()},
    }  # fmt: skip
    return Release(**(values | changes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Released:
    folder: Path
    digest: str
    authority: bytes
    config: object
    network: object


def release_in(folder: Path, *overrides, with_public=False, is_signed=True, more=None, **changes) -> Released:
    """Write a release of the network below ``folder``, with ``more`` files by name."""
    config = compose([*OVERRIDES, *overrides])
    known = public_lesions(folder / "public", config) if config.model.reads_frozen_features else None
    if known is None:
        network = build_network(config.model, clinical_width(config.data.features), seed=0)
    else:
        network = network_that_tells(config, known)
    arrays = {**trainable_state(network), **constants_state(network)}
    files, reference = {MODEL_FILE: to_safetensors(arrays), MODEL_CARD_FILE: b"a card", **(more or {})}, None
    if with_public:
        found = calibrate_on_public(
            known, predict(network, known.lesions), level=0.9, generator=np.random.default_rng(0)
        )
        reference = found.reference
        files[REFERENCE_FILE] = to_safetensors(vars(found.features))
    content = to_json(document(config, files, is_signed=is_signed, public=reference, **changes)).encode()
    signer, authority = keys()
    digest = write_release(folder / "release", content, files, signer if is_signed else None)
    return Released(folder=folder / "release", digest=digest, authority=authority, config=config, network=network)
