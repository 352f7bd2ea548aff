"""One root seed, named independent generators: adding a draw in one place moves no other draw."""

import hashlib

import numpy as np


def derive_seed(root_seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream called ``names`` under ``root_seed``.

    The seed is the head of SHA-256 over the root seed and the length-prefixed names, so that ``("ab",)`` and
    ``("a", "b")`` are different streams.
    """
    digest = hashlib.sha256(str(root_seed).encode())
    for name in names:
        encoded = str(name).encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def numpy_generator(root_seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream called ``names``."""
    return np.random.default_rng(derive_seed(root_seed, *names))
