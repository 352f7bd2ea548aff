"""Contributions: Captum's integrated gradients, which share no code with ours, and sums that add up to the logit."""

import pytest
import torch
from captum.attr import IntegratedGradients

from shared_model.config import compose
from shared_model.explanations.contributions import attributions_of_columns, share_of_modalities
from shared_model.network.fusion import build_network
from shared_model.vocabulary import FeaturePolicy, clinical_columns, clinical_width


@pytest.mark.parametrize("fusion", ["early", "mid", "late"])
def test_columns_are_those_of_captum_and_all_adds_up(fusion):
    overrides = ["preset=smoke", "data.root=.", "model.image_components=0", "model.hidden_width=6"]
    config = compose([*overrides, f"model.fusion={fusion}"])
    policy, generator = FeaturePolicy.DESCRIPTORS, torch.Generator().manual_seed(0)
    network = build_network(config.model, clinical_width(policy), seed=0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    image = torch.randn(1, 320, generator=generator)
    clinical = torch.rand(1, clinical_width(policy), generator=generator)

    def logit(rows):
        return network(image.expand(len(rows), -1), torch.ones(len(rows), dtype=torch.bool), rows)

    entries = IntegratedGradients(logit).attribute(clinical.clone().requires_grad_(), n_steps=64)[0].detach()
    found = attributions_of_columns(network, image, clinical, clinical_columns(policy))
    expected = [float(part.sum()) for part in entries.split([column.width for column in clinical_columns(policy)])]
    assert list(found.values()) == pytest.approx(expected, abs=1e-4)
    share = share_of_modalities(network, image, clinical)
    assert share.base + share.image + share.clinical == pytest.approx(float(logit(clinical).detach()), abs=1e-4)
