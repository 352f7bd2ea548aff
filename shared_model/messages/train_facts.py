"""The single values that a reply about training patients carries, whatever its arrays are."""

import re
from collections.abc import Mapping

from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import MAX_PATIENTS, read_scalar
from shared_model.messages.types import EvaluateReply, PrivacySpent, TrainReply

_WITNESS = re.compile(r"(?:[0-9a-f]{64})?")


def train_facts(reply: TrainReply) -> dict[str, int | float | str]:
    """Return the values of ``reply`` by the names that they have in a message."""
    facts: dict[str, int | float | str] = {
        "site": reply.site,
        "server-round": reply.server_round,
        "num-patients-declared": reply.num_patients_declared,
        **witnesses(reply),
    }
    if reply.privacy is not None:
        facts |= {
            "epsilon": reply.privacy.epsilon,
            "delta": reply.privacy.delta,
            "noise-multiplier": reply.privacy.noise_multiplier,
        }
    return facts


def read_train_facts(facts: Mapping[str, object]) -> TrainReply:
    """Return the reply with these values, and without arrays.

    Raises:
        ProtocolError: a value is missing, malformed, out of range or not finite.
    """
    privacy = None
    if "epsilon" in facts:
        privacy = PrivacySpent(
            epsilon=read_scalar(facts, "epsilon", float, low=0),
            delta=read_scalar(facts, "delta", float, low=0, high=1),
            noise_multiplier=read_scalar(facts, "noise-multiplier", float, low=0),
        )
    return TrainReply(
        site=read_scalar(facts, "site", str),
        server_round=read_scalar(facts, "server-round", int, low=0),
        update={},
        num_patients_declared=read_scalar(facts, "num-patients-declared", int, low=1, high=MAX_PATIENTS),
        privacy=privacy,
        witness=read_witness(facts, "witness"),
        previous_witness=read_witness(facts, "previous-witness"),
    )


def witnesses(reply: TrainReply | EvaluateReply) -> dict[str, str]:
    """Return what a reply shows of its site's ledger."""
    return {"witness": reply.witness, "previous-witness": reply.previous_witness}


def read_witness(facts: Mapping[str, object], key: str) -> str:
    """Return the witness under ``key``.

    Raises:
        ProtocolError: it is missing or none.
    """
    value = read_scalar(facts, key, str)
    if _WITNESS.fullmatch(value) is None:
        raise ProtocolError(f"Expected {key} to be empty or 64 hexadecimal digits.")
    return value
