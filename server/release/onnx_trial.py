"""An ONNX file tried before it is released: its numbers are those of the network that it was made of.

The trial computes with the reference evaluator of ``onnx``, which is slow and shares no code with torch. ONNX Runtime
takes no part: from 1.29 it sends messages to its maker, on Linux too, unless ``ORT_DISABLE_TELEMETRY=1`` is set before.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.utils import Extractor
from torch import Tensor

from server.release.onnx_export import CLINICAL, FEATURES, IMAGES, PROBABILITY
from shared_model.config.choices import FeatureEngine, Modality, Views
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import FusionNet
from shared_model.network.scoring import predict
from shared_model.release.document import InputContract
from shared_model.vocabulary import clinical_width

MAX_DIFFERENCE = 1e-5
"""Of probabilities, and of features as a share of their length."""
MAX_PUBLIC = 64
"""Public lesions whose features pass through the head of the file."""
_NUM_PICTURES, _NUM_VECTORS = 2, 32
_LARGE = 256
"""Side in pixels from which on one picture has to do: the evaluator keeps all maps in memory."""
FloatArray = NDArray[np.float32]


def require_equal(
    content: bytes, network: FusionNet, contract: InputContract, public: Lesions | None, *, seed: int
) -> None:
    """Compare an ONNX file with the network on random pictures, random features and public lesions.

    Args:
        content: the file.
        network: of which it was made.
        contract: of the release.
        public: lesions as the network reads them; None, or only some of them.
        seed: of the random inputs.

    Raises:
        ConfigError: a probability or a feature differs by more than ``MAX_DIFFERENCE``.
    """
    generator, model = torch.Generator().manual_seed(seed), onnx.load_from_string(content)
    differences = list(_of_pictures(model, network, contract, generator))
    differences.append(_of_head(model, network, _random_lesions(_NUM_VECTORS, contract, generator)))
    if public is not None:
        differences.append(_of_head(model, network, public.select(torch.arange(min(len(public), MAX_PUBLIC)))))
    # NumPy's maximum is NaN where anything is; written so that NaN fails.
    largest = float(np.max(differences))
    if not largest <= MAX_DIFFERENCE:
        raise ConfigError(
            f"Expected the ONNX file within {MAX_DIFFERENCE:g} of the network, got {largest:.1g}; release without "
            "--onnx."
        )


def _of_pictures(
    model: onnx.ModelProto, network: FusionNet, contract: InputContract, generator: torch.Generator
) -> Iterator[float]:
    """Yield the differences of features and probabilities over the whole file; none where no image is read."""
    if contract.model.modality is Modality.CLINICAL:
        return
    size = contract.image.size
    count = _NUM_PICTURES if size <= _LARGE else 1
    pixels = torch.rand(count, 1, size, size, generator=generator)
    # Rougher and smoother ones: noise alone would leave most of the encoder's range out.
    pixels[1:] = torch.nn.functional.avg_pool2d(pixels[1:], 9, 1, 4)
    vectors = _random_lesions(count, contract, generator)
    images = frozen_features(pixels, contract.model.backbone, FeatureEngine.TORCH)
    lesions = Lesions(**{**vars(vectors), "images": images})
    inputs = {IMAGES: pixels.numpy(), CLINICAL: vectors.clinical.numpy()}
    names = [node.name for node in model.graph.input]
    features, probabilities = _run(model, [FEATURES, PROBABILITY], {name: inputs[name] for name in names})
    if contract.views is Views.ALL:
        lesions = Lesions(**{name: _mean(values) for name, values in vars(lesions).items()})
    expected = lesions.images.numpy()
    yield float((np.linalg.norm(features - expected, axis=1) / np.linalg.norm(expected, axis=1)).max())
    yield _difference(probabilities, network, lesions)


def _of_head(model: onnx.ModelProto, network: FusionNet, lesions: Lesions) -> float:
    """Return the difference of probabilities after the features, lesion by lesion."""
    names = [FEATURES if node.name == IMAGES else node.name for node in model.graph.input]
    head = Extractor(model).extract_model(names, [PROBABILITY])
    if FEATURES in names:
        lesions = lesions.select(lesions.has_image)
    inputs = {FEATURES: lesions.images.numpy(), CLINICAL: lesions.clinical.numpy()}
    rows = [{name: inputs[name][row : row + 1] for name in names} for row in range(len(lesions))]
    found = [_run(head, [PROBABILITY], row)[0] for row in rows]
    return _difference(np.concatenate([np.zeros(0, dtype=np.float32), *found]), network, lesions)


def _run(model: onnx.ModelProto, outputs: list[str], inputs: Mapping[str, FloatArray]) -> list[FloatArray]:
    return [np.asarray(each) for each in ReferenceEvaluator(model).run(outputs, dict(inputs))]


def _difference(probabilities: FloatArray, network: FusionNet, lesions: Lesions) -> float:
    return float(np.abs(probabilities - predict(network, lesions)).max(initial=0.0))


def _random_lesions(count: int, contract: InputContract, generator: torch.Generator) -> Lesions:
    """Return features and clinical entries of a size that real ones have."""
    is_image, is_clinical = (contract.model.modality is only for only in (Modality.IMAGE, Modality.CLINICAL))
    return Lesions(
        images=4 * torch.randn(count, 0 if is_clinical else FEATURE_WIDTH, generator=generator),
        has_image=torch.full((count,), not is_clinical),
        clinical=torch.rand(count, 0 if is_image else clinical_width(contract.features), generator=generator) * 2 - 1,
        labels=torch.zeros(count),
        patients=torch.zeros(count, dtype=torch.int64),
    )


def _mean(values: Tensor) -> Tensor:
    return values[:1] if not values.is_floating_point() else values.mean(dim=0, keepdim=True)
