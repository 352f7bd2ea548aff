"""Importing torchvision beside a CPU-only torch; no other module imports torchvision.

The package registry's torchvision is built for CUDA. Beside a CPU build of torch its C++ library does not load, so
its operators ``nms`` and ``qnms`` are never declared, and registering their fake kernels (``_meta_registrations.py``
of torchvision 0.28) stops the whole import. Declaring the two schemas first lets the import pass. The operators
stay without implementation; the classification networks that we use need none of them.
"""

import functools
import importlib
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def load_torchvision_models() -> ModuleType:
    """Return ``torchvision.models``; where torchvision imports by itself nothing is declared.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision fails to import for another reason than its missing operators.
    """
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    _declare_operators()
    return importlib.import_module("torchvision.models")


@functools.cache
def _declare_operators() -> torch.library.Library:
    """Declare the missing schemas; the cache keeps the library object, without which torch would withdraw them."""
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    return library
