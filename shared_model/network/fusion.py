"""The fusion network: an image branch and a clinical branch, joined early, midway or late, that give one logit.

Both branches pass on vectors of about unit length at most. So the gradient of one record is bounded even before it is
clipped, and neither branch outweighs the other in the clipped sum. ``heads`` holds the layers that join the branches.
"""

import torch
from torch import Tensor, nn

from shared_model.config.choices import Fusion, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError
from shared_model.network.backbone import build_encoder
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.heads import EarlyHead, LateHead, LogitLayer, MidHead, RowwiseLinear, SingleHead
from shared_model.network.standardisation import Standardisation, unit_length
from shared_model.system.seeding import derive_seed

CLINICAL_SCALE = 0.5
"""Factor that brings encoded clinical vectors to about unit length.

A described mass has four ordinal entries of size up to 1 (density, side, view, type) and one or two entries of 1 each
for shape and margins, so its length is about 2. Dividing by the square root of the vector's width instead would count
entries that are never set together.
"""

_FUSION_HEADS: dict[Fusion, type[EarlyHead | MidHead | LateHead]] = {
    Fusion.EARLY: EarlyHead,
    Fusion.MID: MidHead,
    Fusion.LATE: LateHead,
}


class FusionNet(nn.Module):
    """Network from images and clinical vectors to the logit of malignancy; ``build_network`` makes it reproducibly.

    Every parameter is trained and used in every forward pass; frozen values are buffers. A network of one modality has
    no parameters for the other modality and ignores its input.
    """

    def __init__(self, model: ModelConfig, clinical_width: int) -> None:
        super().__init__()
        self.structure = (model, clinical_width)
        """Networks of an equal one compute alike, with other numbers."""
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
            ConfigError: principal components are configured and the image constants are not set.
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

    @property
    def linear_head(self) -> RowwiseLinear:
        """The head's one layer, where the head is linear in what it reads (``ModelConfig.has_linear_head``).

        Raises:
            ValueError: it is not.
        """
        if isinstance(self.head, (SingleHead, EarlyHead)) and isinstance(self.head.embedding, nn.Identity):
            return self.head.output.linear
        raise ValueError("Expected a linear head: one modality or model.fusion=early, and model.hidden_width=0.")

    def rescale_logits(self, *, scale: float, offset: float) -> None:
        """Turn every logit ``l`` into ``scale * l + offset``.

        With late fusion the logit of a record without image and clinical data stays 0.
        """
        for module in self.modules():
            if isinstance(module, LogitLayer):
                module.rescale(scale=scale, offset=offset)


def build_network(model: ModelConfig, clinical_width: int, *, seed: int) -> FusionNet:
    """Return the network with the initial weights of ``seed``; torch's global generator is left as it was.

    Args:
        model: what to build; ``backbone`` matters only with an image branch, ``image_components`` only if the
            backbone is frozen too.
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
