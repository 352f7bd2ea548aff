"""A real site of clinical columns only, so that a round takes milliseconds: what tests ask it, and what it keeps."""

import dataclasses

from client.privacy.ledger_database import read_history
from client.privacy.ledger_entries import Reserved, Unprotected
from shared_model.messages import Request
from shared_model.network import build_network, constants_state, trainable_state
from shared_model.vocabulary import clinical_width

NUM_PATIENTS, NUM_TEST, NUM_DECLARED = 40, 8, 20


def request_of(config, server_round=1, **changes):
    network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
    request = Request(
        config=config,
        server_round=server_round,
        parameters=trainable_state(network),
        constants=constants_state(network),
    )
    return dataclasses.replace(request, **changes)


def contents_of(site, *kinds):
    return [entry.content for entry in read_history(site.ledger.path).entries if isinstance(entry.content, kinds)]


def releases_of(site):
    return contents_of(site, Reserved, Unprotected)
