"""Small models, random records and networks whose layers are not zero any more."""

import numpy as np
import torch

from shared_model.config.choices import Backbone, ConstantsFrom, FeatureEngine, Fusion, InitialHead, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.network.fusion import FusionNet
from shared_model.network.state import load_trainable, trainable_state

WIDTH = 5
"""Of the clinical vector."""


def make_model(
    modality="fusion", fusion=Fusion.EARLY, hidden_width=0, components=0, backbone="efficientnet_lite0", engine="torch"
):
    return ModelConfig(
        modality=Modality(modality),
        fusion=Fusion(fusion),
        backbone=Backbone(backbone),
        feature_engine=FeatureEngine(engine),
        feature_constants=ConstantsFrom.PUBLIC,
        constants_file=None,
        initial_head=InitialHead.ZERO,
        image_components=components,
        hidden_width=hidden_width,
    )


def make_records(num_records, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(num_records, 320, generator=generator)
    clinical = torch.rand(num_records, WIDTH, generator=generator) * 2 - 1
    return images, torch.ones(num_records, dtype=torch.bool), clinical


def randomise(network: FusionNet, seed=0) -> FusionNet:
    """As after some training: no layer is zero any more."""
    generator = np.random.default_rng(seed)
    state = trainable_state(network)
    load_trainable(network, {n: a + generator.normal(0, 0.5, a.shape).astype(np.float32) for n, a in state.items()})
    return network


def make_pattern(size):
    """Return a fixed image without any symmetry, ``(1, 1, size, size)``."""
    row, column = torch.meshgrid(torch.arange(size) / size, torch.arange(size) / size, indexing="ij")
    return (0.5 + 0.3 * torch.sin(9 * row + 4 * column**2) + 0.2 * torch.cos(17 * column * row))[None, None]
