"""A deployed hospital before a hostile coordinator: the real app, a real table, the policy that the kits ship."""

import dataclasses
import logging
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.privacy.ledger import Ledger
from shared_model.config.composition import CONFIG_FOLDER
from shared_model.messages import Request, pack_request

NAME = "HERE"
SHAPES = ("ROUND", "OVAL", "LOBULATED", "IRREGULAR")
MARGINS = ("CIRCUMSCRIBED", "OBSCURED", "ILL_DEFINED", "SPICULATED")
COLUMNS = (
    "patient_id", "lesion_id", "label", "split", "breast_density", "laterality", "view", "abnormality_type",
    "mass_shape", "mass_margins", "image_path", "roi_x", "roi_y", "roi_w", "roi_h",
)  # fmt: skip
Row = Mapping[str, object]


def rows_of_patients(num_patients: int, *, num_test: int, seed: int = 0) -> list[Row]:
    """One to three lesions a patient; the first ``num_test`` patients are in the official test split."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(num_patients):
        for lesion in range(int(generator.integers(1, 4))):
            label = int(generator.random() < 0.45)
            rows.append(
                {
                    "patient_id": f"P{number:05d}",
                    "lesion_id": f"P{number:05d}-{lesion}",
                    "label": label,
                    "split": "test" if number < num_test else "train",
                    "breast_density": int(generator.integers(1, 5)),
                    "laterality": str(generator.choice(["LEFT", "RIGHT"])),
                    "view": str(generator.choice(["CC", "MLO"])),
                    "abnormality_type": "mass",
                    "mass_shape": str(generator.choice(SHAPES[2:] if label else SHAPES[:3])),
                    "mass_margins": str(generator.choice(MARGINS[1:] if label else MARGINS[:3])),
                }
            )
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """One hospital: its node's settings and its folder."""

    context: Context
    folder: Path

    def ask(self, request: Request, kind: str) -> object:
        """Send a request through the app; return the reply's records or the error that left the site."""
        message = Message(pack_request(request), 2, kind, group_id=str(request.server_round))
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        reply = app(message, self.context)
        return reply.error if reply.has_error() else reply.content

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"


class Hospitals:
    """Makes hospitals from rows, all under one policy."""

    def __init__(self, folder: Path, policy: Mapping[str, object]) -> None:
        self._folder, self._policy = folder, policy

    def open(
        self, rows: Sequence[Row], *, images: Path | None = None, cache: Path | None = None, **policy: object
    ) -> Site:
        """Make a hospital of ``rows``; ``images`` are copied beside its table, and ``cache`` may be shared."""
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir()
        if images is not None:
            shutil.copytree(images, folder, dirs_exist_ok=True)
        pd.DataFrame(list(rows), columns=list(COLUMNS)).to_csv(folder / "table.csv", index=False)
        (folder / "policy.yaml").write_text(yaml.safe_dump({**self._policy, **policy}))
        Ledger.create(folder / "ledger.sqlite")
        node = {
            "site": NAME,
            "data-root": str(folder / "table.csv"),
            "data-source": "manifest",
            "ledger": str(folder / "ledger.sqlite"),
            "policy": str(folder / "policy.yaml"),
            "cache-dir": str(cache or folder / "cache"),
        }
        context = Context(run_id=1, node_id=2, node_config=node, state=RecordDict(), run_config={})
        return Site(context=context, folder=folder)

    @staticmethod
    def rows(num_patients: int, *, num_test: int, seed: int = 0) -> list[Row]:
        return rows_of_patients(num_patients, num_test=num_test, seed=seed)

    @staticmethod
    def observed(answer: object) -> object:
        """Return what an observer sees of an answer but the noised numbers."""
        if not isinstance(answer, RecordDict):
            return ("refused", answer.code, answer.reason)
        facts = {name: dict(record) for name, record in answer.config_records.items()}
        for record in facts.values():
            # Keyed digests: a function of the site's secret, equally distributed for any data.
            for key in set(record) & {"witness", "previous-witness"}:
                record[key] = len(record[key])
        arrays = {
            (name, key): (array.dtype, tuple(array.shape), len(array.data), bool(np.isfinite(array.numpy()).all()))
            for name, record in answer.array_records.items()
            for key, array in record.items()
        }
        return ("answered", facts, arrays, sorted(answer))

    def close(self, *sites: Site) -> None:
        for site in sites:
            shutil.rmtree(site.folder)


@pytest.fixture
def hospitals(tmp_path):
    policy = yaml.safe_load((CONFIG_FOLDER / "site_policy" / "hospital.yaml").read_text())
    policy |= {"declared_patients": 40, "lesion_types": None, "views": None, "min_sampling_rate": 0.5}
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    level = logging.root.manager.disable
    logging.disable(logging.NOTSET if "LAW_LOG" in os.environ else logging.CRITICAL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Hospitals(tmp_path, policy)
    torch.set_num_threads(threads)
    logging.disable(level)
