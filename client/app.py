"""The site's Flower app: parse, delegate, reply; of an error only its fixed public reason leaves the site.

What the site's own audit log says about a request is left in the node's state, as the record ``AUDIT``; the process
that called the app takes it from there (``client.deployment.supernode``), so that it leaves the site no more than the
log does.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.deployment.request_size import require_size
from client.local_round import evaluate_locally, train_locally
from client.local_sums import count_scores_locally, sum_features_locally, sum_moments_locally
from client.privacy.audited_releases import (
    AUDIT,
    CONFIGURATION,
    IS_BELOW_DECLARED,
    REFUSED_KEY,
    release_facts,
)
from client.privacy.ledger_entries import Purpose
from client.secure_sum.answers import advertise_locally, agree_locally, offer_locally, unmask_locally
from client.site import Site, open_site
from shared_model.config.fingerprints import config_fingerprint
from shared_model.errors import FederatedMammographyError, PolicyError
from shared_model.messages import (
    EvaluateReply,
    Request,
    TrainReply,
    pack_evaluate_reply,
    pack_train_reply,
    request_digest,
    unpack_request,
)
from shared_model.messages.sum_records import (
    pack_advert_reply,
    pack_agree_reply,
    pack_masked_reply,
    pack_offer_reply,
    pack_unmask_reply,
)
from shared_model.messages.sum_replies import MaskedReply

logger = logging.getLogger(__name__)
_REFUSED = 1000
"""Flower keeps the codes below for itself."""
Reply = TypeVar("Reply")

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train privately for one round and reply with the update."""
    return _reply(message, context, Purpose.TRAINING, train_locally, _pack_release)


@app.train("mean")
def mean(message: Message, context: Context) -> Message:
    """Sum up the training patients' features, with noise, and reply with the sum."""
    return _reply(message, context, Purpose.TRAINING, sum_features_locally, _pack_release)


@app.train("moments")
def moments(message: Message, context: Context) -> Message:
    """Sum up the training patients' moments, with noise, and reply with the sum."""
    return _reply(message, context, Purpose.TRAINING, sum_moments_locally, _pack_release)


@app.train("scores")
def scores(message: Message, context: Context) -> Message:
    """Score the training patients and reply with a histogram with noise."""
    return _reply(message, context, Purpose.TRAINING, count_scores_locally, _pack_release)


@app.train("keys")
def keys(message: Message, context: Context) -> Message:
    """Reply with the site's keys for a run of secure sums."""
    return _reply(message, context, None, advertise_locally, pack_advert_reply)


@app.train("shares")
def shares(message: Message, context: Context) -> Message:
    """Reply with the shares of the site's masks for a round, sealed for the other sites."""
    return _reply(message, context, None, offer_locally, pack_offer_reply)


@app.train("agree")
def agree(message: Message, context: Context) -> Message:
    """Sign the list of the sites whose sum is to be opened."""
    return _reply(message, context, None, agree_locally, pack_agree_reply)


@app.train("unmask")
def unmask(message: Message, context: Context) -> Message:
    """Reply with the shares that open the sum over the list that enough sites signed."""
    return _reply(message, context, None, unmask_locally, pack_unmask_reply)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the site's validation and test lesions and reply with histograms."""
    return _reply(message, context, Purpose.EVALUATION, evaluate_locally, _pack_release)


def _reply(
    message: Message,
    context: Context,
    purpose: Purpose | None,
    answer: Callable[[Request, Site], Reply],
    pack: Callable[[Reply], RecordDict],
) -> Message:
    """Answer ``message``; ``purpose`` is that of the release which the reply is, if it is one."""
    facts = ConfigRecord()
    context.state[AUDIT] = facts
    try:
        require_size(message.content)
        request = unpack_request(message.content)
        facts[CONFIGURATION] = config_fingerprint(request.config)
        site = open_site(context.node_config, request.config)
        reply = Message(pack(answer(request, site)), reply_to=message)
        if purpose is not None:
            _note(facts, request, site, purpose)
    except FederatedMammographyError as error:
        logger.error("Refused: %s", error)  # noqa: TRY400, one line is what the person at the site needs
        facts[REFUSED_KEY] = (error.key if isinstance(error, PolicyError) else "") or type(error).__name__
        return Message(Error(code=_REFUSED, reason=error.public_reason), reply_to=message)
    except Exception as error:  # the redaction wrapper: Flower would send the text of the exception
        logger.exception("Failed")
        facts[REFUSED_KEY] = type(error).__name__
        return Message(Error(code=_REFUSED, reason=FederatedMammographyError.public_reason), reply_to=message)
    return reply


def _pack_release(reply: TrainReply | EvaluateReply | MaskedReply) -> RecordDict:
    if isinstance(reply, MaskedReply):
        return pack_masked_reply(reply)
    return pack_train_reply(reply) if isinstance(reply, TrainReply) else pack_evaluate_reply(reply)


def _note(facts: ConfigRecord, request: Request, site: Site, purpose: Purpose) -> None:
    """Write down what was released, and whether the site's own alarm goes off, which no reply shows."""
    run = config_fingerprint(request.config)
    history = site.ledger.history()
    for name, value in release_facts(history, purpose=purpose, request=request_digest(request), run=run).items():
        if value is not None:
            facts[name] = value
    if purpose is Purpose.TRAINING and site.is_below_declared():
        facts[IS_BELOW_DECLARED] = True
