"""Maps and attributions against gradients taken by hand, and the laws in their docstrings."""

import dataclasses
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from shared_model.config.choices import Backbone, FeatureEngine, Fusion, Modality
from shared_model.config.composition import compose
from shared_model.explanations.saliency import (
    LesionScorer,
    column_attributions,
    grad_cam,
    grad_cam_plus_plus,
    modality_share,
)
from shared_model.network.backbone import dihedral_orbit, frozen_features
from shared_model.network.efficientnet import load_efficientnet_lite
from shared_model.network.fusion import build_network
from shared_model.vocabulary import clinical_columns, clinical_width

SIZE = 64
CONFIG = compose(["preset=smoke", "run.dir=unused", "data.root=unused"])
COLUMNS = clinical_columns(CONFIG.data.features)
WIDTH = clinical_width(CONFIG.data.features)


def scorer_of(backbone=Backbone.EFFICIENTNET_LITE0, modality=Modality.FUSION, **changes):
    model = dataclasses.replace(CONFIG.model, backbone=backbone, modality=modality, image_components=0, **changes)
    network = build_network(model, WIDTH, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    frozen_encoder = load_efficientnet_lite(backbone) if backbone.is_frozen else None
    return LesionScorer(network, clinical(), frozen_encoder=frozen_encoder)


def clinical():
    return torch.from_numpy(np.random.default_rng(3).uniform(-1, 1, WIDTH).astype(np.float32))


@pytest.fixture(scope="module")
def pixels():
    return torch.from_numpy(np.random.default_rng(0).random((1, SIZE, SIZE), dtype=np.float32))


def activations_and_gradients(scorer, pixels):
    kept = []
    handle = scorer.layer.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    orientations = scorer.orientations(pixels).requires_grad_()
    logit = scorer(orientations)
    handle.remove()
    (gradients,) = torch.autograd.grad(logit.sum(), kept[0])
    return kept[0].detach(), gradients


def finished(scorer, maps):
    scaled = functional.interpolate(maps[:, None], size=(SIZE, SIZE), mode="bilinear", align_corners=False)[:, 0]
    merged = scorer.merge(scaled)
    return (merged / merged.max()).numpy() if merged.max() > 0 else np.zeros((SIZE, SIZE), dtype=np.float32)


def test_other_views_take_part_in_the_mean_and_are_held_fixed(pixels):
    alone = scorer_of()
    own = frozen_features(pixels[None], Backbone.EFFICIENTNET_LITE0, FeatureEngine.TORCH)
    others = torch.from_numpy(np.random.default_rng(4).random((2, 320), dtype=np.float32))
    scorer = LesionScorer(alone.network, clinical(), frozen_encoder=alone.frozen, other_views=others)
    found = scorer.image_input(scorer.orientations(pixels))
    torch.testing.assert_close(found, torch.cat((own, others)).mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    assert grad_cam(scorer, pixels).max() == pytest.approx(1)
    with pytest.raises(ValueError, match="Expected a frozen encoder where other views are averaged"):
        LesionScorer(
            scorer_of(Backbone.SMALL_CNN).network, clinical(), frozen_encoder=None, other_views=torch.zeros(1, 320)
        )


def test_orientations_are_brought_back(pixels):
    scorer = scorer_of()
    orientations = scorer.orientations(pixels)
    assert len(orientations) == 8
    np.testing.assert_allclose(scorer.merge(orientations[:, 0]), pixels[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("backbone", [Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1])
def test_the_scorer_is_the_network(pixels, backbone):
    scorer = scorer_of(backbone)
    features = frozen_features(pixels[None], backbone, FeatureEngine.TORCH)
    expected = scorer.network(features, torch.tensor([True]), clinical()[None])
    torch.testing.assert_close(scorer(scorer.orientations(pixels)), expected, rtol=1e-4, atol=1e-5)
    assert scorer.probability(pixels) == pytest.approx(float(torch.sigmoid(expected.detach())), abs=1e-5)


@pytest.mark.parametrize("backbone", [Backbone.EFFICIENTNET_LITE0, Backbone.EFFICIENTNET_LITE1, Backbone.SMALL_CNN])
class TestMaps:
    def test_grad_cam_equals_gradients_by_hand(self, pixels, backbone):
        scorer = scorer_of(backbone)
        activations, gradients = activations_and_gradients(scorer, pixels)
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        expected = finished(scorer, (weights * activations).sum(dim=1).relu())
        found = grad_cam(scorer, pixels)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
        assert (found.dtype, found.shape, found.max()) == (np.float32, (SIZE, SIZE), pytest.approx(1))

    def test_grad_cam_plus_plus_equals_loops(self, pixels, backbone):
        scorer = scorer_of(backbone)
        activations, gradients = (tensor.double().numpy() for tensor in activations_and_gradients(scorer, pixels))
        maps = np.zeros((len(activations), *activations.shape[2:]))
        for view in range(len(activations)):
            for a, g in zip(activations[view], gradients[view], strict=True):
                weight = 0.0
                for value in g.flat:
                    denominator = 2 * value**2 + a.sum() * value**3
                    if abs(denominator) > 1e-20 and value > 0:
                        weight += value**2 / denominator * value
                maps[view] += weight * a
        expected = finished(scorer, torch.from_numpy(np.maximum(maps, 0)))
        np.testing.assert_allclose(grad_cam_plus_plus(scorer, pixels), expected, rtol=0, atol=2e-3)

    def test_the_map_is_fine_enough(self, pixels, backbone):
        activations, _ = activations_and_gradients(scorer_of(backbone), pixels)
        assert SIZE / activations.shape[-1] <= 16


@pytest.mark.parametrize(("backbone", "last"), [(Backbone.EFFICIENTNET_LITE0, 10), (Backbone.EFFICIENTNET_LITE1, 14)])
def test_the_map_of_a_frozen_encoder_is_its_last_bottleneck_at_stride_16(pixels, backbone, last):
    scorer = scorer_of(backbone)
    blocks = [block for stage in scorer.frozen.stages for block in stage]
    sides = []
    maps = scorer.frozen.stem(scorer.orientations(pixels))
    for block in blocks:
        maps = block(maps)
        sides.append(maps.shape[-1])
    assert [number for number, side in enumerate(sides) if side == SIZE // 16][-1] == last
    assert scorer.layer[-1] is blocks[last]


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_network_has_one_encoder(is_frozen):
    backbone = Backbone.EFFICIENTNET_LITE1 if is_frozen else Backbone.SMALL_CNN
    network = scorer_of(backbone).network
    other = None if is_frozen else load_efficientnet_lite(Backbone.EFFICIENTNET_LITE1)
    with pytest.raises(ValueError, match="Expected one image encoder, frozen or the network's own"):
        LesionScorer(network, clinical(), frozen_encoder=other)


@pytest.mark.parametrize("backbone", [Backbone.RESNET18, Backbone.DENSENET121])
def test_larger_encoders_have_a_map_too(pixels, backbone):
    scorer = scorer_of(backbone)
    activations, _ = activations_and_gradients(scorer, pixels)
    assert SIZE / activations.shape[-1] <= 16
    assert np.isfinite(grad_cam(scorer, pixels)).all()


def test_a_turned_image_has_a_turned_map(pixels):
    scorer = scorer_of()
    for turned in (torch.rot90(pixels, 1, dims=(1, 2)), pixels.flip(2)):
        back = grad_cam(scorer, turned)
        orbit = dihedral_orbit(torch.from_numpy(grad_cam(scorer, pixels))[None])[:, 0].numpy()
        assert min(np.abs(back - candidate).max() for candidate in orbit) < 1e-3


class TestColumns:
    @pytest.mark.parametrize("fusion", list(Fusion))
    def test_add_up_to_what_the_columns_changed(self, pixels, fusion):
        scorer = scorer_of(fusion=fusion)
        parts = column_attributions(scorer, pixels, COLUMNS)
        assert list(parts) == [column.name for column in COLUMNS]
        image = scorer.image_input(scorer.orientations(pixels))
        present = torch.tensor([True])
        # Next to nothing, which the network takes for a record with columns, unlike exactly nothing.
        without = scorer.network(image, present, torch.full((1, WIDTH), 1e-6))
        change = float((scorer(scorer.orientations(pixels)) - without).detach())
        assert sum(parts.values()) == pytest.approx(change, abs=2e-2 * max(1, abs(change)))

    def test_of_a_linear_head_are_weight_times_entry(self, pixels):
        scorer = scorer_of()
        weight = scorer.network.head.output.linear.weight[0, -WIDTH - 1 : -1].detach().numpy()
        entries = list(weight * clinical().numpy() * 0.5)
        for column in COLUMNS:
            expected, entries = sum(entries[: column.width]), entries[column.width :]
            found = column_attributions(scorer, pixels, COLUMNS)[column.name]
            assert found == pytest.approx(expected, abs=1e-4)

    def test_are_none_without_clinical_branch(self, pixels):
        assert column_attributions(scorer_of(modality=Modality.IMAGE), pixels, COLUMNS) == {}


class TestModalityShare:
    @pytest.mark.parametrize("fusion", list(Fusion))
    def test_adds_up_to_the_logit(self, pixels, fusion):
        scorer = scorer_of(fusion=fusion)
        share = modality_share(scorer, pixels)
        assert share.base + share.image + share.clinical == pytest.approx(
            scorer(scorer.orientations(pixels)).item(), abs=1e-4
        )
        assert 0 <= share.image_share <= 1

    def test_of_an_image_network_is_all_image(self, pixels):
        share = modality_share(scorer_of(modality=Modality.IMAGE), pixels)
        assert share.clinical == 0
        assert share.image_share == 1

    def test_is_none_where_nothing_moves(self, pixels):
        scorer = scorer_of()
        with torch.no_grad():
            for parameter in scorer.network.parameters():
                parameter.zero_()
        assert modality_share(scorer, pixels).image_share is None
        assert not grad_cam(scorer, pixels).any()
        assert not grad_cam_plus_plus(scorer, pixels).any()


class Halves(nn.Module):
    """Makes two maps of an image: its left half, and its right one."""

    def forward(self, images):
        is_left = torch.arange(images.shape[-1]) < images.shape[-1] // 2
        return torch.cat((images * is_left, images * ~is_left), dim=1)


class AnalyticNetwork(nn.Module):
    """A network whose logit is known: the left half speaks for malignancy, the right one against, or columns decide."""

    reads_clinical = True

    def __init__(self, *, image=1.0, clinical=0.0, both=0.0):
        super().__init__()
        self.image_encoder = nn.Sequential(OrderedDict(layer3=Halves()))
        self.image, self.clinical, self.both = image, clinical, both

    def forward(self, images, has_image, clinical):
        left, right = self.image_encoder(images).mean(dim=(2, 3)).T
        seen, known = has_image.float(), (clinical != 0).any(dim=1).float()
        return seen * self.image * (left - right) + known * self.clinical * clinical[:, 0] + seen * known * self.both


@pytest.fixture(scope="module")
def halves(pixels):
    """What the maps of ``AnalyticNetwork`` must be: the left half of the image, scaled to 1."""
    left = pixels[0].numpy() * (np.arange(SIZE) < SIZE // 2)
    return left / left.max()


class TestAnalyticNetwork:
    def scorer(self, **parts):
        return LesionScorer(AnalyticNetwork(**parts), torch.tensor([2.0, -1.0]), frozen_encoder=None)

    @pytest.mark.parametrize("method", [grad_cam, grad_cam_plus_plus])
    def test_maps_show_the_half_that_speaks_for_malignancy_and_not_the_other(self, pixels, halves, method):
        np.testing.assert_allclose(method(self.scorer(), pixels), halves, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("method", [grad_cam, grad_cam_plus_plus])
    def test_maps_show_the_other_half_where_the_sign_changes(self, pixels, halves, method):
        found = method(self.scorer(image=-1.0), pixels)
        assert not found[:, : SIZE // 2].any()
        right = pixels[0, :, SIZE // 2 :].numpy()
        np.testing.assert_allclose(found[:, SIZE // 2 :], right / right.max(), rtol=0, atol=1e-5)

    def test_columns_add_their_weight_times_entry(self, pixels):
        first, second = (dataclasses.replace(column, values=()) for column in COLUMNS[:2])
        parts = column_attributions(self.scorer(clinical=3.0), pixels, (first, second))
        assert list(parts.values()) == [pytest.approx(3.0 * 2.0, rel=0.05), pytest.approx(0)]

    @pytest.mark.parametrize(("clinical", "both"), [(0.0, 0.0), (3.0, 0.0), (3.0, 1.0), (-2.0, 0.5)])
    def test_modalities_share_what_they_add_together(self, pixels, clinical, both):
        share = modality_share(self.scorer(image=40.0, clinical=clinical, both=both), pixels)
        left, right = (float(pixels[0, :, part].sum()) / SIZE**2 for part in (slice(SIZE // 2), slice(SIZE // 2, None)))
        assert share.base == 0
        assert share.image == pytest.approx(40.0 * (left - right) + both / 2, abs=1e-4)
        assert share.clinical == pytest.approx(clinical * 2.0 + both / 2, abs=1e-4)
