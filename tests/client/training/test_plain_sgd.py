"""Torch's SGD without its compiler: the same steps, and nothing imported for them."""

import subprocess
import sys

import pytest
import torch
from torch.optim import SGD

from client.training.plain_sgd import PlainSGD

STEP = """
import sys, torch
from opacus.optimizers import DPOptimizerFastGradientClipping
from client.training.plain_sgd import PlainSGD
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = PlainSGD([parameter], lr=0.1, momentum=0.9)
parameter.grad = torch.ones(3)
optimizer.step()
optimizer.zero_grad(set_to_none=True)
assert parameter.tolist() != [1, 1, 1] and parameter.grad is None
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_its_steps_are_those_of_torch(momentum, weight_decay):
    start, settings = torch.randn(50, 7), {"lr": 0.3, "momentum": momentum, "weight_decay": weight_decay}
    plain, usual = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = PlainSGD([plain], **settings), SGD([usual], **settings)
    for _ in range(5):
        gradient = torch.randn(50, 7)
        for parameter, optimizer in zip((plain, usual), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
            assert not parameter.grad.requires_grad
        assert torch.equal(plain, usual)
        assert not torch.equal(plain, start)


def test_it_takes_no_step_that_a_gradient_goes_through():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = PlainSGD([parameter], lr=0.1)
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert torch.is_grad_enabled()


def test_a_step_needs_no_compiler():
    done = subprocess.run([sys.executable, "-P", "-c", STEP], capture_output=True, text=True, check=True)  # noqa: S603, our own
    assert done.stdout == "False\n"
