"""Requests and replies: their types, their Flower records, their canonical bytes."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared_model.messages.records import (
        pack_evaluate_reply,
        pack_request,
        pack_train_reply,
        unpack_evaluate_reply,
        unpack_request,
        unpack_train_reply,
    )
    from shared_model.messages.stored import (
        evaluate_reply_from_bytes,
        evaluate_reply_to_bytes,
        request_digest,
        train_reply_from_bytes,
        train_reply_to_bytes,
    )
    from shared_model.messages.types import EvaluateReply, Histogram, PrivacySpent, Request, TrainReply

__all__ = [
    "EvaluateReply",
    "Histogram",
    "PrivacySpent",
    "Request",
    "TrainReply",
    "evaluate_reply_from_bytes",
    "evaluate_reply_to_bytes",
    "pack_evaluate_reply",
    "pack_request",
    "pack_train_reply",
    "request_digest",
    "train_reply_from_bytes",
    "train_reply_to_bytes",
    "unpack_evaluate_reply",
    "unpack_request",
    "unpack_train_reply",
]

_MODULES = {
    "EvaluateReply": "types",
    "Histogram": "types",
    "PrivacySpent": "types",
    "Request": "types",
    "TrainReply": "types",
    "evaluate_reply_from_bytes": "stored",
    "evaluate_reply_to_bytes": "stored",
    "pack_evaluate_reply": "records",
    "pack_request": "records",
    "pack_train_reply": "records",
    "request_digest": "stored",
    "train_reply_from_bytes": "stored",
    "train_reply_to_bytes": "stored",
    "unpack_evaluate_reply": "records",
    "unpack_request": "records",
    "unpack_train_reply": "records",
}


def __getattr__(name: str) -> object:
    """Import Flower only when a message is packed or unpacked (PEP 562)."""
    if name in _MODULES:
        return getattr(import_module(f"shared_model.messages.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
