"""Saliency maps and attributions: which pixels and columns of a lesion moved the network's score.

Maps and attributions come from Captum (BSD-3-Clause), which takes networks of several inputs; pytorch-grad-cam would
install another OpenCV over the one used here. Captum has no Grad-CAM++, which is therefore computed here from Captum's
gradients and activations.
"""

from collections.abc import Mapping

import numpy as np
import torch
from captum.attr import LayerActivation, LayerGradCam, LayerGradientXActivation
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from shared_model.explanations.contributions import ModalityShare, attributions_of_columns, share_of_modalities
from shared_model.network.backbone import SmallCNN, dihedral_orbit
from shared_model.network.efficientnet import EfficientNetLite
from shared_model.network.fusion import FusionNet
from shared_model.vocabulary import ClinicalColumn

FloatArray = NDArray[np.float32]

_STAGE_AT_STRIDE_16 = 4
"""The fifth of an EfficientNet-Lite's seven stages; the sixth halves the map again."""


class LesionScorer(nn.Module):
    """Scores one lesion from its pixels, by the same path as in training, so that gradients reach the pixels.

    A frozen encoder sees the eight orientations of the square and averages their features, so its input here is that
    orbit ``(8, 1, S, S)``; one that was trained sees ``(1, 1, S, S)``. Where the network reads the mean over the views
    of a lesion, the other views' features are held fixed.
    """

    def __init__(
        self,
        network: FusionNet,
        clinical: Tensor,
        *,
        frozen_encoder: EfficientNetLite | None,
        other_views: Tensor | None = None,
    ) -> None:
        """Fix what does not depend on the pixels.

        Args:
            network: the trained network.
            clinical: ``(C,)``.
            frozen_encoder: None where the network has its own.
            other_views: ``(V, D)``, features with which those of the pixels are averaged; None for none.

        Raises:
            ValueError: no encoder, or two, or other views without a frozen one.
        """
        super().__init__()
        if (frozen_encoder is None) == (network.image_encoder is None):
            raise ValueError("Expected one image encoder, frozen or the network's own.")
        if frozen_encoder is None and other_views is not None:
            raise ValueError("Expected a frozen encoder where other views are averaged.")
        self.network = network.eval()
        self.clinical = clinical[None]
        self.frozen = frozen_encoder
        self.other_views = other_views

    def orientations(self, pixels: Tensor) -> Tensor:
        """Return the network's input for one image ``(1, S, S)``."""
        return pixels[None] if self.frozen is None else dihedral_orbit(pixels)

    def merge(self, maps: Tensor) -> Tensor:
        """Bring maps ``(V, S, S)`` of the orientations back to the image and average them to ``(S, S)``."""
        if self.frozen is None:
            return maps[0]
        turned = [torch.rot90(maps[turns], -turns, dims=(0, 1)) for turns in range(4)]
        flipped = [torch.rot90(maps[4 + turns].flip(1), -turns, dims=(0, 1)) for turns in range(4)]
        return torch.stack(turned + flipped).mean(dim=0)

    def image_input(self, orientations: Tensor) -> Tensor:
        """Return what the network calls the image: features ``(1, D)`` or pixels ``(1, 1, S, S)``."""
        if self.frozen is None:
            return orientations
        features: Tensor = self.frozen(orientations).mean(dim=0, keepdim=True)
        return features if self.other_views is None else torch.cat((features, self.other_views)).mean(0, keepdim=True)

    def forward(self, orientations: Tensor) -> Tensor:
        """Return the logit ``(1,)``."""
        logit: Tensor = self.network(self.image_input(orientations), torch.ones(1, dtype=torch.bool), self.clinical)
        return logit

    def probability(self, pixels: Tensor) -> float:
        """Return the probability of malignancy of one image ``(1, S, S)``, in [0, 1]."""
        with torch.no_grad():
            return float(torch.sigmoid(self(self.orientations(pixels))))

    @property
    def layer(self) -> nn.Module:
        """The last layer whose map has a stride of 16 or less; of a small CNN the one before its last halving."""
        encoder: nn.Module | None = self.frozen or self.network.image_encoder
        if isinstance(encoder, EfficientNetLite):
            return encoder.stages[_STAGE_AT_STRIDE_16]
        if isinstance(encoder, SmallCNN):
            return encoder.get_submodule(f"layers.{len(encoder.layers) - 2}")
        if encoder is None:
            raise ValueError("Expected a network with an image encoder.")
        names = {name for name, _ in encoder.named_modules()}
        return encoder.get_submodule("layer3" if "layer3" in names else "0.denseblock3")


def grad_cam(scorer: LesionScorer, pixels: Tensor) -> FloatArray:
    """Return what speaks for malignancy (Selvaraju et al. 2017, Grad-CAM), scaled to a largest value of 1.

    Args:
        scorer: of the lesion.
        pixels: ``(1, S, S)`` in [0, 1].

    Returns:
        ``(S, S)``, float32, in [0, 1]; all 0 where nothing speaks for it.
    """
    maps = LayerGradCam(scorer, scorer.layer).attribute(scorer.orientations(pixels), relu_attributions=True)
    return _to_image(scorer, maps.detach(), pixels.shape[-1])


def grad_cam_plus_plus(scorer: LesionScorer, pixels: Tensor) -> FloatArray:
    """Return Grad-CAM++ (Chattopadhay et al. 2018, eq. 19, with an exponential output); as ``grad_cam``."""
    orientations = scorer.orientations(pixels)
    gradients = (
        LayerGradientXActivation(scorer, scorer.layer, multiply_by_inputs=False).attribute(orientations).detach()
    )
    activations = LayerActivation(scorer, scorer.layer).attribute(orientations).detach()
    summed = activations.sum(dim=(2, 3), keepdim=True)
    denominator = 2 * gradients**2 + summed * gradients**3
    alpha = torch.where(denominator.abs() > 1e-20, gradients**2 / denominator, torch.zeros_like(gradients))
    weights = (alpha * gradients.relu()).sum(dim=(2, 3), keepdim=True)
    return _to_image(scorer, (weights * activations).sum(dim=1, keepdim=True).relu(), pixels.shape[-1])


def _to_image(scorer: LesionScorer, maps: Tensor, size: int) -> FloatArray:
    scaled = functional.interpolate(maps, size=(size, size), mode="bilinear", align_corners=False)[:, 0]
    merged = scorer.merge(scaled)
    largest = float(merged.max())
    return np.asarray((merged / largest if largest > 0 else torch.zeros_like(merged)).numpy(), dtype=np.float32)


def column_attributions(
    scorer: LesionScorer, pixels: Tensor, columns: tuple[ClinicalColumn, ...]
) -> Mapping[str, float]:
    """Return what each clinical column of a lesion adds to its logit; see ``attributions_of_columns``."""
    with torch.no_grad():
        image = scorer.image_input(scorer.orientations(pixels))
    return attributions_of_columns(scorer.network, image, scorer.clinical, columns)


def modality_share(scorer: LesionScorer, pixels: Tensor) -> ModalityShare:
    """Return how the logit of a lesion splits over the two modalities; see ``share_of_modalities``."""
    with torch.no_grad():
        image = scorer.image_input(scorer.orientations(pixels))
    return share_of_modalities(scorer.network, image, scorer.clinical)
