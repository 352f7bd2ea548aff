"""Gradient inversion: tries to see a patient's image in the update that a hospital sends, without and with privacy.

The worst case for the patient: a site that trains on one patient alone, for one step, and a server that knows the
label and chose the parameters so that every layer passes on what it saw. From the update the attacker searches for the
image whose gradient points in the same direction (Geiping et al. 2020, Inverting Gradients, Eq. 4). The default
network, a head on frozen features, needs no search: without privacy its update is the input times a number.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import softplus

from client.training.dp_sgd import LocalTraining, train_round
from client.training.noise import NoiseGenerator
from server.report.plot_style import FONT_SIZE, save_png
from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.standardisation import unit_length
from shared_model.privacy.plan import PrivacyPlan
from shared_model.system.seeding import derive_seed
from simulations.attacks.mass_crops import draw_mass_crops
from simulations.seeding import torch_generator

IMAGE_SIZE = 32
"""Side in pixels: the smallest that the encoder takes, and the easiest to invert."""
_SEARCH_RATE = 0.05
"""Learning rate of the search."""
_SMOOTHNESS = 1e-2
"""Weight of the total variation."""
_PICTURE_INCHES = 1.5


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Inversion:
    """An image and its reconstructions from two updates on it; ``(IMAGE_SIZE, IMAGE_SIZE)`` each, in [0, 1]."""

    original: Tensor
    without_privacy: Tensor
    with_privacy: Tensor

    @property
    def correlation_without(self) -> float:
        """Pearson's correlation of pixels with the original."""
        return _correlation(self.original, self.without_privacy)

    @property
    def correlation_with(self) -> float:
        """Pearson's correlation of pixels with the original."""
        return _correlation(self.original, self.with_privacy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureRecovery:
    """Cosine between the frozen features of one lesion and what its head's update says they are."""

    without_privacy: float
    with_privacy: float


Progress = Callable[[int, int], None]
"""Called with the number of steps of the search done and the number in all."""


def invert_images(
    *, num_images: int, target_epsilon: float, num_steps: int, seed: int, progress: Progress | None = None
) -> Iterator[Inversion]:
    """Attack the update of the small CNN for ``num_images`` synthetic masses, one after the other.

    Args:
        num_images: positive.
        target_epsilon: of the private update, which is the only one of its run; delta is 1e-4.
        num_steps: of the attacker's search, positive.
        seed: of images, parameters, noise and search.
        progress: called after each step of each search.
    """
    total = 2 * num_images * num_steps
    for index, pixels in enumerate(draw_mass_crops(num_images, size=IMAGE_SIZE, seed=seed)):
        network, label = _pixel_network(seed), torch.ones(1)
        lesion = _single_lesion(pixels[None, None], label)
        reconstructions = []
        for attempt, training in enumerate(_without_and_with_privacy("model.backbone=small_cnn", target_epsilon)):
            noise = NoiseGenerator.from_seed(derive_seed(seed, "inversion", index))
            update = _update(network, lesion, training, noise)

            def advance(step: int, before: int = (2 * index + attempt) * num_steps) -> None:
                if progress is not None:
                    progress(before + step, total)

            start = 0.5 + 0.1 * torch.randn(pixels.shape, generator=torch_generator(seed, "search", index))
            reconstructions.append(_search(network, label, update, start=start, num_steps=num_steps, on_step=advance))
        yield Inversion(original=pixels, without_privacy=reconstructions[0], with_privacy=reconstructions[1])


def recover_features(*, target_epsilon: float, seed: int) -> FeatureRecovery:
    """Read the input of a head on frozen features off its update.

    Args:
        target_epsilon: of the private update, which is the only one of its run; delta is 1e-4.
        seed: of features, parameters and noise.
    """
    features = torch.randn((1, FEATURE_WIDTH), generator=torch_generator(seed, "features"))
    cosines = []
    for training in _without_and_with_privacy("model.backbone=efficientnet_lite0", target_epsilon):
        network = build_network(_config("model.backbone=efficientnet_lite0", target_epsilon).model, 0, seed=seed)
        noise = NoiseGenerator.from_seed(derive_seed(seed, "recovery"))
        (weight,) = _update(network, _single_lesion(features, torch.ones(1)), training, noise)
        # Every entry is an input times the error of the prediction; the last input is the constant 1.
        recovered = unit_length((weight[:, :-1] / weight[:, -1:]).double())
        cosines.append(float(recovered @ unit_length(features.double()).T))
    return FeatureRecovery(without_privacy=cosines[0], with_privacy=cosines[1])


def write_pictures(path: Path, inversions: Sequence[Inversion], *, target_epsilon: float) -> None:
    """Draw originals and reconstructions side by side, one row for each image.

    Raises:
        ValueError: ``path`` does not end in ``.png``.
    """
    columns = ("original", "from the update,\nno privacy", f"from the update,\nepsilon {target_epsilon:g}")
    figure = Figure(
        figsize=(_PICTURE_INCHES * len(columns), (_PICTURE_INCHES + 0.25) * len(inversions) + 0.3),
        layout="constrained",
    )
    panels = figure.subplots(len(inversions), len(columns), squeeze=False)
    for row, inversion in zip(panels, inversions, strict=True):
        pictures = (inversion.original, inversion.without_privacy, inversion.with_privacy)
        captions = ("", f"r = {inversion.correlation_without:.2f}", f"r = {inversion.correlation_with:.2f}")
        for axes, picture, caption in zip(row, pictures, captions, strict=True):
            axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_xlabel(caption, fontsize=FONT_SIZE)
            axes.set(xticks=[], yticks=[])
    for axes, name in zip(panels[0], columns, strict=True):
        axes.set_title(name, fontsize=FONT_SIZE)
    save_png(figure, path)


def _single_lesion(images: Tensor, labels: Tensor) -> Lesions:
    return Lesions(
        images=images,
        has_image=torch.ones(1, dtype=torch.bool),
        clinical=torch.zeros(1, 0),
        labels=labels,
        patients=torch.zeros(1, dtype=torch.int64),
    )


def _pixel_network(seed: int) -> FusionNet:
    """Return a network on pixels whose last layer is not zero, so that a gradient reaches the encoder."""
    network = build_network(_config("model.backbone=small_cnn", 1.0).model, 0, seed=seed)
    nn.init.normal_(network.get_parameter("head.output.linear.weight"), generator=torch_generator(seed, "output"))
    return network


def _update(network: FusionNet, lesion: Lesions, training: LocalTraining, noise: NoiseGenerator) -> list[Tensor]:
    """Train on the lesion, put the parameters back, and return old minus new by parameter."""
    before = [parameter.detach().clone() for parameter in network.parameters()]
    train_round(network, lesion, training=training, noise=noise)
    update = [old - new.detach() for old, new in zip(before, network.parameters(), strict=True)]
    with torch.no_grad():
        for parameter, old in zip(network.parameters(), before, strict=True):
            parameter.copy_(old)
    return update


def _search(
    network: FusionNet,
    label: Tensor,
    update: Sequence[Tensor],
    *,
    start: Tensor,
    num_steps: int,
    on_step: Callable[[int], None],
) -> Tensor:
    """Return the smooth image whose gradient points in the direction of ``update``."""
    image = start[None, None].clone().requires_grad_()
    optimizer = torch.optim.Adam([image], lr=_SEARCH_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    parameters, length = list(network.parameters()), _norm(update)
    for step in range(num_steps):
        lesion = _single_lesion(image, label)
        logit = network(lesion.images, lesion.has_image, lesion.clinical)
        loss = softplus(torch.where(label > 0, -logit, logit)).sum()
        gradient = torch.autograd.grad(loss, parameters, create_graph=True)
        product = sum((ours * theirs).sum() for ours, theirs in zip(gradient, update, strict=True))
        objective = 1 - product / (_norm(gradient) * length) + _SMOOTHNESS * _total_variation(image)
        (image.grad,) = torch.autograd.grad(objective, image)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        on_step(step + 1)
    return image.detach()[0, 0]


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.sqrt(torch.stack([tensor.square().sum() for tensor in tensors]).sum())


def _total_variation(image: Tensor) -> Tensor:
    return image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()


def _correlation(left: Tensor, right: Tensor) -> float:
    return float(np.corrcoef(left.flatten().numpy(), right.flatten().numpy())[0, 1])


def _without_and_with_privacy(backbone: str, target_epsilon: float) -> tuple[LocalTraining, LocalTraining]:
    config = _config(backbone, target_epsilon)
    plan = PrivacyPlan.calibrate(config, num_patients_declared=1)
    return LocalTraining(config=config.training, plan=None), LocalTraining(config=config.training, plan=plan)


def _config(backbone: str, target_epsilon: float) -> ExperimentConfig:
    return compose(
        [
            "preset=cbis_mass",
            "privacy=patient",
            "data.root=.",
            "model.modality=image",
            # The whole budget is that of training.
            "model.feature_constants=public",
            "evaluation.threshold_from=held_out",
            "data.validation_fraction=0.2",
            "data.views=own",
            backbone,
            f"privacy.target_epsilon={target_epsilon}",
            "training.num_rounds=1",
            "training.local_steps=1",
            "training.learning_rate=1",
            "training.momentum=0",
            "training.weight_decay=0",
        ]
    )
