"""Which method computes the clipped sum, and that the size of a pass makes no difference."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from client.training import gradient_methods
from client.training.gradient_methods import GradientMethod, GradientSource, choose_gradient_method
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Backbone, Fusion, Loss
from shared_model.network.efficientnet import FEATURE_WIDTH
from tests.small_trainings import CONFIG, SIZES, Head, lesions_of, network_of

GHOST, RECORD, PATIENT = GradientMethod


def unclipped_sum(model, lesions):
    """Return the sum of the patients' gradients by explicit autograd, flat."""
    total = 0
    for patient in sorted(set(lesions.patients.tolist())):
        rows = lesions.patients == patient
        logits = model(lesions.images[rows], lesions.has_image[rows], lesions.clinical[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, lesions.labels[rows])
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        total = total + torch.cat([values.flatten() for values in gradients]).double()
    return total


def clipped_sum(method, model, lesions, *, config=CONFIG, max_grad_norm=0.3, patients=None):
    """Return the clipped sum by ``method``, flat, and the number of patients rejected."""
    by_patient = LesionsByPatient.from_lesions(lesions)
    source = GradientSource(model=model, by_patient=by_patient, config=config, method=method)
    chosen = torch.nonzero(by_patient.is_finite).squeeze(1) if patients is None else patients
    gradients, num_rejected = source.clipped_sum(chosen, max_grad_norm)
    assert all(values.dtype == torch.float64 for values in gradients)
    return torch.cat([values.flatten() for values in gradients]), num_rejected


@pytest.mark.parametrize("method", GradientMethod)
def test_the_size_of_a_pass_makes_no_difference(monkeypatch, method):
    lesions, model = lesions_of(SIZES), Head(hidden_width=4)
    whole, _ = clipped_sum(method, model, lesions)
    passes = []
    batches = LesionsByPatient.batches

    def counted(*args, **kwargs):
        for batch in batches(*args, **kwargs):
            passes.append(batch)
            yield batch

    monkeypatch.setattr(LesionsByPatient, "batches", counted)
    for num_bytes in (1, 1500):
        monkeypatch.setattr(gradient_methods, "BYTES_PER_PASS", num_bytes)
        passes.clear()
        found, _ = clipped_sum(method, model, lesions)
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-8)
        assert len(passes) > 1


def test_plain_sum_is_unclipped():
    lesions, model = lesions_of(SIZES, scale=10), Head(hidden_width=4)
    source = GradientSource(
        model=model, by_patient=LesionsByPatient.from_lesions(lesions), config=CONFIG, method=PATIENT
    )
    found, _ = source.plain_sum(torch.arange(len(SIZES)))
    torch.testing.assert_close(
        torch.cat([v.flatten() for v in found]), unclipped_sum(model, lesions), rtol=1e-5, atol=1e-6
    )


class Indexing(Head):
    """Written so that torch cannot vectorise it, and with a layer that is called twice."""

    def forward(self, images, has_image, clinical):
        rows = torch.nonzero(has_image).squeeze(1)
        logits = super().forward(torch.zeros_like(images), torch.zeros_like(has_image), clinical)
        return logits.index_put((rows,), super().forward(images[rows], has_image[rows], clinical[rows]))


class Shifted(Head):
    """With a parameter that is not a layer's."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, images, has_image, clinical):
        return super().forward(images, has_image, clinical) + self.shift


class Twice(Head):
    def forward(self, images, has_image, clinical):
        return sum(super(Twice, self).forward(each, has_image, clinical) for each in (images, -images))


class Centred(Head):
    """Couples the lesions of a pass before the layer, where ghost norms would be wrong."""

    def forward(self, images, has_image, clinical):
        return super().forward(images - images.mean(0), has_image, clinical)


class CentredLate(Head):
    def forward(self, images, has_image, clinical):
        logits = super().forward(images, has_image, clinical)
        return logits - logits.mean()


class Dropping(Head):
    """Draws at random."""

    def forward(self, images, has_image, clinical):
        return super().forward(nn.functional.dropout(images), has_image, clinical)


@pytest.mark.parametrize(
    ("make", "method"),
    [
        (Head, GHOST),
        (Shifted, RECORD),
        (Twice, RECORD),
        (Indexing, PATIENT),
        (Centred, PATIENT),
        (CentredLate, PATIENT),
        (Dropping, PATIENT),
    ],
)
def test_the_method_follows_what_the_module_allows(make, method):
    lesions = lesions_of([1, 2, 2])
    model = make()
    assert choose_gradient_method(model, LesionsByPatient.from_lesions(lesions), CONFIG) is method
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_pixels_go_by_record_where_images_and_network_are_small(monkeypatch):
    network = network_of(backbone=Backbone.SMALL_CNN)
    small, large = (LesionsByPatient.from_lesions(lesions_of([1, 2], shape=(1, side, side))) for side in (32, 72))
    assert choose_gradient_method(network, small, CONFIG) is RECORD
    assert choose_gradient_method(network, large, CONFIG) is PATIENT
    monkeypatch.setattr(gradient_methods, "RECORD_PARAMETERS", 1000)
    assert choose_gradient_method(network, small, CONFIG) is PATIENT


def test_the_method_does_not_depend_on_the_patients():
    spoilt = lesions_of([2, 1])
    spoilt.clinical.fill_(math.nan)
    for lesions in (lesions_of([]), spoilt, lesions_of([40])):
        assert choose_gradient_method(Head(), LesionsByPatient.from_lesions(lesions), CONFIG) is GHOST


class Coupled(Head):
    """Couples the lesions of a pass by a parameter, which a coordinator may send as zero."""

    def __init__(self):
        super().__init__()
        self.coupling = nn.Parameter(torch.zeros(()))

    def forward(self, images, has_image, clinical):
        logits = super().forward(images, has_image, clinical)
        return logits + self.coupling * logits.mean()


def test_the_method_does_not_depend_on_the_parameters():
    by_patient, model = LesionsByPatient.from_lesions(lesions_of([1, 2, 2])), Coupled()
    assert choose_gradient_method(model, by_patient, CONFIG) is PATIENT


@pytest.mark.parametrize("shape", [(6,), (1, 32, 32), (1, 72, 72)], ids=str)
def test_an_empty_cohort_is_computed_like_any_other(shape):
    network = Head() if len(shape) == 1 else network_of(backbone=Backbone.SMALL_CNN)
    nobody, somebody = (LesionsByPatient.from_lesions(lesions_of(sizes, shape=shape)) for sizes in ([], [1]))
    method = choose_gradient_method(network, somebody, CONFIG)
    assert choose_gradient_method(network, nobody, CONFIG) is method
    empty, one = (GradientSource(model=network, by_patient=b, config=CONFIG, method=method) for b in (nobody, somebody))
    assert empty.rows_per_pass == one.rows_per_pass
    gradients, num_rejected = empty.clipped_sum(torch.arange(0), 0.3)
    assert num_rejected == 0
    assert not any(values.any() for values in gradients)


class TestTrialOfPositions:
    """It follows from what a network computes with and not from its numbers: one in a process is enough."""

    @pytest.fixture
    def trials(self, monkeypatch):
        """The trials made from here on."""
        made = []
        monkeypatch.setattr(gradient_methods, "_CHOSEN", {})
        agree = gradient_methods.positions_agree
        monkeypatch.setattr(gradient_methods, "positions_agree", lambda *asked: made.append(1) or agree(*asked))
        return made

    def choose(self, network, sizes=(1, 2)):
        lesions = lesions_of(sizes, shape=(FEATURE_WIDTH,))
        return choose_gradient_method(network, LesionsByPatient.from_lesions(lesions), CONFIG)

    def test_other_numbers_and_patients_need_no_other_trial(self, trials):
        assert self.choose(network_of()) is GHOST
        num_trials = len(trials)
        assert num_trials > 0
        network = network_of()
        with torch.no_grad():
            for values in network.parameters():
                values.fill_(3.0)
        assert self.choose(network, sizes=[40]) is self.choose(network, sizes=[]) is GHOST
        assert len(trials) == num_trials

    @pytest.mark.parametrize(
        "make",
        [
            lambda network: network.eval(),
            lambda network: network_of(fusion=Fusion.MID),
            lambda network: network_of(hidden_width=2),
            lambda network: setattr(network.head, "embedding", nn.Tanh()) or network,
            lambda network: setattr(network, "structure", None) or network,
        ],
        ids=["another mode", "another fusion", "a hidden layer", "another layer put in", "built as something else"],
    )
    def test_another_network_is_tried(self, trials, make):
        network = network_of().train()
        self.choose(network)
        trials.clear()
        self.choose(make(network))
        assert len(trials) > 0

    def test_a_module_of_which_nobody_knows_what_it_computes_is_tried_every_time(self, trials):
        for _ in range(2):
            trials.clear()
            assert choose_gradient_method(Head(), LesionsByPatient.from_lesions(lesions_of([1])), CONFIG) is GHOST
            assert len(trials) > 0

    def test_a_method_that_failed_is_not_used_later(self, trials, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(gradient_methods, "positions_agree", lambda *_: False)
            assert self.choose(network_of()) is PATIENT
        assert self.choose(network_of()) is PATIENT
        assert trials == []

    def test_an_error_that_may_pass_is_not_remembered(self, trials, monkeypatch):
        """Torch says that memory is short by a RuntimeError: it decides about one round, not about all that follow."""

        def without_memory(*_):
            raise RuntimeError("DefaultCPUAllocator: not enough memory")

        for name in ("positions_agree", "_require_lesions_apart"):
            with monkeypatch.context() as patched:
                patched.setattr(gradient_methods, name, without_memory)
                assert self.choose(network_of()) is PATIENT
            assert gradient_methods._CHOSEN == {}
        assert self.choose(network_of()) is GHOST

    def test_few_kinds_are_remembered_and_another_loss_is_another_kind(self, trials, monkeypatch):
        monkeypatch.setattr(gradient_methods, "_MAX_KINDS", 2)
        by_patient = LesionsByPatient.from_lesions(lesions_of([1, 2], shape=(FEATURE_WIDTH,)))
        for config in (CONFIG, dataclasses.replace(CONFIG, loss=Loss.FOCAL)):
            trials.clear()
            choose_gradient_method(network_of(), by_patient, config)
            assert len(trials) > 0
        for width in (2, 3, 4):
            choose_gradient_method(network_of(hidden_width=width), by_patient, CONFIG)
            assert len(gradient_methods._CHOSEN) <= 2
