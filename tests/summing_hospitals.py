"""Hospitals that form secure sums: real apps, tables, ledgers and policies that name each other as partners.

``HospitalGrid`` carries messages to them inside this process and can lose any, before or after a site has answered it.
"""

import dataclasses
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
import yaml
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.privacy.ledger import Ledger
from server.federation.rounds import federate
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.messages import Request
from shared_model.network import build_network, constants_state, trainable_state
from shared_model.secure_sum.identity import Identity
from shared_model.vocabulary import clinical_width
from tests.laws.conftest import COLUMNS, rows_of_patients

NAMES = ("A", "B", "C", "D")
NUM_DECLARED = 20
OVERRIDES = (
    "preset=cbis_mass",
    "data.root=.",
    "data.roster=null",
    "data.lesion_types=[mass,calcification]",
    "data.views=own",
    "model.modality=clinical",
    "model.image_components=0",
    "training.num_rounds=2",
    "privacy.cohort_rounding=10",
    "evaluation.privacy=dp",
    "evaluation.bootstrap_resamples=100",
    "federation.round_timeout_seconds=0.3",
    "federation.secure_sum=true",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hospital:
    """One site: its node's settings and its folder."""

    name: str
    context: Context
    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"

    def answer(self, message: Message) -> Message:
        return app(message, self.context)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Consortium:
    """Hospitals of one federation, by name, and the folder of its runs."""

    hospitals: dict[str, Hospital]
    folder: Path

    def config(self, *more: str, run: str = "run", min_sites: int = 3):
        sites = f"federation.sites=[{','.join(self.hospitals)}]"
        places = f"federation.min_sites={min_sites}", f"run.dir={self.folder / run}"
        return compose([*OVERRIDES, sites, *places, *more])

    def request(self, config, server_round=1, **changes):
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        parameters, constants = trainable_state(network), constants_state(network)
        request = Request(config=config, server_round=server_round, parameters=parameters, constants=constants)
        return dataclasses.replace(request, **changes)


def make_consortium(folder: Path, names: Sequence[str] = NAMES, **policy: object) -> Consortium:
    """Write a table, a ledger and a policy for each hospital; all name each other as partners."""
    hospitals, ledgers = {}, {}
    for number, name in enumerate(names):
        home = folder / name
        home.mkdir(parents=True)
        rows = rows_of_patients(NUM_DECLARED + 2 * number + 6, num_test=6, seed=number)
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(home / "table.csv", index=False)
        ledgers[name] = Ledger.create(home / "ledger.sqlite")
        node = {
            "site": name,
            "data-root": str(home / "table.csv"),
            "data-source": "manifest",
            "ledger": str(home / "ledger.sqlite"),
            "policy": str(home / "policy.yaml"),
            "cache-dir": str(home / "cache"),
        }
        context = Context(run_id=1, node_id=2 + number, node_config=node, state=RecordDict(), run_config={})
        hospitals[name] = Hospital(name=name, context=context, folder=home)
    partners = {name: Identity.from_secret(ledger.identity_secret).public.hex() for name, ledger in ledgers.items()}
    shipped = yaml.safe_load((CONFIG_FOLDER / "site_policy" / "hospital.yaml").read_text())
    for hospital in hospitals.values():
        own = {"declared_patients": NUM_DECLARED, "lesion_types": None, "views": None, "partners": partners}
        (hospital.folder / "policy.yaml").write_text(yaml.safe_dump({**shipped, **own, **policy}))
    return Consortium(hospitals=hospitals, folder=folder)


Lost = Callable[[str, str, int], str | None]
"""From site, kind of message and how many of that kind it got before: None, "request" or "reply"."""


class HospitalGrid(Grid):
    """Calls each hospital's app at once; what is lost stays unanswered, as with a site that is gone."""

    def __init__(self, consortium: Consortium, lost: Lost = lambda *_: None) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self._sites = {2 + number: hospital for number, hospital in enumerate(consortium.hospitals.values())}
        self._lost, self._counts = lost, {}
        self._replies: dict[str, Message] = {}
        self.seen: list[tuple[str, str, Message, Message | None]] = []
        """Site, kind, request, and the reply that arrived."""

    def set_run(self, run) -> None:
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def get_node_ids(self):
        return list(self._sites)

    def push_messages(self, messages):
        identifiers = []
        for message in messages:
            identifier = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = identifier
            identifiers.append(identifier)
            hospital, kind = self._sites[message.metadata.dst_node_id], message.metadata.message_type
            number = self._counts.get((hospital.name, kind), 0)
            self._counts[hospital.name, kind] = number + 1
            what = self._lost(hospital.name, kind, number)
            reply = None if what == "request" else hospital.answer(message)
            if what is None:
                self._replies[identifier] = reply
            self.seen.append((hospital.name, kind, message, reply if what is None else None))
        return identifiers

    def pull_messages(self, message_ids):
        return [self._replies.pop(identifier) for identifier in list(message_ids) if identifier in self._replies]

    def send_and_receive(self, messages, *, timeout=None):
        raise NotImplementedError


def train(consortium, config, *, lost=lambda *_: None):
    """Run a whole training; return it and the grid that carried it."""
    grid = HospitalGrid(consortium, lost)
    Path(config.run.dir).mkdir(parents=True, exist_ok=True)
    return federate(grid, config, on_round=lambda _: None), grid


def refusal(reply: Message) -> Error | None:
    """Return the error of a refused message."""
    return reply.error if reply.has_error() else None


@contextmanager
def quietly():
    """Without the log, and with one thread."""
    level, threads = logging.root.manager.disable, torch.get_num_threads()
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        logging.disable(level)
