"""Whether this machine computes a patient's numbers alike wherever she stands in a batch, and so at full speed."""

import dataclasses

import torch

from client.deployment.checks import Doubt
from client.deployment.own_patients import own_config
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from shared_model.config.experiment import ExperimentConfig
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import build_network
from shared_model.network.row_independence import layer_outputs, positions_agree, with_invented_numbers
from shared_model.network.scoring import ROWS_PER_PASS
from shared_model.vocabulary import clinical_width


def check_arithmetic(site: SiteFile) -> str:
    """Try a head of the default configuration on a full batch of invented lesions.

    Raises:
        Doubt: positions differ; the site then computes each patient by herself, which is slower and as private.
        ConfigError: the policy cannot be used.
    """
    config = own_config(site, SitePolicy.load(site.policy))
    if not _positions_agree(config):
        raise Doubt("positions of a batch differ in their last bits: each patient is computed by herself, slowly")
    return "rows of a batch do not depend on each other"


def _positions_agree(config: ExperimentConfig) -> bool:
    width = clinical_width(config.data.features)
    # Components of the features would need constants that a server computes.
    model = dataclasses.replace(config.model, image_components=0)
    # A new network's last layer is zero: whatever the layers before compute, all its logits are equal.
    network = with_invented_numbers(build_network(model, width, seed=0).eval())
    rows = (
        torch.zeros(ROWS_PER_PASS, FEATURE_WIDTH),
        torch.ones(ROWS_PER_PASS, dtype=torch.bool),
        torch.zeros(ROWS_PER_PASS, width),
    )
    with torch.inference_mode():
        return positions_agree(lambda batch: layer_outputs(network, batch), rows)
