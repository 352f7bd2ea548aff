"""FusionNet: an image branch and a clinical branch that meet early, midway or late, and end in one logit.

Both branches get vectors of at most about unit length, so that one record's gradient is bounded before any clipping
and neither branch drowns the other in the clipped sum. A missing modality is normal and contributes exactly zero.
Nothing depends on other rows of the batch, no control flow depends on data: ``torch.func.vmap`` may map over patients.
"""

import torch
from torch import Tensor, nn

from shared_model.config.choices import Fusion, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError
from shared_model.network.backbone import build_encoder
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.heads import EarlyHead, LateHead, LogitLayer, MidHead, SingleHead
from shared_model.network.standardisation import Standardisation, unit_length
from shared_model.system.seeding import derive_seed

CLINICAL_SCALE = 0.5
"""Brings encoded clinical vectors to about unit length: a described mass has four ordinal entries of size up to 1
(density, side, view, type) and one or two set entries each for shape and margins, so its length is about 2. Dividing
by the root of the vector's width instead would count entries that are never set together."""

_FUSION_HEADS: dict[Fusion, type[EarlyHead | MidHead | LateHead]] = {
    Fusion.EARLY: EarlyHead,
    Fusion.MID: MidHead,
    Fusion.LATE: LateHead,
}


class FusionNet(nn.Module):
    """Images and clinical vectors to the logit of malignancy; ``build_network`` makes it reproducibly.

    Every parameter trains and takes part in every forward pass; what is frozen is a buffer. A network of one modality
    has no parameter of the other and ignores its input.
    """

    def __init__(self, model: ModelConfig, clinical_width: int) -> None:
        super().__init__()
        self.image_standardisation: Standardisation | None = None
        self.image_encoder: nn.Module | None = None
        self.reads_clinical = model.modality is not Modality.IMAGE
        image_width = 0 if model.modality is Modality.CLINICAL else self._add_image_path(model)
        self.head: nn.Module
        if model.modality is Modality.FUSION:
            self.head = _FUSION_HEADS[model.fusion](image_width, clinical_width, hidden_width=model.hidden_width)
        else:
            self.head = SingleHead(image_width or clinical_width, hidden_width=model.hidden_width)

    def _add_image_path(self, model: ModelConfig) -> int:
        if model.backbone.is_frozen:
            self.image_standardisation = Standardisation(FEATURE_WIDTH, model.image_components)
            return model.image_components or FEATURE_WIDTH
        self.image_encoder, width = build_encoder(model.backbone)
        return width

    def forward(self, images: Tensor, has_image: Tensor, clinical: Tensor) -> Tensor:
        """Return the logits ``(N,)``.

        Args:
            images: features ``(N, 320)`` of ``frozen_features`` for a frozen backbone, else pixels ``(N, 1, H, W)``
                in [0, 1]; finite, also where there is no image.
            has_image: ``(N,)``, bool.
            clinical: ``(N, C)``, entries in [-1, 1]; a row of zeros is a record without clinical data.

        Raises:
            ConfigError: principal components are asked for and the image constants are not set.
        """
        branches: list[Tensor] = []
        if self.image_standardisation is not None:
            branches += [unit_length(self.image_standardisation(images)), has_image]
        elif self.image_encoder is not None:
            branches += [unit_length(self.image_encoder(images)), has_image]
        if self.reads_clinical:
            branches += [clinical * CLINICAL_SCALE, (clinical != 0).any(dim=-1)]
        logits: Tensor = self.head(*branches)
        return logits

    def rescale_logits(self, *, scale: float, offset: float) -> None:
        """Turn every logit ``l`` into ``scale * l + offset``; with late fusion, 0 stays where both modalities miss."""
        for module in self.modules():
            if isinstance(module, LogitLayer):
                module.rescale(scale=scale, offset=offset)


def build_network(model: ModelConfig, clinical_width: int, *, seed: int) -> FusionNet:
    """Return the network with the initial weights of ``seed``; torch's global generator is left as it was.

    Args:
        model: its shape; ``backbone`` counts only where there is an image branch, ``image_components`` only where
            moreover the backbone is frozen.
        clinical_width: length ``C`` of the encoded clinical vector.
        seed: the experiment's root seed.

    Raises:
        ConfigError: more components than features, or no clinical column where one is needed.
    """
    if model.modality is not Modality.IMAGE and clinical_width < 1:
        raise ConfigError(f"Expected clinical_width={clinical_width} >= 1 with model.modality={model.modality}.")
    if model.backbone.is_frozen and model.image_components > FEATURE_WIDTH:
        raise ConfigError(f"Expected model.image_components={model.image_components} <= {FEATURE_WIDTH}.")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "network"))
        return FusionNet(model, clinical_width)
