"""A training configuration, a small head, random lesions and networks that tests of private training share."""

import torch
from torch import nn

from shared_model.config.choices import Backbone, ConstantsFrom, FeatureEngine, Fusion, InitialHead, Loss, Modality
from shared_model.config.site_sections import ModelConfig, TrainingConfig
from shared_model.data.lesions import Lesions
from shared_model.network.fusion import build_network

CONFIG = TrainingConfig(
    num_rounds=1,
    local_steps=1,
    sampling_rate=1.0,
    learning_rate=1.0,
    momentum=0.0,
    weight_decay=0.0,
    loss=Loss.CROSS_ENTROPY,
    focal_gamma=2.0,
    positive_weight=1.0,
)
SIZES = [1, 2, 24, 3, 1, 5]
"""Lesions of each patient."""


class Head(nn.Module):
    """Image and clinical columns side by side through linear layers to a logit."""

    def __init__(self, num_inputs=9, hidden_width=0, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        layers = [nn.Linear(num_inputs, 1)]
        if hidden_width:
            layers = [nn.Linear(num_inputs, hidden_width), nn.Tanh(), nn.Linear(hidden_width, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images, has_image, clinical):
        images = images.flatten(1) * has_image.unsqueeze(1)
        return self.layers(torch.cat([images, clinical], 1)).squeeze(1)


def lesions_of(sizes, *, shape=(6,), clinical_width=3, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    patients = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.long))
    patients = patients[torch.randperm(len(patients), generator=generator)]
    count = len(patients)
    has_image = torch.rand(count, generator=generator) < 0.8
    images = torch.rand((count, *shape), generator=generator) if len(shape) > 1 else None
    if images is None:
        images = torch.randn((count, *shape), generator=generator) * scale
    return Lesions(
        images=images * has_image.view(-1, *[1] * len(shape)),
        has_image=has_image,
        clinical=torch.rand((count, clinical_width), generator=generator) * scale,
        labels=(torch.rand(count, generator=generator) < 0.5).float(),
        patients=patients,
    )


def network_of(*, fusion=Fusion.EARLY, modality=Modality.FUSION, hidden_width=0, backbone=Backbone.EFFICIENTNET_LITE0):
    """Return a network whose layers, other than at its start, are all off zero."""
    config = ModelConfig(
        modality=modality,
        fusion=fusion,
        backbone=backbone,
        feature_engine=FeatureEngine.TORCH,
        feature_constants=ConstantsFrom.PUBLIC,
        constants_file=None,
        initial_head=InitialHead.ZERO,
        image_components=0,
        hidden_width=hidden_width,
    )
    network = build_network(config, 3, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return network
