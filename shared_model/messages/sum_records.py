"""Messages of a secure sum to and from Flower's records; everything that arrives is checked, as in ``records``.

Keys, signatures and sealed shares are bytes by site: each kind is a record with an entry for each site. Signatures are
not checked here.
"""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from shared_model.errors import ProtocolError
from shared_model.messages.checked_values import (
    FACTS,
    MAX_PATIENTS,
    decode_array,
    read_facts,
    read_scalar,
    require_modest,
)
from shared_model.messages.sum_parts import SumParts
from shared_model.messages.sum_replies import AdvertReply, AgreeReply, MaskedReply, OfferReply, UnmaskReply
from shared_model.messages.train_facts import read_train_facts, train_facts
from shared_model.secure_sum.roster import Advert
from shared_model.secure_sum.round_keys import Offer

_KEY_BYTES, _COUNT_BYTES, _SIGNATURE_BYTES = 32, 8, 64
_MAX_BYTES = 512
"""Of what one site seals for another."""
_ADVERTS, _OFFERS, _SEALED, _MASKED, _AGREED = "adverts", "offers", "sealed", "masked", "agreed"
_OWN, _MASK = "own-shares", "mask-shares"
_SIGNATURE, _VALUES = "signature", "values"


def add_parts(content: RecordDict, parts: SumParts) -> RecordDict:
    """Add the records of ``parts`` to those of a request, and return them."""
    content[_ADVERTS] = ConfigRecord({advert.site: _advert_bytes(advert) for advert in parts.adverts})
    content[_OFFERS] = ConfigRecord({offer.site: _offer_bytes(offer) for offer in parts.offers})
    for name, entries in ((_SEALED, parts.sealed), (_MASKED, parts.masked), (_AGREED, parts.agreed)):
        content[name] = ConfigRecord(dict(entries))
    return content


def read_parts(content: RecordDict) -> SumParts | None:
    """Return the parts of a request's secure sum, None for a request without one.

    Raises:
        ProtocolError: a part is malformed.
    """
    if _ADVERTS not in content.config_records:
        return None
    return SumParts(
        adverts=tuple(_read_advert(site, entry) for site, entry in _read_map(content, _ADVERTS).items()),
        offers=tuple(_read_offer(site, entry) for site, entry in _read_map(content, _OFFERS).items()),
        sealed=_read_map(content, _SEALED),
        masked=_read_map(content, _MASKED),
        agreed=_read_map(content, _AGREED),
    )


def pack_advert_reply(reply: AdvertReply) -> RecordDict:
    """Translate a site's keys for a run to Flower records."""
    facts = ConfigRecord({"site": reply.site, "server-round": reply.server_round})
    return RecordDict({FACTS: facts, _ADVERTS: ConfigRecord({reply.site: _advert_bytes(reply.advert)})})


def unpack_advert_reply(content: RecordDict) -> AdvertReply:
    """Translate Flower records to a site's keys for a run.

    Raises:
        ProtocolError: a record or key is missing or malformed.
    """
    site, server_round = _read_sender(content)
    entry = _read_map(content, _ADVERTS).get(site, b"")
    return AdvertReply(advert=_read_advert(site, entry), server_round=server_round)


def pack_offer_reply(reply: OfferReply) -> RecordDict:
    """Translate a site's key and shares for a round to Flower records."""
    return RecordDict(
        {
            FACTS: ConfigRecord({"site": reply.site, "server-round": reply.server_round}),
            _OFFERS: ConfigRecord({reply.site: _offer_bytes(reply.offer)}),
            _SEALED: ConfigRecord(dict(reply.sealed)),
        }
    )


def unpack_offer_reply(content: RecordDict) -> OfferReply:
    """Translate Flower records to a site's key and shares for a round.

    Raises:
        ProtocolError: a record or key is missing or malformed.
    """
    site, server_round = _read_sender(content)
    offer = _read_offer(site, _read_map(content, _OFFERS).get(site, b""))
    return OfferReply(server_round=server_round, offer=offer, sealed=_read_map(content, _SEALED))


def pack_masked_reply(reply: MaskedReply) -> RecordDict:
    """Translate a masked release to Flower records."""
    facts = ConfigRecord({**train_facts(reply.facts), _SIGNATURE: reply.signature})
    return RecordDict({FACTS: facts, _MASKED: ArrayRecord({_VALUES: Array(reply.values)})})


def unpack_masked_reply(content: RecordDict) -> MaskedReply:
    """Translate Flower records to a masked release.

    Raises:
        ProtocolError: a record or key is missing, malformed or out of range.
    """
    require_modest(content)
    facts, record = read_facts(content), content.array_records.get(_MASKED, ArrayRecord())
    if list(record) != [_VALUES]:
        raise ProtocolError(f"Expected {_VALUES!r} alone in the record {_MASKED!r}, got {len(record)} entries.")
    values = decode_array(_VALUES, record[_VALUES], np.dtype(np.uint32))
    if values.ndim != 1:
        raise ProtocolError(f"Expected masked values of one dimension, got {values.ndim}.")
    signature = _exactly(facts.get(_SIGNATURE), _SIGNATURE_BYTES, "a signature")
    return MaskedReply(facts=read_train_facts(facts), values=values, signature=signature)


def pack_agree_reply(reply: AgreeReply) -> RecordDict:
    """Translate a site's signature for a list of sites to Flower records."""
    facts = ConfigRecord({"site": reply.site, "server-round": reply.server_round, _SIGNATURE: reply.signature})
    return RecordDict({FACTS: facts})


def unpack_agree_reply(content: RecordDict) -> AgreeReply:
    """Translate Flower records to a site's signature for a list of sites.

    Raises:
        ProtocolError: a record or key is missing or malformed.
    """
    site, server_round = _read_sender(content)
    signature = _exactly(read_facts(content).get(_SIGNATURE), _SIGNATURE_BYTES, "a signature")
    return AgreeReply(site=site, server_round=server_round, signature=signature)


def pack_unmask_reply(reply: UnmaskReply) -> RecordDict:
    """Translate a site's shares to Flower records."""
    return RecordDict(
        {
            FACTS: ConfigRecord({"site": reply.site, "server-round": reply.server_round}),
            _OWN: ConfigRecord(dict(reply.own)),
            _MASK: ConfigRecord(dict(reply.mask)),
        }
    )


def unpack_unmask_reply(content: RecordDict) -> UnmaskReply:
    """Translate Flower records to a site's shares.

    Raises:
        ProtocolError: a record or key is missing or malformed.
    """
    site, server_round = _read_sender(content)
    own, mask = _read_map(content, _OWN), _read_map(content, _MASK)
    return UnmaskReply(site=site, server_round=server_round, own=own, mask=mask)


def _read_sender(content: RecordDict) -> tuple[str, int]:
    require_modest(content)
    facts = read_facts(content)
    return read_scalar(facts, "site", str), read_scalar(facts, "server-round", int, low=0)


def _read_map(content: RecordDict, name: str) -> dict[str, bytes]:
    record = content.config_records.get(name, ConfigRecord())
    for entry in record.values():
        if not isinstance(entry, bytes) or len(entry) > _MAX_BYTES:
            raise ProtocolError(f"Expected entries of {name!r} to be at most {_MAX_BYTES} bytes each.")
    return dict(record)  # type: ignore[arg-type]


def _exactly(value: object, length: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ProtocolError(f"Expected {what} of {length} bytes.")
    return value


def _advert_bytes(advert: Advert) -> bytes:
    return advert.identity + advert.num_patients.to_bytes(_COUNT_BYTES, "big") + advert.run_key + advert.signature


def _read_advert(site: str, entry: bytes) -> Advert:
    identity, count, run_key, signature = _cut(entry, _KEY_BYTES, _COUNT_BYTES, _KEY_BYTES, _SIGNATURE_BYTES)
    num_patients = int.from_bytes(count, "big")
    if not 1 <= num_patients <= MAX_PATIENTS:
        raise ProtocolError(f"Expected a site to declare from 1 to {MAX_PATIENTS} patients.")
    return Advert(site=site, identity=identity, num_patients=num_patients, run_key=run_key, signature=signature)


def _offer_bytes(offer: Offer) -> bytes:
    return offer.mask_key + offer.signature


def _read_offer(site: str, entry: bytes) -> Offer:
    mask_key, signature = _cut(entry, _KEY_BYTES, _SIGNATURE_BYTES)
    return Offer(site=site, mask_key=mask_key, signature=signature)


def _cut(entry: bytes, *lengths: int) -> list[bytes]:
    _exactly(entry, sum(lengths), "the keys of a site")
    parts, start = [], 0
    for length in lengths:
        parts.append(entry[start : start + length])
        start += length
    return parts
