"""A federation inside this process whose sites answer at once: whole trainings in a fraction of a second.

Every site has lesions of its own, described by clinical columns alone. Its update is a fixed function of the parameters
that it is sent, so that a training can be computed a second way; its histograms are those of its lesions.
"""

import csv
import dataclasses
import functools
import hashlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Error, Message, MessageType
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from server.federation.rounds import federate
from shared_model.config.choices import EvaluationPrivacy
from shared_model.config.composition import compose
from shared_model.data.lesions import Lesions
from shared_model.messages import (
    EvaluateReply,
    PrivacySpent,
    Request,
    TrainReply,
    pack_evaluate_reply,
    pack_train_reply,
    unpack_request,
)
from shared_model.messages.types import CLASSES, FEATURE_SUM, MEAN, MOMENT_SUM, MOMENTS, SCORES
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.efficientnet import FEATURE_WIDTH
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.privacy.patient_moments import SECOND_WEIGHT
from shared_model.privacy.plan import PrivacyPlan
from shared_model.vocabulary import FeaturePolicy, clinical_width
from tests.first_release import PUBLIC_PATIENTS

DEPLOYED = (
    "evaluation.threshold_from=training",
    "model.modality=fusion",
    "model.feature_constants=private_mean",
    "evaluation.holdout=null",
    "evaluation.public=null",
)
"""Overrides with which a run begins with a mean and ends with a histogram, and nobody is public."""
ONE_SHOT = ("strategy=one_shot", "training.num_rounds=1", "evaluation.threshold_from=training")
"""Overrides with which a run is one sum of moments and a histogram."""
NODES = (11, 12, 13)
SITES = ("MGH", "WFU", "ISMD")
NUM_PATIENTS = {"MGH": 40, "WFU": 10, "ISMD": 30}
OVERRIDES = (
    "preset=cbis_mass",
    *PUBLIC_PATIENTS,
    "model.modality=clinical",
    "model.image_components=0",
    "data.root=.",
    "data.features=descriptors",
    "training.num_rounds=4",
    "evaluation.privacy=exact",
    "evaluation.num_bins=50",
    "evaluation.bootstrap_resamples=100",
)


def make_lesions(seed: int, num_lesions: int, width: int) -> Lesions:
    """Two lesions a patient; malignant ones have a larger first column."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(num_lesions) < 0.4).astype(np.float32)
    labels[:2] = (0, 1)
    clinical = generator.normal(size=(num_lesions, width)).astype(np.float32)
    clinical[:, 0] += 2 * labels
    return Lesions(
        images=torch.zeros(num_lesions, 1),
        has_image=torch.zeros(num_lesions, dtype=torch.bool),
        clinical=torch.tensor(clinical),
        labels=torch.tensor(labels),
        patients=torch.arange(num_lesions) // 2,
    )


def site_update(site: str, parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Half the way from ``parameters`` to weights of the site's own, the first of which ranks lesions rightly."""
    offset = 0.1 * SITES.index(site)
    update = {}
    for name, array in parameters.items():
        goal = np.full_like(array, offset)
        goal.flat[0] = 3 + offset
        update[name] = ((goal - array) / 2).astype(np.float32)
    return update


def spent_after(request: Request, num_patients: int, *, num_rounds: int | None = None) -> PrivacySpent | None:
    """The price after ``num_rounds``, or after all rounds up to that of the request; None without privacy."""
    if request.config.privacy.target_epsilon is None:
        return None
    plan = PrivacyPlan.calibrate(request.config, num_patients)
    last = request.config.training.num_rounds
    parts = plan.released(
        has_mean=True,
        num_rounds=num_rounds or min(request.server_round, last),
        has_histogram=request.server_round > last,
    )
    price = epsilon(parts, plan.delta)
    return PrivacySpent(epsilon=price, delta=plan.delta, noise_multiplier=plan.noise_multiplier)


def site_sum(site: str) -> np.ndarray:
    """The features of the site's patients lie along the first axis, and a little along one of its own."""
    total = np.zeros(FEATURE_WIDTH, np.float32)
    total[0], total[1 + SITES.index(site)] = NUM_PATIENTS[site], 0.1 * NUM_PATIENTS[site]
    return total


def head_inputs_of(site: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a linear head reads of the site's lesions, ``(N, W)``, their labels, 1 or -1, and their patients."""
    lesions = make_lesions(200 + SITES.index(site), 2 * NUM_PATIENTS[site], clinical_width(FeaturePolicy.DESCRIPTORS))
    clinical = 0.5 * lesions.clinical.numpy().astype(np.float64)
    inputs = np.hstack([clinical, np.full((len(clinical), 1), 0.1)])
    return inputs, 2 * lesions.labels.numpy().astype(np.float64) - 1, lesions.patients.numpy()


def site_moments(site: str) -> np.ndarray:
    """The sum of the patients' moments, entry by entry, without noise."""
    inputs, signs, patients = head_inputs_of(site)
    total = 0.0
    for patient in np.unique(patients):
        vectors = []
        for x, y in zip(inputs[patients == patient], signs[patients == patient], strict=True):
            triangle = [
                SECOND_WEIGHT * (1 if j == i else 2**0.5) * x[i] * x[j] for i in range(len(x)) for j in range(i, len(x))
            ]
            vectors.append(np.array([*triangle, *(y * x)]))
        mean = sum(vectors) / len(vectors)
        total = total + mean / max(1.0, np.linalg.norm(mean))
    return total.astype(np.float32)


def site_histogram(site: str, request: Request, *, bins: int | None = None) -> ScoreHistogram | PatientHistogram:
    """The site's lesions by a score of the first column and the first weight; without noise even where noise is due."""
    evaluation = request.config.evaluation
    lesions = make_lesions(100 + SITES.index(site), 20, clinical_width(request.config.data.features))
    weight = float(next(iter(request.parameters.values())).flat[0])
    scores = 1 / (1 + np.exp(-weight * lesions.clinical[:, 0].numpy() / 2))
    exact = ScoreHistogram.from_scores(lesions.labels.numpy(), scores, bins or evaluation.bins)
    if evaluation.privacy is not EvaluationPrivacy.DP:
        return exact
    return PatientHistogram(
        negatives=exact.negatives.astype(np.float64),
        positives=exact.positives.astype(np.float64),
        noise_std=evaluation_noise(evaluation),
    )


class Ledgers:
    """What every site's ledger shows with its replies: a new witness for a new request, the same for the same."""

    def __init__(self):
        self._chains: dict[str, list[str]] = {}
        self._shown: dict[tuple[str, str, int], tuple[str, str]] = {}
        self._count = 0

    def show(self, reply):
        """Return the reply with its witness and the one before."""
        key = (reply.site, type(reply).__name__, reply.server_round)
        if key not in self._shown:
            chain = self._chains.setdefault(reply.site, [])
            self._count += 1
            witness = hashlib.sha256(f"{key} {self._count}".encode()).hexdigest()
            self._shown[key] = (witness, chain[-1] if chain else "")
            chain.append(witness)
        witness, previous = self._shown[key]
        return dataclasses.replace(reply, witness=witness, previous_witness=previous)

    def restore(self, site, num_reservations):
        """Put the ledger of a site back to the time when it had so many reservations."""
        forgotten = self._chains[site][num_reservations:]
        self._shown = {key: links for key, links in self._shown.items() if links[0] not in forgotten}
        del self._chains[site][num_reservations:]


class SiteGrid(Grid):
    """Answers every message at once and keeps what was asked.

    Attributes:
        connected: node ids, one set a poll, the last for good.
        refusals: pairs of round and node that answer with an error, by type of message.
        reason: what a site says that refuses.
        change_update: called with site, round and update; returns the update that the site sends.
        change_reply: called with every reply; returns the one that the site sends.
        requests: ``(message_type, site, request)`` in the order in which they were sent.
    """

    def __init__(
        self,
        connected=(NODES,),
        *,
        refusals=(),
        evaluation_refusals=(),
        reason="refused",
        change_update=lambda site, server_round, update: update,
        change_reply=lambda reply: reply,
    ):
        self.connected = list(connected)
        self.refusals = {kind: set(refusals) for kind in (MessageType.TRAIN, MEAN, MOMENTS, SCORES)}
        self.refusals[MessageType.EVALUATE] = {*refusals, *evaluation_refusals}
        self.reason = reason
        self.change_update = change_update
        self.change_reply = change_reply
        self.requests: list[tuple[str, str, Request]] = []
        self._answers: dict[str, Message] = {}

    def asked(self, message_type: str) -> dict[int, list[str]]:
        """Sites by round that got a message of this type."""
        by_round: dict[int, list[str]] = {}
        for kind, site, request in self.requests:
            if kind == message_type:
                by_round.setdefault(request.server_round, []).append(site)
        return by_round

    def set_run(self, run):
        """Set nothing."""

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError

    def get_node_ids(self):
        return self.connected.pop(0) if len(self.connected) > 1 else self.connected[0]

    def push_messages(self, messages):
        for number, message in enumerate(messages, start=len(self._answers)):
            message.metadata.__dict__["_message_id"] = str(number)
            self._answers[str(number)] = self._answer(message)
        return [message.metadata.message_id for message in messages]

    def pull_messages(self, message_ids):
        return [self._answers[identifier] for identifier in message_ids]

    def _answer(self, message):
        kind, node = message.metadata.message_type, message.metadata.dst_node_id
        request, site = unpack_request(message.content), SITES[NODES.index(node)]
        self.requests.append((kind, site, request))
        if (request.server_round, node) in self.refusals[kind]:
            return Message(Error(1000, self.reason), reply_to=message)
        sums = {MEAN: self._sum, MOMENTS: self._moments, SCORES: self._count}
        reply = {MessageType.EVALUATE: self._evaluate, **sums}.get(kind, self._train)
        return Message(reply(site, request), reply_to=message)

    def _sum(self, site, request):
        return self._reply(site, request, {FEATURE_SUM: site_sum(site)})

    def _moments(self, site, request):
        return self._reply(site, request, {MOMENT_SUM: site_moments(site)})

    def _count(self, site, request):
        counts = site_histogram(site, request, bins=request.config.histogram_bins)
        return self._reply(site, request, {label: getattr(counts, label).astype(np.float32) for label in CLASSES})

    def _train(self, site, request):
        return self._reply(site, request, site_update(site, request.parameters))

    def _reply(self, site, request, update):
        update = self.change_update(site, request.server_round, update)
        reply = TrainReply(
            site=site,
            server_round=request.server_round,
            update=update,
            num_patients_declared=NUM_PATIENTS[site],
            privacy=spent_after(request, NUM_PATIENTS[site]),
        )
        return pack_train_reply(self.change_reply(reply))

    def _evaluate(self, site, request):
        histogram = site_histogram(site, request)
        reply = EvaluateReply(site=site, server_round=request.server_round, test=histogram, validation=histogram)
        return pack_evaluate_reply(self.change_reply(reply))


def train(config, grid):
    """Return the finished training and its rounds."""
    rounds = []
    return federate(grid, config, on_round=rounds.append), rounds


def stop_after(last_round, config, grid):
    """Train up to and with ``last_round``, then stop as Ctrl-C would; return the rounds finished."""
    rounds = []

    def on_round(finished):
        rounds.append(finished)
        if finished.server_round == last_round:
            raise KeyboardInterrupt("enough")

    with pytest.raises(KeyboardInterrupt, match="enough"):
        federate(grid, config, on_round=on_round)
    return rounds


def bytes_of(parameters):
    """What two equal sets of arrays have in common, to the last bit."""
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in parameters.items()}


@dataclasses.dataclass(frozen=True)
class ScriptedFederation:
    """A server's files, and the configuration of its trainings."""

    folder: Path
    holdout: Path
    public: Path

    def config(self, *overrides: str, run_dir: Path | None = None, has_lesions: bool = True):
        """A private training of four rounds; with ``has_lesions`` the server has test and public lesions."""
        composed, folder = _compose(*OVERRIDES, *overrides), str(run_dir or self.folder / "run")
        paths = {"holdout": str(self.holdout), "public": str(self.public)} if has_lesions else {}
        given = {override.split("=")[0].removeprefix("evaluation.") for override in overrides}
        paths = {name: path for name, path in paths.items() if name not in given}
        return dataclasses.replace(
            composed,
            run=dataclasses.replace(composed.run, dir=folder),
            federation=dataclasses.replace(composed.federation, ledger_dir=f"{folder}/ledgers"),
            evaluation=dataclasses.replace(composed.evaluation, **paths),
        )


@functools.cache
def _compose(*overrides: str):
    """Hydra takes a fifth of a second, and many tests differ in their folders alone."""
    return compose(list(overrides))


def write_lesions(folder: Path) -> ScriptedFederation:
    federation = ScriptedFederation(folder, folder / "holdout.safetensors", folder / "public.safetensors")
    width = clinical_width(FeaturePolicy.DESCRIPTORS)
    federation.holdout.write_bytes(make_lesions(0, 120, width).to_bytes())
    federation.public.write_bytes(make_lesions(1, 80, width).to_bytes())
    return federation


def write_attributes(path: Path, num_lesions: int) -> None:
    """Attributes of the test lesions: sites by patient, views by row, and so on."""
    generator = np.random.default_rng(3)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["site", "laterality", "view", "abnormality_type", "breast_density"])
        for row in range(num_lesions):
            site = SITES[row // 2 % 3]
            writer.writerow([site, generator.choice(["LEFT", "RIGHT"]), "CC", "mass", generator.integers(1, 5)])


@contextmanager
def task_identity():
    """Messages carry the identity of the process that makes them."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("_run_id", "_node_id", "_task_id"):
            monkeypatch.setattr(TaskIdentity, name, 1)
        yield


class FakeClock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0
        self.now += seconds
