"""A hospital's kit as the coordinator sends it, with a table of its own and the policy that the kits ship."""

import dataclasses
import hashlib
import uuid
from pathlib import Path

import pandas as pd
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import app
from client.deployment.desk import Desk
from client.deployment.site_file import SiteFile
from server.deployment.provision import provision
from shared_model.config import compose
from shared_model.messages import Request, pack_request
from shared_model.network import build_network, constants_state, trainable_state
from shared_model.system.processes import free_port
from shared_model.vocabulary import clinical_width

BUNDLE = b"an application"
OVERRIDES = (
    "preset=cbis_mass", "data.root=.", "data.roster=null", "federation.sites=[MGH]", "federation.min_sites=1",
    "run.dir=unused", "evaluation.privacy=dp", "model.modality=clinical", "model.image_components=0",
    "training.num_rounds=3",
)  # fmt: skip
COLUMNS = (
    "patient_id", "lesion_id", "label", "split", "breast_density", "laterality", "view", "abnormality_type",
    "mass_shape", "mass_margins", "image_path",
)  # fmt: skip


def rows_of(patients, *, num_test=0):
    """One row a patient; the first ``num_test`` are in the official test split, every other one is malignant."""
    return [
        {
            "patient_id": patient,
            "lesion_id": f"{patient}-0",
            "label": number % 2,
            "split": "test" if number < num_test else "train",
            "breast_density": 2,
            "laterality": "LEFT",
            "view": "CC",
            "abnormality_type": "mass",
            "mass_shape": "OVAL",
            "mass_margins": "CIRCUMSCRIBED",
            "image_path": "",
        }
        for number, patient in enumerate(patients)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kit:
    """The folder of one hospital's kit, and its table."""

    folder: Path
    server: Path
    """The coordinator's kit."""
    table: Path
    port: int

    @property
    def path(self):
        return self.folder / "site.yaml"

    @property
    def site(self):
        return SiteFile.load(self.path)

    def write_table(self, rows):
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(self.table, index=False)

    def change(self, **settings):
        """Change settings of site.yaml."""
        self.path.write_text(yaml.safe_dump(yaml.safe_load(self.path.read_text()) | settings))

    def ask(self, *overrides, kind="train", server_round=1, desk=None):
        """Let the hospital's process answer a request, and return the reply."""
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        config = compose([*OVERRIDES, *overrides])
        network = build_network(config.model, clinical_width(config.data.features), seed=0)
        request = Request(
            config=config,
            server_round=server_round,
            parameters=trainable_state(network),
            constants=constants_state(network),
        )
        message = Message(pack_request(request), 2, kind, group_id=str(server_round))
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        context = Context(
            run_id=1, node_id=2, node_config=dict(self.site.node_config), state=RecordDict(), run_config={}
        )
        return (desk or Desk.open(self.site, app)).answer(message, context, run_id="1", bundle=BUNDLE)

    def change_policy(self, **limits):
        path = self.folder / "policy.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | limits))


def kit_in(folder, *, num_patients=48, num_test=5):
    """Make the kit of a hospital that has not begun its ledger; the first patients are in the test split."""
    port = free_port()
    made = provision(
        out=folder / "kits",
        sites=["MGH"],
        hosts=["localhost"],
        port=port,
        valid_days=90,
        approved_bundles=[hashlib.sha256(BUNDLE).hexdigest()],
    )
    table = folder / "data" / "table.csv"
    table.parent.mkdir()
    kit = Kit(folder=made.sites["MGH"], server=made.server, table=table, port=port)
    kit.write_table(rows_of([f"P{number:05d}" for number in range(num_patients)], num_test=num_test))
    kit.change(data_root=str(table))
    # Otherwise the ledger's random key would decide how many patients are left for training.
    policy = kit.folder / "policy.yaml"
    text = policy.read_text().replace("validation_fraction: 0.2", "validation_fraction: 0.0")
    # The table names no images.
    policy.write_text(text.replace("fields:\n", "fields:\n  model.modality: [clinical]\n"))
    return kit
