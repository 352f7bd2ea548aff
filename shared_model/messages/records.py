"""Requests and replies to and from Flower's records; the wire's keys are written here with hyphens.

Everything that arrives is checked against what was expected before any other code sees it: names, dtypes, shapes,
finite values, ranges. ``checked_values`` holds those checks.
"""

import dataclasses
from functools import lru_cache

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.config.server_sections import EvaluationConfig
from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import (
    FACTS,
    read_counts,
    read_facts,
    read_noisy_counts,
    read_scalar,
    require_modest,
)
from shared_model.messages.joined_arrays import join_arrays, split_arrays
from shared_model.messages.sum_records import add_parts, read_parts
from shared_model.messages.train_facts import read_train_facts, read_witness, train_facts, witnesses
from shared_model.messages.types import (
    CLASSES,
    ROLES,
    EvaluateReply,
    Histogram,
    Request,
    TrainReply,
)
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.system.peer_text import peer_text

_PARAMETERS = "parameters"
_CONSTANTS = "constants"
_UPDATE = "update"
_HISTOGRAMS = "histograms"


def pack_request(request: Request) -> RecordDict:
    """Translate a request to Flower records."""
    facts: dict[str, int | float | str] = {
        "config": request.config.to_json(),
        "server-round": request.server_round,
        "source-fingerprint": source_fingerprint(),
    }
    content = join_arrays(facts, {_PARAMETERS: request.parameters, _CONSTANTS: request.constants})
    return content if request.sum_parts is None else add_parts(content, request.sum_parts)


def unpack_request(content: RecordDict) -> Request:
    """Translate Flower records to a request.

    Raises:
        ProtocolError: a record or key is missing, malformed, or the server runs other source code.
        ConfigError: the configuration inside is wrong.
    """
    require_modest(content)
    facts = read_facts(content)
    server_source, site_source = read_scalar(facts, "source-fingerprint", str), source_fingerprint()
    if server_source != site_source:
        raise ProtocolError(
            f"Expected source fingerprint {site_source[:12]} as at this site, got "
            f"{peer_text(server_source, 12)!r}: server and site must run the same version."
        )
    config = _read_config(read_scalar(facts, "config", str))
    parameters, constants = split_arrays(content, facts, (_PARAMETERS, _CONSTANTS))
    sum_parts = read_parts(content)
    if sum_parts is not None and not config.federation.secure_sum:
        raise ProtocolError("Expected no parts of a secure sum with federation.secure_sum=false.")
    return Request(
        config=config,
        server_round=read_scalar(facts, "server-round", int, low=0),
        parameters=parameters,
        constants=constants,
        sum_parts=sum_parts,
    )


@lru_cache(maxsize=1)
def _read_config(text: str) -> ExperimentConfig:
    # All requests of a run have the same; it is long where there are many sites, each of which reads it.
    return ExperimentConfig.from_json(text)


def pack_train_reply(reply: TrainReply) -> RecordDict:
    """Translate a train reply to Flower records."""
    return join_arrays(train_facts(reply), {_UPDATE: reply.update})


def unpack_train_reply(content: RecordDict) -> TrainReply:
    """Translate Flower records to a train reply; finite and well-formed, or an error.

    Raises:
        ProtocolError: a record or key is missing, malformed, out of range or not finite.
    """
    require_modest(content)
    facts = read_facts(content)
    reply = read_train_facts(facts)
    return dataclasses.replace(reply, update=split_arrays(content, facts, (_UPDATE,))[0])


def pack_evaluate_reply(reply: EvaluateReply) -> RecordDict:
    """Translate an evaluate reply to Flower records."""
    facts = ConfigRecord({"site": reply.site, "server-round": reply.server_round, **witnesses(reply)})
    arrays = ArrayRecord({name: Array(counts) for name, counts in reply.arrays().items()})
    return RecordDict({FACTS: facts, _HISTOGRAMS: arrays})


def unpack_evaluate_reply(content: RecordDict, *, evaluation: EvaluationConfig) -> EvaluateReply:
    """Translate Flower records to an evaluate reply with the histograms that ``evaluation`` asks for.

    Raises:
        ProtocolError: a record or key is missing, malformed or out of range.
    """
    require_modest(content)
    facts = read_facts(content)
    record = content.array_records.get(_HISTOGRAMS, ArrayRecord())
    is_private = evaluation.privacy is EvaluationPrivacy.DP
    read_histogram = _noisy_histogram if is_private else _exact_histogram
    histograms = {role: read_histogram(record, role, evaluation) for role in ROLES}
    return EvaluateReply(
        site=read_scalar(facts, "site", str),
        server_round=read_scalar(facts, "server-round", int, low=0),
        test=histograms["test"],
        validation=histograms["validation"],
        witness=read_witness(facts, "witness"),
        previous_witness=read_witness(facts, "previous-witness"),
    )


def _exact_histogram(record: ArrayRecord, role: str, evaluation: EvaluationConfig) -> Histogram:
    return ScoreHistogram(**{label: read_counts(record, f"{role}-{label}", evaluation.bins) for label in CLASSES})


def _noisy_histogram(record: ArrayRecord, role: str, evaluation: EvaluationConfig) -> Histogram:
    # The noise of the configuration, whatever the site says: the stated errors of the results depend on it.
    noise_std = evaluation_noise(evaluation)
    counts = {label: read_noisy_counts(record, f"{role}-{label}", evaluation.bins, noise_std) for label in CLASSES}
    return PatientHistogram(noise_std=noise_std, **counts)
