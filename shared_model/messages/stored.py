"""Canonical bytes: the digest by which a site knows a request again, and the replies that it keeps on its own disk.

A site answers a repeated request with the bytes that it sent before. Digest and stored reply hold their arrays sorted
by name and in C order, so that equal content always gives equal bytes.
"""

import dataclasses
import hashlib
import json
from typing import Any

import numpy as np
from safetensors.numpy import load

from shared_model.config.fingerprints import source_fingerprint
from shared_model.config.server_sections import EvaluationConfig
from shared_model.messages.sum_replies import MaskedReply
from shared_model.messages.types import CLASSES, ROLES, EvaluateReply, PrivacySpent, Request, TrainReply
from shared_model.network.named_arrays import Float32Array, Parameters, to_safetensors
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram

_FACTS, _VALUES = "facts", "values"
_STORED = ("site", "server_round", "num_patients_declared", "witness", "previous_witness")
"""Of a reply about training patients, as they are."""


def request_digest(request: Request) -> str:
    """Return the SHA-256 over everything that a request asks, hexadecimal; equal digests mean the same work."""
    digest = hashlib.sha256(f"{source_fingerprint()}\n{request.server_round}\n{request.config.to_json()}".encode())
    for arrays in (request.parameters, request.constants):
        digest.update(to_safetensors(_sorted_by_name(arrays)))
    if request.sum_parts is not None:
        # Who takes part in a secure sum is part of what is asked; the keys follow from who it is and from the round.
        digest.update(json.dumps(sorted(offer.site for offer in request.sum_parts.offers)).encode())
    return digest.hexdigest()


def train_reply_to_bytes(reply: TrainReply) -> bytes:
    """Return the reply as the content of a safetensors file, for the site's own disk."""
    # The file holds arrays sorted by name; a reply has them in the network's order.
    facts = {**_facts_of(reply), "names": list(reply.update)}
    return to_safetensors(_sorted_by_name(reply.update), {_FACTS: json.dumps(facts)})


def train_reply_from_bytes(content: bytes) -> TrainReply:
    """Return what ``train_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _stored_facts(content), load(content)
    update = {name: arrays[name] for name in facts.pop("names")}
    return _train_reply(facts, update)


def masked_reply_to_bytes(reply: MaskedReply) -> bytes:
    """Return a masked release as the content of a safetensors file, for the site's own disk."""
    facts = {**_facts_of(reply.facts), "signature": reply.signature.hex()}
    return to_safetensors({_VALUES: reply.values}, {_FACTS: json.dumps(facts)})


def masked_reply_from_bytes(content: bytes) -> MaskedReply:
    """Return what ``masked_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _stored_facts(content), load(content)
    signature = bytes.fromhex(facts.pop("signature"))
    return MaskedReply(facts=_train_reply(facts, {}), values=arrays[_VALUES], signature=signature)


def evaluate_reply_to_bytes(reply: EvaluateReply) -> bytes:
    """Return a reply with noisy histograms as the content of a safetensors file, for the site's own disk."""
    facts = {
        "site": reply.site,
        "server_round": reply.server_round,
        "witness": reply.witness,
        "previous_witness": reply.previous_witness,
    }
    return to_safetensors(reply.arrays(), {_FACTS: json.dumps(facts)})


def evaluate_reply_from_bytes(content: bytes, *, evaluation: EvaluationConfig) -> EvaluateReply:
    """Return what ``evaluate_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _stored_facts(content), load(content)
    noise_std = evaluation_noise(evaluation)
    test, validation = (
        PatientHistogram(noise_std=noise_std, **{label: arrays[f"{role}-{label}"] for label in CLASSES})
        for role in ROLES
    )
    return EvaluateReply(**facts, test=test, validation=validation)


def _facts_of(reply: TrainReply) -> dict[str, object]:
    facts = {name: getattr(reply, name) for name in _STORED}
    return {**facts, "privacy": None if reply.privacy is None else dataclasses.asdict(reply.privacy)}


def _train_reply(facts: dict[str, Any], update: Parameters) -> TrainReply:
    privacy = facts.pop("privacy")
    return TrainReply(**facts, update=update, privacy=None if privacy is None else PrivacySpent(**privacy))


def _sorted_by_name(arrays: Parameters) -> dict[str, Float32Array]:
    return {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}


def _stored_facts(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_FACTS])
    return facts
