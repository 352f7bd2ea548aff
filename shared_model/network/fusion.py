"""FusionNet: an image branch and a clinical branch that meet early, midway or late, and end in one logit.

Both branches get vectors of at most about unit length, so that one record's gradient is bounded before any clipping
and neither branch drowns the other in the clipped sum. A missing modality is normal and contributes exactly zero.
Nothing depends on other rows of the batch, no control flow depends on data: ``torch.func.vmap`` may map over patients.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared_model.config.choices import Fusion, Modality
from shared_model.config.site_sections import ModelConfig
from shared_model.errors import ConfigError
from shared_model.network.backbone import build_encoder
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.parameters import FloatArray, Parameters
from shared_model.system.seeding import derive_seed

CLINICAL_SCALE = 0.5
"""Brings encoded clinical vectors to about unit length: a described mass has four ordinal entries of size up to 1
(density, side, view, type) and one or two set entries each for shape and margins, so its length is about 2. Dividing
by the root of the vector's width instead would count entries that are never set together."""
RIDGE = 1.0
"""Added to every variance before dividing by its root, in units of the mean variance over the features."""
BIAS_INPUT = 0.1
"""The constant that the bias is multiplied by. With 1, as usual, the bias would be the largest entry of most gradients
and take what clipping leaves from the entries that rank lesions; the threshold is chosen after training anyway."""
MIN_LENGTH = 1e-6
"""A shorter vector is not stretched to unit length: its direction would be rounding error."""

_PREFIX = "image_standardisation."


@dataclass(frozen=True, kw_only=True)
class FeatureConstants:
    """Public constants of the image path: features ``x`` become ``(x - mean) @ projection``."""

    mean: FloatArray
    """``(D,)``, float32."""
    projection: FloatArray
    """``(D, K)``, float32."""


def calibrate(features: Tensor, *, num_components: int) -> FeatureConstants:
    """Compute the standardisation from the features of public lesions; what a site keeps private never enters.

    Every feature is divided by its standard deviation; the mean variance over the features is added to every variance
    first, so that a feature which hardly varies among a few hundred lesions is not blown up. With ``num_components``
    the result is then projected onto its leading principal components, which keep their variances: whitening them
    would give the weakest as much of the noise's room as the strongest. Signs are fixed: the largest loading of a
    component is positive.

    Args:
        features: ``(M, D)``, the frozen features of lesions that have an image.
        num_components: ``K``; 0 keeps all ``D`` features.

    Raises:
        ConfigError: fewer than two lesions, or too few for ``num_components`` components.
        ValueError: a feature is not finite, or all lesions are alike.
    """
    values = features.detach().cpu().numpy().astype(np.float64)
    _check_calibration(values, num_components)
    mean = values.mean(axis=0)
    centred = values - mean
    variances = centred.var(axis=0, ddof=1)
    projection = np.diag(1 / np.sqrt(variances + RIDGE * variances.mean()))
    if num_components > 0:
        _, _, directions = np.linalg.svd(centred @ projection, full_matrices=False)
        projection = projection @ _with_fixed_signs(directions[:num_components].T)
    return FeatureConstants(mean=mean.astype(np.float32), projection=projection.astype(np.float32))


def _check_calibration(values: NDArray[np.float64], num_components: int) -> None:
    num_lesions, width = values.shape
    needed = max(2, num_components + 1)
    if num_lesions < needed:
        raise ConfigError(
            f"Expected public lesions with an image={num_lesions} >= {needed} for model.image_components="
            f"{num_components}: raise data.public_fraction or lower model.image_components."
        )
    if num_components > width:
        raise ConfigError(f"Expected model.image_components={num_components} <= {width} features.")
    if not np.isfinite(values).all():
        raise ValueError("Expected finite features.")
    if not np.ptp(values, axis=0).any():
        raise ValueError("Expected features that differ between lesions.")


def _with_fixed_signs(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(directions.shape[1])]
    return directions * np.where(largest < 0, -1.0, 1.0)


def unit_length(vectors: Tensor) -> Tensor:
    """Divide ``(N, D)`` by its row lengths; rows shorter than ``MIN_LENGTH`` are divided by ``MIN_LENGTH`` instead."""
    lengths: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / lengths.clamp_min(MIN_LENGTH)


class Standardisation(nn.Module):
    """Applies ``FeatureConstants``, kept as buffers; with components there are none until they are set."""

    mean: Tensor | None
    projection: Tensor | None

    def __init__(self, width: int, num_components: int) -> None:
        super().__init__()
        self.shapes: dict[str, tuple[int, ...]] = {"mean": (width,), "projection": (width, num_components or width)}
        self.register_buffer("mean", None if num_components else torch.zeros(width))
        self.register_buffer("projection", None if num_components else torch.eye(width))

    def constants(self) -> tuple[Tensor, Tensor]:
        """Return mean and projection.

        Raises:
            ConfigError: components are asked for and the constants are not set.
        """
        if self.mean is None or self.projection is None:
            raise ConfigError(
                "Expected image constants with model.image_components > 0: set what calibrate() returns for the "
                "public lesions (data.public_fraction > 0), or choose model.image_components=0."
            )
        return self.mean, self.projection

    def forward(self, features: Tensor) -> Tensor:
        """Map features ``(N, D)`` to ``(N, K)``; errors as ``constants``."""
        mean, projection = self.constants()
        return (features - mean) @ projection


def _keep(vectors: Tensor, is_present: Tensor) -> Tensor:
    return torch.where(is_present.unsqueeze(-1), vectors, torch.zeros_like(vectors))


def _embedding(width: int, hidden_width: int) -> tuple[nn.Module, int]:
    """Return one hidden layer, or the identity for ``hidden_width == 0``, and the width of its output.

    The activation is tanh: being bounded it bounds the gradient of what follows, and under DP-SGD it does better than
    ReLU (Papernot et al. 2021, Tempered Sigmoid Activations for Deep Learning with Differential Privacy).
    """
    if hidden_width == 0:
        return nn.Identity(), width
    return nn.Sequential(nn.Linear(width, hidden_width), nn.Tanh()), hidden_width


class LogitLayer(nn.Module):
    """A linear layer to one logit that starts at zero: every record begins with probability one half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width + 1, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map ``(N, width)`` to logits ``(N,)``; the last weight, times ``BIAS_INPUT``, is the bias."""
        constant = torch.full_like(vectors[..., :1], BIAS_INPUT)
        logits: Tensor = self.linear(torch.cat((vectors, constant), dim=-1))
        return logits.squeeze(-1)

    def rescale(self, *, scale: float, offset: float) -> None:
        """Turn every logit ``l`` of this layer into ``scale * l + offset``."""
        with torch.no_grad():
            self.linear.weight *= scale
            self.linear.weight[:, -1] += offset / BIAS_INPUT


class SingleHead(nn.Module):
    """One modality to a logit."""

    def __init__(self, width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.embedding, embedding_width = _embedding(width, hidden_width)
        self.output = LogitLayer(embedding_width)

    def forward(self, vectors: Tensor, is_present: Tensor) -> Tensor:
        """Map ``(N, width)`` and ``(N,)`` bool to logits ``(N,)``; a missing modality leaves the bias alone."""
        logits: Tensor = self.output(_keep(self.embedding(vectors), is_present))
        return logits


class EarlyHead(nn.Module):
    """Both vectors side by side through one joint layer; the hidden layer, if any, sees both at once."""

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.embedding, embedding_width = _embedding(image_width + clinical_width, hidden_width)
        self.output = LogitLayer(embedding_width)

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``."""
        joint = torch.cat((_keep(image, has_image), _keep(clinical, has_clinical)), dim=-1)
        logits: Tensor = self.output(self.embedding(joint))
        return logits


class MidHead(nn.Module):
    """The clinical embedding scales and shifts the image embedding (FiLM, Perez et al. 2018, arXiv 1709.07871).

    The modulation starts as the identity, and the clinical embedding also enters the logit additively, so that a
    record without an image, or without clinical data, keeps what the other modality says.
    """

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.image_embedding, image_width = _embedding(image_width, hidden_width)
        self.clinical_embedding, clinical_width = _embedding(clinical_width, hidden_width)
        self.modulation = nn.Linear(clinical_width, 2 * image_width, bias=False)
        nn.init.zeros_(self.modulation.weight)
        self.output = LogitLayer(image_width + clinical_width)

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``."""
        clinical = _keep(self.clinical_embedding(clinical), has_clinical)
        scale, shift = self.modulation(clinical).chunk(2, dim=-1)
        modulated = _keep(self.image_embedding(image) * (1 + scale) + shift, has_image)
        logits: Tensor = self.output(torch.cat((modulated, clinical), dim=-1))
        return logits


class LateHead(nn.Module):
    """One logit per modality, averaged with learned decision weights that start equal."""

    def __init__(self, image_width: int, clinical_width: int, *, hidden_width: int) -> None:
        super().__init__()
        self.image = SingleHead(image_width, hidden_width=hidden_width)
        self.clinical = SingleHead(clinical_width, hidden_width=hidden_width)
        self.decision = nn.Parameter(torch.zeros(2))

    def forward(self, image: Tensor, has_image: Tensor, clinical: Tensor, has_clinical: Tensor) -> Tensor:
        """Map ``(N, D)`` and ``(N, C)``, with their ``(N,)`` presence, to logits ``(N,)``.

        With one modality missing the other decides alone; with both missing the logit is 0.
        """
        logits = torch.stack((self.image(image, has_image), self.clinical(clinical, has_clinical)), dim=-1)
        weights = torch.softmax(self.decision, dim=-1) * torch.stack((has_image, has_clinical), dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return (weights * logits).sum(dim=-1)


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

    def set_constants(self, constants: FeatureConstants) -> None:
        """Set the public constants of the image path.

        Raises:
            ValueError: the network has no image standardisation, or a shape differs.
        """
        load_constants(self, {_PREFIX + name: array for name, array in vars(constants).items()})


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


def trainable_state(network: nn.Module) -> dict[str, FloatArray]:
    """Return a copy of every trainable parameter by name: all that training changes, and all that may travel."""
    return {name: _to_array(parameter) for name, parameter in _trainable(network).items()}


def load_trainable(network: nn.Module, arrays: Parameters) -> None:
    """Overwrite every trainable parameter.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; the network is then unchanged.
    """
    parameters = _trainable(network)
    _check_arrays(arrays, {name: tuple(parameter.shape) for name, parameter in parameters.items()})
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(_to_tensor(arrays[name]))


def constants_state(network: FusionNet) -> dict[str, FloatArray]:
    """Return a copy of the public constants by name; empty for a network without image standardisation.

    Raises:
        ConfigError: principal components are asked for and the image constants are not set.
    """
    if network.image_standardisation is None:
        return {}
    mean, projection = network.image_standardisation.constants()
    return {f"{_PREFIX}mean": _to_array(mean), f"{_PREFIX}projection": _to_array(projection)}


def load_constants(network: FusionNet, arrays: Parameters) -> None:
    """Set the public constants from what ``constants_state`` returned.

    Raises:
        ValueError: a name is missing or unknown, or a shape differs; the network is then unchanged.
    """
    standardisation = network.image_standardisation
    shapes = {} if standardisation is None else standardisation.shapes
    _check_arrays(arrays, {_PREFIX + name: shape for name, shape in shapes.items()})
    if standardisation is not None:
        device = next(network.parameters()).device
        standardisation.mean = _to_tensor(arrays[f"{_PREFIX}mean"]).to(device)
        standardisation.projection = _to_tensor(arrays[f"{_PREFIX}projection"]).to(device)


def _trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


# One order of memory everywhere: it decides the last bits of a product, and so whether a score can be had again.
def _to_array(tensor: Tensor) -> FloatArray:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32, order="C")


def _to_tensor(array: FloatArray) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))


def _check_arrays(arrays: Parameters, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(arrays) != set(shapes):
        raise ValueError(f"Expected arrays {sorted(shapes)}, got {sorted(arrays)}.")
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"Expected {name} of shape {shape}, got {arrays[name].shape}.")
