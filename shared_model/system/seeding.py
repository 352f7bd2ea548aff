"""Seeds: one root seed, from which every random stream gets a seed of its own by name.

So an additional draw in one place changes no draw elsewhere. For example, the streams called ``"bootstrap", "roc"`` and
``"bootstrap", "lesion"`` are independent.
"""

import hashlib

import numpy as np


def derive_seed(root_seed: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream called ``names`` under ``root_seed``.

    The seed is the first 63 bits of SHA-256 over the root seed and the names with their lengths, so that ``("ab",)``
    and ``("a", "b")`` are different streams.

    >>> derive_seed(0, "network") == derive_seed(0, "network"), derive_seed(0, "ab") == derive_seed(0, "a", "b")
    (True, False)
    """
    digest = hashlib.sha256(str(root_seed).encode())
    for name in names:
        encoded = str(name).encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return int.from_bytes(digest.digest()[:8], "big") >> 1


def numpy_generator(root_seed: int, *names: str | int) -> np.random.Generator:
    """Return the NumPy generator of the stream called ``names``."""
    return np.random.default_rng(derive_seed(root_seed, *names))
