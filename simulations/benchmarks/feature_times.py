"""What the features of one image cost with each engine, and by how much engines differ."""

import dataclasses
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from shared_model.config.choices import Backbone, FeatureEngine
from shared_model.network.backbone import frozen_features
from shared_model.network.efficientnet import VARIANTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureTimes:
    """One engine on one backbone."""

    backbone: Backbone
    engine: FeatureEngine
    size: int
    """Side of the images in pixels."""
    num_images: int
    processor_seconds: float
    """Median of an image, all threads."""
    speed: float
    """Images in the same processor time as one with torch."""
    largest_difference: float
    """Of features from torch's, as a share of their length."""


def measure_features(size: int, num_images: int, num_repeats: int) -> Iterator[FeatureTimes]:
    """Time all engines in turns, image by image, so that a machine that slows down slows all that are compared.

    Args:
        size: side of the images in pixels.
        num_images: invented ones, rough and smooth.
        num_repeats: times that each passes through each encoder.

    Raises:
        ConfigError: an engine is not installed, or computes something else here.
    """
    torch.set_num_threads(1)
    images = _images(size, num_images)
    for backbone in VARIANTS:
        # The first time loads weights and makes plans.
        expected = frozen_features(images, backbone, FeatureEngine.TORCH)
        differences = {
            engine: (frozen_features(images, backbone, engine) - expected).norm(dim=1) / expected.norm(dim=1)
            for engine in FeatureEngine
        }
        seconds = _in_turns(images, backbone, num_repeats)
        for engine in FeatureEngine:
            yield FeatureTimes(
                backbone=backbone,
                engine=engine,
                size=size,
                num_images=num_images,
                processor_seconds=seconds[engine],
                speed=seconds[FeatureEngine.TORCH] / seconds[engine],
                largest_difference=float(differences[engine].max()),
            )


def _in_turns(images: Tensor, backbone: Backbone, num_repeats: int) -> dict[FeatureEngine, float]:
    """Return the median processor time of an image by engine."""
    seconds: dict[FeatureEngine, list[float]] = {engine: [] for engine in FeatureEngine}
    for image in images.repeat(num_repeats, 1, 1, 1):
        for engine in FeatureEngine:
            start = time.process_time()
            frozen_features(image[None], backbone, engine)
            seconds[engine].append(time.process_time() - start)
    return {engine: statistics.median(values) for engine, values in seconds.items()}


def _images(size: int, count: int) -> Tensor:
    """Return noise, every second image smoothed."""
    images = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0))
    images[1::2] = functional.avg_pool2d(images[1::2], 9, 1, 4)
    return images
