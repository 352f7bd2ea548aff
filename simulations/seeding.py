"""Named torch generators under one root seed; ``shared_model.system.seeding`` says how the names become seeds."""

import torch

from shared_model.system.seeding import derive_seed


def torch_generator(root_seed: int, *names: str | int) -> torch.Generator:
    """Return the CPU torch generator of the stream called ``names``."""
    return torch.Generator().manual_seed(derive_seed(root_seed, *names))
