"""One hospital of several lies: what is changed on its way is the liar's reply alone, and the model outlives it."""

import dataclasses

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from shared_model.config.choices import Aggregation
from shared_model.messages import PrivacySpent, TrainReply, pack_train_reply, unpack_train_reply
from simulations.attacks import liar
from simulations.attacks.liar import LiarCase, LiarResult, LiarRun, Lie, cases, lying_app, measure, summarised

SITES = ("MGH", "WFU", "ISMD")
HONEST = LiarCase(num_sites=3, aggregation=Aggregation.GUARDED, lie=Lie.NONE, liar="")
LYING = dataclasses.replace(HONEST, lie=Lie.FIVEFOLD, liar="MGH")
REPLY = TrainReply(
    site="MGH",
    server_round=1,
    update={"w": np.float32([1.0, -2.0])},
    num_patients_declared=40,
    privacy=PrivacySpent(epsilon=1.0, delta=1e-4, noise_multiplier=2.0),
)


@pytest.fixture(autouse=True)
def task_identity(monkeypatch):
    """The grid sets the identity of this process; give it back afterwards."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.mark.parametrize(
    ("lie", "update"),
    [
        (Lie.NONE, [1.0, -2.0]),
        (Lie.NEGATED, [-1.0, 2.0]),
        (Lie.FIVEFOLD, [-5.0, 10.0]),
        (Lie.CONSTANT, [1e6, 1e6]),
    ],
)
def test_only_the_liar_lies_and_claims_as_many_patients_as_delta_allows(monkeypatch, lie, update):
    monkeypatch.setattr(liar, "honest_app", lambda message, context: Message(pack_train_reply(REPLY), reply_to=message))
    for index in (0, 1):
        context = Context(run_id=1, node_id=1, node_config={"partition-id": index}, state=RecordDict(), run_config={})
        message = Message(RecordDict(), 1, "train")
        message.metadata.__dict__["_message_id"] = "1"
        reply = unpack_train_reply(lying_app(1, lie)(message, context).content)
        if index == 0:
            assert (reply.num_patients_declared, reply.update["w"].tolist()) == (40, [1.0, -2.0])
        else:
            assert (reply.num_patients_declared, reply.update["w"].tolist()) == (9999, update)


def test_every_site_lies_once_in_every_way_and_every_rule_is_tried():
    found = cases(SITES)
    assert len(set(found)) == len(found)
    three = [case for case in found if case.num_sites == 3]
    assert {(case.lie, case.liar) for case in three if case.liar} == {
        (lie, site) for lie in Lie if lie is not Lie.NONE for site in SITES
    }
    five = {case.aggregation for case in found if case.num_sites == 5}
    assert five == {Aggregation.GUARDED, Aggregation.MEDIAN, Aggregation.TRIMMED_MEAN, Aggregation.KRUM}


def test_a_summary_by_hand():
    runs = [
        LiarRun(case=case, seed=seed, auroc=auroc, num_rounds_named=named)
        for case, aurocs, named in ((HONEST, (0.9, 0.8), 0), (LYING, (0.85, 0.71), 3))
        for seed, auroc in enumerate(aurocs)
    ]
    honest, lying = summarised(runs, 4)
    assert (honest.auroc, honest.share_of_rounds_named) == (pytest.approx(0.85), 0)
    assert lying == LiarResult(
        case=LYING,
        auroc=pytest.approx(0.78),
        least_auroc=0.71,
        honest_auroc=pytest.approx(0.85),
        share_of_rounds_named=0.75,
        num_rounds=4,
    )
    assert lying.is_kept
    assert not dataclasses.replace(lying, auroc=0.769).is_kept
    assert not dataclasses.replace(lying, auroc=0.79, case=dataclasses.replace(LYING, num_sites=5)).is_kept


def few_rounds(clinical, *more):
    return clinical("training.num_rounds=6", *more)


def test_a_small_federation_bears_a_liar_that_owned_an_unguarded_mean(clinical):
    """On tables alone, in seconds: the same lie under the mean of earlier versions, and under the default."""
    unguarded = ["strategy.max_site_weight=0.8", "strategy.max_update_norm=null"]
    mean = dataclasses.replace(LYING, aggregation=Aggregation.MEAN)
    honest, lying = measure(few_rounds(clinical), [0], progress=lambda *_: None, chosen=[HONEST, LYING])
    (owned,) = measure(few_rounds(clinical, *unguarded), [0], progress=lambda *_: None, chosen=[mean])
    assert honest.auroc > 0.65
    assert honest.num_rounds_named == 0
    assert lying.auroc > honest.auroc - 0.1
    assert lying.num_rounds_named >= 4
    assert owned.auroc < 0.5


@pytest.mark.slow
def test_one_of_five_is_kept_by_every_rule(clinical):
    chosen = [case for case in cases(SITES) if case.num_sites == 5 and case.lie in {Lie.NONE, Lie.FIVEFOLD}]
    done = []
    runs = list(measure(few_rounds(clinical), [0], progress=lambda *counts: done.append(counts), chosen=chosen))
    assert done == [(number, len(chosen)) for number in range(1, len(chosen) + 1)]
    for result in summarised(runs, 6):
        assert result.auroc > result.honest_auroc - 0.15


@pytest.mark.chaos
def test_the_targets_on_the_phantom():
    """AUC at least 0.80 with one liar of three, whichever it is and whatever it sends, on the phantom of seed 0."""
    chosen = [case for case in cases(SITES) if case.num_sites == 3 and case.lie is not Lie.CONSTANT]
    results = summarised(list(measure(["preset=phantom"], [0], progress=lambda *_: None, chosen=chosen)), 20)
    assert results[0].auroc > 0.82
    for result in results[1:]:
        assert result.auroc >= 0.8, result.case
        assert result.share_of_rounds_named > 0.2
