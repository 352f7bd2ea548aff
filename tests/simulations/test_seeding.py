"""Named torch generators: reproducible, distinct, and apart from the global one."""

import torch

from simulations.seeding import torch_generator


def test_generators_repeat_by_name_and_differ_between_names():
    def draws(*names):
        return torch.rand(8, generator=torch_generator(3, *names)).tolist()

    assert draws("site", 1) == draws("site", 1)
    assert all(one != other for one, other in zip(draws("site", 1), draws("site", 2), strict=True))


def test_generators_leave_the_global_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    torch.rand(3, generator=torch_generator(0, "a"))
    assert torch.rand(1) == expected
