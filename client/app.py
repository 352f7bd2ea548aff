"""The site's Flower app: parse, delegate, reply; of an error only its fixed public reason leaves the site."""

import logging
from collections.abc import Callable
from typing import TypeVar

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp

from client.local_round import evaluate_locally, train_locally
from client.site import Site, open_site
from shared_model.errors import FederatedMammographyError
from shared_model.messages import (
    EvaluateReply,
    Request,
    TrainReply,
    pack_evaluate_reply,
    pack_train_reply,
    unpack_request,
)

logger = logging.getLogger(__name__)
_REFUSED = 1000
"""Flower keeps the codes below for itself."""
Reply = TypeVar("Reply", TrainReply, EvaluateReply)

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train privately for one round and reply with the update."""
    return _reply(message, context, train_locally, pack_train_reply)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score the site's validation and test lesions and reply with histograms."""
    return _reply(message, context, evaluate_locally, pack_evaluate_reply)


def _reply(
    message: Message, context: Context, answer: Callable[[Request, Site], Reply], pack: Callable[[Reply], RecordDict]
) -> Message:
    try:
        request = unpack_request(message.content)
        site = open_site(context.node_config, request.config)
        return Message(pack(answer(request, site)), reply_to=message)
    except FederatedMammographyError as error:
        logger.error("Refused: %s", error)  # noqa: TRY400, one line is what the person at the site needs
        return Message(Error(code=_REFUSED, reason=error.public_reason), reply_to=message)
    except Exception:  # the redaction wrapper: Flower would send the text of the exception
        logger.exception("Failed")
        return Message(Error(code=_REFUSED, reason=FederatedMammographyError.public_reason), reply_to=message)
