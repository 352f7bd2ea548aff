"""Randomness that no observer may predict: the Gaussian noise of a private step and the draw of its patients.

A guarantee of differential privacy holds only against those who do not know the random numbers. Torch's and NumPy's
generators can be rewound from their output, so the numbers come from the keystream of a block cipher instead.
"""

import hashlib
import hmac
import math
import os
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

_KEY_BYTES = 32
_COUNTER_BYTES = 16


class NoiseGenerator:
    """Uniform and Gaussian numbers from an AES-256 keystream in counter mode (NIST SP 800-38A, 6.5).

    Successive calls continue one stream, so they are independent of each other.
    """

    def __init__(self, key: bytes) -> None:
        """Start the stream of ``key``, which must serve for nothing else.

        Raises:
            ValueError: ``key`` has not 32 bytes.
        """
        if len(key) != _KEY_BYTES:
            raise ValueError(f"Expected a key of length={len(key)} == {_KEY_BYTES}.")
        # A key is never used twice, so the counter may start at zero.
        self._keystream = Cipher(algorithms.AES256(key), modes.CTR(bytes(_COUNTER_BYTES))).encryptor()

    @classmethod
    def from_system_entropy(cls) -> Self:
        """Return a generator whose key comes from the operating system and is kept nowhere else."""
        return cls(os.urandom(_KEY_BYTES))

    @classmethod
    def bound_to(cls, key: bytes, contents: Iterable[bytes]) -> Self:
        """Return the generator of ``key`` for these contents alone; for others it is an independent one.

        Two sums under one noise would show their difference exactly. So a key that comes up again when the data have
        changed, as in a ledger that was restored from a backup, gives another noise; with the same data, the same.

        Raises:
            ValueError: ``key`` has not 32 bytes.
        """
        if len(key) != _KEY_BYTES:
            raise ValueError(f"Expected a key of length={len(key)} == {_KEY_BYTES}.")
        digest = hashlib.sha256()
        for content in contents:
            digest.update(hashlib.sha256(content).digest())
        return cls(hmac.digest(key, digest.digest(), "sha256"))

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """Return the reproducible generator of ``seed``: no protection, for simulations and tests only."""
        return cls(hashlib.sha256(f"privacy noise, seed {seed}".encode()).digest())

    def uniform(self, count: int) -> Tensor:
        """Return ``count`` numbers ``(count,)``, float64, uniform over the multiples of 2^-53 in [0, 1).

        Raises:
            ValueError: ``count`` is negative.
        """
        if count < 0:
            raise ValueError(f"Expected count={count} >= 0.")
        return torch.from_numpy(self._uniform(count))

    def normal(self, shape: Sequence[int], *, std: float, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return independent N(0, ``std``^2) numbers of ``shape``, computed in float64 (Box & Muller 1958).

        The largest possible magnitude is 8.57 ``std``; a normal number exceeds that with probability 1e-17.

        Raises:
            ValueError: ``std`` is negative or not finite.
        """
        if not 0 <= std < math.inf:
            raise ValueError(f"Expected std={std} >= 0 and finite.")
        count = math.prod(shape)
        pairs = (count + 1) // 2
        radius = np.sqrt(-2 * np.log1p(-self._uniform(pairs)))
        angle = 2 * math.pi * self._uniform(pairs)
        values = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
        return torch.from_numpy(std * values).reshape(tuple(shape)).to(dtype)

    def _uniform(self, count: int) -> npt.NDArray[np.float64]:
        words = np.frombuffer(self._keystream.update(bytes(8 * count)), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
