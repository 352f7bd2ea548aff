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
from shared_model.messages.types import CLASSES, ROLES, EvaluateReply, PrivacySpent, Request, TrainReply
from shared_model.network.named_arrays import Float32Array, Parameters, to_safetensors
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram

_FACTS = "facts"


def request_digest(request: Request) -> str:
    """Return the SHA-256 over everything that a request asks, hexadecimal; equal digests mean the same work."""
    digest = hashlib.sha256(f"{source_fingerprint()}\n{request.server_round}\n{request.config.to_json()}".encode())
    for arrays in (request.parameters, request.constants):
        digest.update(to_safetensors(_sorted_by_name(arrays)))
    return digest.hexdigest()


def train_reply_to_bytes(reply: TrainReply) -> bytes:
    """Return the reply as the content of a safetensors file, for the site's own disk."""
    facts = {
        "site": reply.site,
        "server_round": reply.server_round,
        "num_patients_declared": reply.num_patients_declared,
        "witness": reply.witness,
        "previous_witness": reply.previous_witness,
        "privacy": None if reply.privacy is None else dataclasses.asdict(reply.privacy),
        # The file holds arrays sorted by name; a reply has them in the network's order.
        "names": list(reply.update),
    }
    return to_safetensors(_sorted_by_name(reply.update), {_FACTS: json.dumps(facts)})


def train_reply_from_bytes(content: bytes) -> TrainReply:
    """Return what ``train_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _stored_facts(content), load(content)
    privacy, update = facts.pop("privacy"), {name: arrays[name] for name in facts.pop("names")}
    return TrainReply(**facts, update=update, privacy=None if privacy is None else PrivacySpent(**privacy))


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


def _sorted_by_name(arrays: Parameters) -> dict[str, Float32Array]:
    return {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}


def _stored_facts(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_FACTS])
    return facts
