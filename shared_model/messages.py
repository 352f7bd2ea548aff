"""Typed requests and replies, and their one translation to and from Flower records.

Everything that arrives is checked here against what was expected, before any other code sees it: names, dtypes,
shapes, finite values, ranges. The only module with wire keys.
"""

import dataclasses
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import safetensors.numpy as safetensors
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import source_fingerprint
from shared_model.config.server_sections import EvaluationConfig
from shared_model.errors import ProtocolError
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.named_arrays import Float32Array, Parameters, to_safetensors
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram

_FACTS = "facts"
_PARAMETERS = "parameters"
_CONSTANTS = "constants"
_UPDATE = "update"
_HISTOGRAMS = "histograms"
_ROLES = ("test", "validation")
_PARTS = ("negatives", "positives")
_MAX_PATIENTS = 10_000_000
_MAX_DIMENSIONS = 8

Scalar = TypeVar("Scalar", int, float, str)
AnyScalar = TypeVar("AnyScalar", bound=np.generic)
Histogram = ScoreHistogram | PatientHistogram


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the server sends to every site, to train or to evaluate."""

    config: ExperimentConfig
    server_round: int
    """Rounds count from 1; 0 is the untrained network."""
    parameters: Parameters
    """The trainable parameters."""
    constants: Parameters
    """Public constants of the network, frozen during training."""


@dataclass(frozen=True, kw_only=True)
class PrivacySpent:
    """What a site has spent, including this round; free of data, so that it may be sent."""

    epsilon: float
    delta: float
    noise_multiplier: float


@dataclass(frozen=True, kw_only=True)
class TrainReply:
    """A site's update, and the facts that it declares."""

    site: str
    server_round: int
    update: Parameters
    num_patients_declared: int
    """Rounded down: a declared fact and not a count."""
    privacy: PrivacySpent | None
    """None when the site trained without privacy."""


@dataclass(frozen=True, kw_only=True)
class EvaluateReply:
    """A site's score histograms, one per role, each of both classes: exact, or weighted and with noise."""

    site: str
    server_round: int
    test: Histogram
    validation: Histogram


def pack_request(request: Request) -> RecordDict:
    """Translate a request to Flower records."""
    facts = ConfigRecord(
        {
            "config": request.config.to_json(),
            "server-round": request.server_round,
            "source-fingerprint": source_fingerprint(),
        }
    )
    return RecordDict(
        {_FACTS: facts, _PARAMETERS: _to_record(request.parameters), _CONSTANTS: _to_record(request.constants)}
    )


def unpack_request(content: RecordDict) -> Request:
    """Translate Flower records to a request.

    Raises:
        ProtocolError: a record or key is missing, malformed, or the server runs other source code.
        ConfigError: the configuration inside is wrong.
    """
    facts = _facts(content)
    theirs, ours = _scalar(facts, "source-fingerprint", str), source_fingerprint()
    if theirs != ours:
        raise ProtocolError(
            f"Expected source fingerprint {ours[:12]} as at this site, got {theirs[:12]}: server and site must run the "
            "same version."
        )
    return Request(
        config=ExperimentConfig.from_json(_scalar(facts, "config", str)),
        server_round=_scalar(facts, "server-round", int, low=0),
        parameters=_from_record(content, _PARAMETERS),
        constants=_from_record(content, _CONSTANTS),
    )


def request_digest(request: Request) -> str:
    """Return the SHA-256 over everything that is asked, hexadecimal: equal only for the same work."""
    digest = hashlib.sha256(f"{source_fingerprint()}\n{request.server_round}\n{request.config.to_json()}".encode())
    for arrays in (request.parameters, request.constants):
        digest.update(to_safetensors(_plain(arrays)))
    return digest.hexdigest()


def train_reply_to_bytes(reply: TrainReply) -> bytes:
    """Return the reply as the content of a safetensors file, for the site's own disk."""
    facts = {
        "site": reply.site,
        "server_round": reply.server_round,
        "num_patients_declared": reply.num_patients_declared,
        "privacy": None if reply.privacy is None else dataclasses.asdict(reply.privacy),
        # The file sorts its arrays; a reply keeps the order of the network.
        "names": list(reply.update),
    }
    return to_safetensors(_plain(reply.update), {_FACTS: json.dumps(facts)})


def train_reply_from_bytes(content: bytes) -> TrainReply:
    """Return what ``train_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _facts_of_file(content), safetensors.load(content)
    privacy, update = facts.pop("privacy"), {name: arrays[name] for name in facts.pop("names")}
    return TrainReply(**facts, update=update, privacy=None if privacy is None else PrivacySpent(**privacy))


def evaluate_reply_to_bytes(reply: EvaluateReply) -> bytes:
    """Return a reply with noisy histograms as the content of a safetensors file, for the site's own disk."""
    facts = {"site": reply.site, "server_round": reply.server_round}
    return to_safetensors(_histogram_arrays(reply), {_FACTS: json.dumps(facts)})


def evaluate_reply_from_bytes(content: bytes, *, evaluation: EvaluationConfig) -> EvaluateReply:
    """Return what ``evaluate_reply_to_bytes`` was given; the bytes must come from the site's own, verified ledger."""
    facts, arrays = _facts_of_file(content), safetensors.load(content)
    noise_std = evaluation_noise(evaluation)
    test, validation = (
        PatientHistogram(noise_std=noise_std, **{part: arrays[f"{role}-{part}"] for part in _PARTS}) for role in _ROLES
    )
    return EvaluateReply(**facts, test=test, validation=validation)


def _plain(arrays: Parameters) -> dict[str, Float32Array]:
    return {name: np.asarray(arrays[name], order="C") for name in sorted(arrays)}


def _facts_of_file(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    facts: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_FACTS])
    return facts


def pack_train_reply(reply: TrainReply) -> RecordDict:
    """Translate a train reply to Flower records."""
    facts: dict[str, int | float | str] = {
        "site": reply.site,
        "server-round": reply.server_round,
        "num-patients-declared": reply.num_patients_declared,
    }
    if reply.privacy is not None:
        facts |= {
            "epsilon": reply.privacy.epsilon,
            "delta": reply.privacy.delta,
            "noise-multiplier": reply.privacy.noise_multiplier,
        }
    return RecordDict({_FACTS: ConfigRecord(dict(facts)), _UPDATE: _to_record(reply.update)})


def unpack_train_reply(content: RecordDict) -> TrainReply:
    """Translate Flower records to a train reply; finite and well-formed, or an error.

    Raises:
        ProtocolError: a record or key is missing, malformed, out of range or not finite.
    """
    facts = _facts(content)
    privacy = None
    if "epsilon" in facts:
        privacy = PrivacySpent(
            epsilon=_scalar(facts, "epsilon", float, low=0),
            delta=_scalar(facts, "delta", float, low=0, high=1),
            noise_multiplier=_scalar(facts, "noise-multiplier", float, low=0),
        )
    return TrainReply(
        site=_scalar(facts, "site", str),
        server_round=_scalar(facts, "server-round", int, low=1),
        update=_from_record(content, _UPDATE),
        num_patients_declared=_scalar(facts, "num-patients-declared", int, low=1, high=_MAX_PATIENTS),
        privacy=privacy,
    )


def pack_evaluate_reply(reply: EvaluateReply) -> RecordDict:
    """Translate an evaluate reply to Flower records."""
    facts = ConfigRecord({"site": reply.site, "server-round": reply.server_round})
    arrays = ArrayRecord({name: Array(counts) for name, counts in _histogram_arrays(reply).items()})
    return RecordDict({_FACTS: facts, _HISTOGRAMS: arrays})


def unpack_evaluate_reply(content: RecordDict, *, evaluation: EvaluationConfig) -> EvaluateReply:
    """Translate Flower records to an evaluate reply with the histograms that ``evaluation`` asks for.

    Raises:
        ProtocolError: a record or key is missing, malformed or out of range.
    """
    facts = _facts(content)
    record = content.array_records.get(_HISTOGRAMS, ArrayRecord())
    is_private = evaluation.privacy is EvaluationPrivacy.DP
    read = _noisy_histogram if is_private else _exact_histogram
    histograms = {role: read(record, role, evaluation) for role in _ROLES}
    return EvaluateReply(
        site=_scalar(facts, "site", str),
        server_round=_scalar(facts, "server-round", int, low=0),
        test=histograms["test"],
        validation=histograms["validation"],
    )


def _histogram_arrays(reply: EvaluateReply) -> dict[str, NDArray[Any]]:
    return {f"{role}-{part}": getattr(getattr(reply, role), part) for role in _ROLES for part in _PARTS}


def _exact_histogram(record: ArrayRecord, role: str, evaluation: EvaluationConfig) -> Histogram:
    return ScoreHistogram(**{part: _counts(record, f"{role}-{part}", evaluation.bins) for part in _PARTS})


def _noisy_histogram(record: ArrayRecord, role: str, evaluation: EvaluationConfig) -> Histogram:
    counts = {part: _noisy_counts(record, f"{role}-{part}", evaluation.bins) for part in _PARTS}
    # As configured and not as claimed: the errors of the global figures rest on it.
    return PatientHistogram(noise_std=evaluation_noise(evaluation), **counts)


def _facts(content: RecordDict) -> Mapping[str, object]:
    if _FACTS not in content.config_records:
        raise ProtocolError(f"Expected a record {_FACTS!r}, got {sorted(content)}.")
    return content.config_records[_FACTS]


def _scalar(
    facts: Mapping[str, object], key: str, kind: type[Scalar], *, low: float | None = None, high: float | None = None
) -> Scalar:
    value = facts.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"Expected {key} of type {kind.__name__}, got {type(value).__name__}.")
    if isinstance(value, float) and not np.isfinite(value):
        raise ProtocolError(f"Expected {key}={value} to be finite.")
    if not isinstance(value, str):
        if low is not None and value < low:
            raise ProtocolError(f"Expected {key}={value} >= {low}.")
        if high is not None and value > high:
            raise ProtocolError(f"Expected {key}={value} <= {high}.")
    return value


def _to_record(parameters: Parameters) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(array, order="C")) for name, array in parameters.items()})


def _from_record(content: RecordDict, key: str) -> dict[str, Float32Array]:
    if key not in content.array_records:
        raise ProtocolError(f"Expected a record {key!r}, got {sorted(content)}.")
    arrays = {name: _decode(name, array, np.dtype(np.float32)) for name, array in content.array_records[key].items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ProtocolError(f"Expected {key}[{name!r}] to be finite.")
    return arrays


def _counts(record: ArrayRecord, key: str, num_bins: int) -> NDArray[np.int64]:
    if key not in record:
        raise ProtocolError(f"Expected an array {key!r}, got {sorted(record)}.")
    counts = _decode(key, record[key], np.dtype(np.int64))
    if counts.shape != (num_bins,) or (counts < 0).any() or counts.sum(dtype=np.float64) > _MAX_PATIENTS:
        raise ProtocolError(f"Expected {key} to be {num_bins} counts >= 0, got shape {counts.shape}.")
    return counts


def _noisy_counts(record: ArrayRecord, key: str, num_bins: int) -> NDArray[np.float64]:
    if key not in record:
        raise ProtocolError(f"Expected an array {key!r}, got {sorted(record)}.")
    counts = _decode(key, record[key], np.dtype(np.float64))
    # Written so that NaN fails.
    if counts.shape != (num_bins,) or not (np.abs(counts) <= _MAX_PATIENTS).all():
        raise ProtocolError(f"Expected {key} to be {num_bins} finite counts, got shape {counts.shape}.")
    return counts


def _decode(name: str, array: Array, dtype: np.dtype[AnyScalar]) -> NDArray[AnyScalar]:
    """Return the array of ``dtype`` that ``np.save`` wrote with the declared shape, C-ordered.

    The header is compared with the one expected instead of parsed: NumPy's reader unpickles, opens zip files, allocates
    what a header claims and fails in a dozen ways, none of which a stranger's bytes should reach.
    """
    if array.dtype != str(dtype):
        raise ProtocolError(f"Expected array {name!r} of {dtype}, got {array.dtype!r}.")
    shape, content = array.shape, array.data
    if len(shape) > _MAX_DIMENSIONS or not all(0 <= size <= len(content) for size in shape):
        raise ProtocolError(f"Expected array {name!r} of a shape that its {len(content)} bytes can fill.")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    start = len(header.getvalue())
    if not content.startswith(header.getvalue()) or len(content) != start + math.prod(shape) * dtype.itemsize:
        raise ProtocolError(f"Expected array {name!r} in NumPy format, of the declared shape and type.")
    return np.frombuffer(content, dtype, offset=start).reshape(shape).copy()
