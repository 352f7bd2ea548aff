"""Torch's SGD without torch's compiler, which no site uses and which its optimisers import at the first step."""

import inspect

import torch
from torch.optim import SGD


class PlainSGD(SGD):
    """The same steps to the last bit; the import would take as long as twenty rounds of training.

    Torch wraps these methods so that its compiler can leave them out; what they wrap is the method itself, and a step
    without gradients.
    """

    add_param_group = inspect.unwrap(SGD.add_param_group)
    zero_grad = inspect.unwrap(SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(SGD.step))
