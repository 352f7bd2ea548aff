"""The site's app as Flower calls it: what it answers, what it refuses, and what never leaves it."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client import app as client_app
from client.data.splits import Role
from client.privacy.ledger import Ledger
from client.privacy.ledger_database import read_history
from client.site import open_site
from server.evaluation.global_model import GlobalModel
from shared_model.config.choices import Fusion
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.errors import DicomError, FederatedMammographyError
from shared_model.messages import Request, pack_request, unpack_evaluate_reply, unpack_train_reply

CANARY = "ZQXCANARYQXZ"


def request_of(config, server_round=1):
    model = GlobalModel.from_config(config)
    return Request(
        config=config,
        server_round=server_round,
        parameters=model.initial_parameters,
        constants=model.constants,
    )


def send(kind, content, node_config=None):
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    message = Message(content, 2, kind, group_id="1")
    message.metadata.__dict__["_message_id"] = "message"
    context = Context(
        run_id=1, node_id=2, node_config=node_config or {"partition-id": 0}, state=RecordDict(), run_config={}
    )
    return client_app.app(message, context)


def outgoing_bytes(reply):
    """Everything of a reply that Flower would put on the wire."""
    if reply.has_error():
        return repr(reply.error).encode()
    parts = [repr(reply.metadata).encode()]
    for record in reply.content.array_records.values():
        parts += [name.encode() + array.data for name, array in record.items()]
    parts += [repr(dict(record)).encode() for record in reply.content.config_records.values()]
    parts += [repr(dict(record)).encode() for record in reply.content.metric_records.values()]
    return b"".join(parts)


@pytest.fixture
def config(hospital):
    # The server's configuration names the site's folder only in a simulation; a canary in it is not the site's to hide.
    return compose(hospital.overrides())


class TestAnswers:
    def test_train_replies_with_update_and_declared_facts(self, config):
        request = request_of(config)
        reply = unpack_train_reply(send("train", pack_request(request)).content)
        assert reply.site == "HOME"
        assert reply.num_patients_declared % config.privacy.cohort_rounding == 0
        assert set(reply.update) == set(request.parameters)
        assert 0 < reply.privacy.epsilon < config.privacy.target_epsilon
        assert any(array.any() for array in reply.update.values())

    def test_epsilon_grows_with_the_round_up_to_the_target(self, config):
        spent = [
            unpack_train_reply(send("train", pack_request(request_of(config, n))).content).privacy.epsilon
            for n in range(1, config.training.num_rounds + 1)
        ]
        assert spent == sorted(spent)
        assert 7.9 < spent[-1] <= config.privacy.target_epsilon

    def test_evaluate_counts_every_held_out_lesion(self, hospital):
        config = compose(hospital.overrides("evaluation.privacy=exact"))
        content = send("evaluate", pack_request(request_of(config))).content
        reply = unpack_evaluate_reply(content, evaluation=config.evaluation)
        assert reply.test.num_lesions == 8
        assert reply.validation.num_lesions > 0

    def test_rows_without_an_image_take_part(self, config):
        data = open_site({"partition-id": 0}, config).data
        has_image = [bool(flag) for role in Role for flag in data.lesions(role).has_image]
        assert has_image.count(False) == 10
        assert len(has_image) == 40


class TestRefusals:
    @pytest.mark.parametrize("server_round", [0, 4])
    def test_round_beyond_the_plan(self, config, server_round):
        reply = send("train", pack_request(request_of(config, server_round)))
        assert reply.error.reason == "the site could not accept the request"

    def test_parameters_of_another_network(self, config):
        request = request_of(config)
        wrong = Request(config=config, server_round=1, parameters={}, constants=request.constants)
        assert send("train", pack_request(wrong)).error.reason == "the site could not accept the request"

    def test_other_source_code(self, config, monkeypatch):
        content = pack_request(request_of(config))
        monkeypatch.setattr("shared_model.messages.records.source_fingerprint", lambda: "0" * 64)
        assert send("train", content).error.reason == "the site could not accept the request"

    def test_data_that_cannot_be_used_have_one_reason(self, config, hospital):
        """Neither the kind of the fault nor its place leaves the site."""
        reasons = set()
        for content in (None, b"", b"patient_id;label\n", b'patient_id,label,split\n"open'):
            hospital.manifest.unlink() if content is None else hospital.manifest.write_bytes(content)
            reasons.add(send("train", pack_request(request_of(config))).error.reason)
        assert reasons == {FederatedMammographyError.public_reason}

    def test_unknown_node(self, config):
        reply = send("train", pack_request(request_of(config)), {"partition-id": 7})
        assert reply.error.reason == "the site refused the configuration"


class TestBudget:
    """What the site enforces whatever the server says; see the ledger's own tests for the disk."""

    def test_a_repeated_request_gets_the_same_bytes(self, config):
        # Mid fusion has several arrays.
        several = dataclasses.replace(config, model=dataclasses.replace(config.model, fusion=Fusion.MID))
        content = pack_request(request_of(several))
        first, second = (send("train", content).content for _ in range(2))
        assert dict(first.config_records["facts"]) == dict(second.config_records["facts"])
        assert first["arrays"]["values"].data == second["arrays"]["values"].data
        # The facts name them in their order, which counts too.
        assert len(first["facts"]["update-names"]) > 1

    def test_more_rounds_than_promised_are_refused_however_they_are_asked(self, config):
        request = request_of(config)
        for number in range(config.training.num_rounds):
            moved = {name: array + number for name, array in request.parameters.items()}
            assert not send("train", pack_request(dataclasses.replace(request, parameters=moved))).has_error()
        moved = {name: array - 1 for name, array in request.parameters.items()}
        reply = send("train", pack_request(dataclasses.replace(request, parameters=moved)))
        assert reply.error.reason == "the site's privacy budget does not allow it"

    def test_noisy_histograms_are_bought_once(self, hospital):
        config = compose(hospital.overrides("evaluation.privacy=dp"))
        request = request_of(config)
        replies = [
            unpack_evaluate_reply(send("evaluate", pack_request(request)).content, evaluation=config.evaluation)
            for _ in range(2)
        ]
        assert (replies[0].test.positives == replies[1].test.positives).all()
        # A noised count is a multiple of 2^-20: two whole ones of ten come once in 10^10 runs.
        assert (replies[0].test.positives % 1 == 0).sum() < 2
        again = send("evaluate", pack_request(dataclasses.replace(request, server_round=2)))
        assert again.error.reason == "the site's privacy budget does not allow it"

    def test_no_histogram_without_evaluation(self, hospital):
        config = compose(hospital.overrides("evaluation.privacy=none"))
        request = dataclasses.replace(request_of(compose(hospital.overrides())), config=config)
        assert send("evaluate", pack_request(request)).error.reason == "the site could not accept the request"


class TestDeployedSite:
    @pytest.fixture
    def node(self, hospital, tmp_path):
        policy = yaml.safe_load((CONFIG_FOLDER / "site_policy" / "hospital.yaml").read_text())
        policy |= {"declared_patients": 10, "lesion_types": None, "views": None}
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
        Ledger.create(tmp_path / "own" / "ledger.sqlite")
        return {
            "site": "HOME",
            "data-root": str(hospital.manifest),
            "data-source": "manifest",
            "ledger": str(tmp_path / "own" / "ledger.sqlite"),
            "policy": str(tmp_path / "policy.yaml"),
        }

    @pytest.fixture
    def allowed(self, hospital):
        overrides = ("evaluation.privacy=dp", "data.root=/nowhere/of/the/server")
        return compose(hospital.overrides(*overrides))

    def test_own_paths_and_own_ledger(self, allowed, node):
        reply = send("train", pack_request(request_of(allowed)), node)
        assert not reply.has_error()
        assert len(read_history(Path(node["ledger"])).entries) == 4

    @pytest.mark.parametrize("override", ["privacy=off", "privacy.noise=seeded", "privacy.target_epsilon=9"])
    def test_the_server_cannot_widen(self, hospital, node, override):
        config = compose(hospital.overrides("evaluation.privacy=dp", override))
        reply = send("train", pack_request(request_of(config)), node)
        assert reply.error.reason == "the site's policy does not allow it"
        assert len(read_history(Path(node["ledger"])).entries) == 1

    def test_a_second_run_finds_the_budget_spent(self, allowed, node):
        for number in range(1, allowed.training.num_rounds + 1):
            assert not send("train", pack_request(request_of(allowed, number)), node).has_error()
        again = dataclasses.replace(allowed, run=dataclasses.replace(allowed.run, dir="another"))
        reply = send("train", pack_request(request_of(again)), node)
        assert reply.error.reason == "the site's privacy budget does not allow it"

    @pytest.mark.parametrize("key", ["data-root", "ledger", "policy"])
    def test_missing_settings(self, allowed, node, key):
        del node[key]
        reply = send("train", pack_request(request_of(allowed)), node)
        assert reply.error.reason == "the site refused the configuration"


class TestNothingElseLeaves:
    @pytest.mark.parametrize("kind", ["train", "evaluate"])
    def test_no_canary_in_replies(self, config, kind):
        assert CANARY.encode() not in outgoing_bytes(send(kind, pack_request(request_of(config))))

    @pytest.mark.parametrize(
        "error", [DicomError(f"{CANARY}.dcm is corrupt"), ValueError(CANARY), KeyError(CANARY), RuntimeError(CANARY)]
    )
    def test_no_canary_in_errors(self, config, monkeypatch, error):
        def fail(*_arguments):
            raise error

        monkeypatch.setattr(client_app, "train_locally", fail)
        reply = send("train", pack_request(request_of(config)))
        assert reply.has_error()
        assert CANARY.encode() not in outgoing_bytes(reply)
        reasons = {kind.public_reason for kind in (DicomError, FederatedMammographyError)}
        assert reply.error.reason in reasons

    def test_reply_has_no_fact_but_the_declared_ones(self, config):
        facts = dict(send("train", pack_request(request_of(config))).content.config_records["facts"])
        assert set(facts) == {
            "site",
            "server-round",
            "num-patients-declared",
            "epsilon",
            "delta",
            "noise-multiplier",
            "witness",
            "previous-witness",
            "update-names",
            "update-dimensions",
            "update-sizes",
        }
