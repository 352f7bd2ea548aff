"""A hospital so large that the presets' delta would allow publishing a patient: refused, with what to set instead."""

import pytest

from client.app import app as client_app
from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Reserved
from client.site import simulated_ledger
from server.evaluation.global_model import GlobalModel
from server.federation import exchange
from server.federation.aggregators import new_aggregator
from shared_model.config.composition import compose
from shared_model.errors import PrivacyError, RoundError
from shared_model.messages import Request
from simulations.federation.local_grid import LocalGrid
from simulations.federation.prepare import prepare

NUM_PATIENTS = 10_000
REFUSAL = "Expected delta=0.0001 < 1 / num_patients_declared=10000; set privacy.delta=1e-05 or less."


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A manifest of 10,000 training patients and 20 others."""
    path = tmp_path_factory.mktemp("large") / "table.csv"
    rows = [
        f"P{number},{number % 2},{'train' if number < NUM_PATIENTS else 'test'},CC,LEFT,mass,{1 + number % 4}"
        for number in range(NUM_PATIENTS + 20)
    ]
    header = "patient_id,label,split,view,laterality,abnormality_type,breast_density"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def config(table, clinical):
    """Return the configuration of a federation of this hospital alone, with more overrides."""

    def composed(*more):
        fixed = ["data.source=manifest", f"data.root={table}", "data.roster=null", "data.public_fraction=0"]
        fixed += ["evaluation.threshold_from=training"]
        sites = ["federation.sites=[LARGE]", "federation.min_sites=1"]
        return compose(clinical(*fixed, *sites, *more))

    return composed


def test_a_simulation_says_what_to_set_and_runs_with_it(config):
    with pytest.raises(PrivacyError) as refused:
        prepare(config(), on_progress=lambda *_: None)
    assert str(refused.value) == f"Site LARGE: {REFUSAL}"
    prepared = prepare(config("privacy.delta=1e-05"), on_progress=lambda *_: None)
    assert prepared.num_declared == NUM_PATIENTS


def ask(config):
    """Ask the hospital for an update."""
    request = Request(
        config=config, server_round=1, parameters=GlobalModel.from_config(config).initial_parameters, constants={}
    )
    with LocalGrid(client_app, num_sites=1, num_workers=1) as grid:
        return exchange.train(grid, request, list(grid.get_node_ids()), aggregator=new_aggregator(request, {}))


def test_the_hospital_says_it_in_its_own_log_and_spends_nothing(config, caplog):
    refused = config()
    with pytest.raises(RoundError, match="the site refused for privacy reasons"):
        ask(refused)
    assert REFUSAL in caplog.text
    entries = read_history(simulated_ledger(refused, "LARGE")).entries
    assert not any(isinstance(entry.content, Reserved) for entry in entries)
    (reply,) = ask(config("privacy.delta=1e-05")).replies
    assert reply.num_patients_declared == NUM_PATIENTS
    assert reply.privacy.delta == 1e-5
