"""The loss of a lesion by hand, and of a patient as the mean over the patient's lesions."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from client.training.patient_loss import record_loss, summed_loss
from client.training.patients import LesionsByPatient
from shared_model.config.choices import Loss
from shared_model.data.lesions import Lesions
from tests.small_trainings import CONFIG


@pytest.mark.parametrize(
    ("loss", "label", "logit", "expected"),
    [
        (Loss.CROSS_ENTROPY, 1.0, 0.0, 3 * math.log(2)),
        (Loss.CROSS_ENTROPY, 0.0, 0.0, math.log(2)),
        (Loss.CROSS_ENTROPY, 0.0, math.log(3), math.log(4)),
        # Lin et al. 2017: at p_t = 1/2 and gamma = 2 the factor is 1/4, at p_t = 1/4 it is 9/16.
        (Loss.FOCAL, 1.0, 0.0, 3 * math.log(2) / 4),
        (Loss.FOCAL, 0.0, math.log(3), 9 / 16 * math.log(4)),
        (Loss.CROSS_ENTROPY, 1.0, -1000.0, 3000.0),
        (Loss.FOCAL, 0.0, -1000.0, 0.0),
    ],
)
def test_record_loss_by_hand(loss, label, logit, expected):
    config = dataclasses.replace(CONFIG, loss=loss, positive_weight=3.0)
    found = record_loss(torch.tensor([logit]), torch.tensor([label]), config)
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_gradient_is_finite_at_every_logit(gamma):
    config = dataclasses.replace(CONFIG, loss=Loss.FOCAL, focal_gamma=gamma)
    logits = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    (gradient,) = torch.autograd.grad(record_loss(logits, torch.ones(5), config).sum(), logits)
    assert torch.isfinite(gradient).all()
    assert (gradient.abs() <= 1 + gamma).all()


class FirstFeature(nn.Module):
    """A lesion's logit is its first feature."""

    def forward(self, images, has_image, clinical):
        return images[:, 0]


def test_a_patient_counts_once_however_many_lesions():
    lesions = Lesions(
        images=torch.tensor([[0.0], [1.0], [2.0], [-1.0]]),
        has_image=torch.ones(4, dtype=torch.bool),
        clinical=torch.zeros(4, 1),
        labels=torch.tensor([0.0, 1.0, 0.0, 1.0]),
        patients=torch.tensor([7, 3, 7, 7]),
    )
    batch = LesionsByPatient.from_lesions(lesions).batch(torch.arange(2))
    # log(1 + e^z) of a benign lesion, log(1 + e^-z) of a malignant one.
    first = math.log1p(math.exp(-1.0))
    second = (math.log(2) + math.log1p(math.exp(2.0)) + math.log1p(math.exp(1.0))) / 3
    assert float(summed_loss(FirstFeature(), batch, CONFIG)) == pytest.approx(first + second)
