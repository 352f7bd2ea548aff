"""A sum over the sites of which the server sees nothing but the sum (after Bonawitz et al. 2017, with signed lists).

One release of a round takes four messages: shares of the masks, the masked release itself, agreement on whose values
arrived, and the shares that open their sum; ``docs/secure-sums.md`` tells what each is for. Every list is on disk
before it is used, so that a server that was killed asks for the same sum again and gets the same answers.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from server.federation import exchange
from server.federation.exchange import Exchange, Reply, Step
from server.federation.honest_lengths import longest_noise
from server.federation.sum_state import SumState, read_sum_state, write_sum_state
from shared_model.config.fingerprints import config_fingerprint
from shared_model.errors import ProtocolError, RoundError
from shared_model.messages import Request, TrainReply, pack_request
from shared_model.messages.sum_parts import AGREE, KEYS, SHARES, UNMASK, SumParts
from shared_model.messages.sum_records import (
    add_parts,
    unpack_advert_reply,
    unpack_agree_reply,
    unpack_masked_reply,
    unpack_offer_reply,
    unpack_unmask_reply,
)
from shared_model.messages.sum_replies import AgreeReply, MaskedReply, OfferReply, UnmaskReply
from shared_model.metrics.counts import FloatArray
from shared_model.privacy.noise_shares import share
from shared_model.secure_sum.grid import require_sum
from shared_model.secure_sum.masks import Words, unmask
from shared_model.secure_sum.participants import Participants, require_masked, require_survivors
from shared_model.secure_sum.roster import Roster, threshold
from shared_model.secure_sum.round_keys import require_offer
from shared_model.secure_sum.shamir import combine
from shared_model.secure_sum.sum_grid import most_training_patients, sum_grid

_MARGIN = 1.001
"""More than rounding and the sites' margin on the noise add to a length, relatively."""


@dataclass(frozen=True, kw_only=True)
class SumOfSites:
    """What sites are asked to add up."""

    message_type: str
    sensitivity: float
    """By how much, in L2 norm, a patient moves the sum at most."""
    noise_multiplier: float
    """Of the plan; the fewest sites of a sum have so much noise together."""
    num_values: int
    most_patients: Callable[[Roster], int] = most_training_patients
    """In the sum over all sites of the run."""


@dataclass(frozen=True, kw_only=True)
class OpenedSum:
    """A sum over sites, and whose it is."""

    total: FloatArray
    """``(D,)``."""
    num_patients: int
    """Declared by those sites together."""
    noise_std: float
    """In every value."""
    replies: Exchange[TrainReply]
    """What each of them said beside; the updates are empty."""


def secure_sum(
    grid: Grid, request: Request, nodes: Sequence[int], what: SumOfSites, *, check: Callable[[TrainReply], None]
) -> OpenedSum:
    """Return the sum over the sites whose values arrive, ``federation.min_sites`` of them at least.

    Args:
        grid: reaches the sites.
        request: the round, its configuration and parameters; the same for all.
        nodes: Flower's ids of the sites' connections.
        what: to add up.
        check: as in ``exchange.train``; of the replies' updates it sees none.

    Raises:
        RoundError: too few sites answered a message in time; or the sum is longer than an honest one, so that a site
            lies or sent wrong shares, and nobody can say which.
        ConfigError: the run folder holds the state of another run.
    """
    return _Round(grid=grid, request=request, nodes=nodes, what=what, check=check).run()


@dataclass(frozen=True, kw_only=True)
class _Round:
    """The messages of one sum."""

    grid: Grid
    request: Request
    nodes: Sequence[int]
    what: SumOfSites
    check: Callable[[TrainReply], None]

    def run(self) -> OpenedSum:
        """Form the sum."""
        state = self._with_adverts()
        roster = Roster(run=state.run, adverts=state.adverts)
        state, nodes = self._with_offers(state, roster)
        participants = Participants(roster=roster, server_round=self.request.server_round, offers=state.offers)
        released = self._released(state, participants, nodes)
        state = self._with_survivors(state, released)
        agreed = self._agreed(state, participants, nodes)
        shares = self._shares(state, participants, agreed, nodes)
        return self._opened(state, participants, released, shares)

    def _with_adverts(self) -> SumState:
        """Return the state of the run with the keys of its sites, which are asked for once a run."""
        run, folder = config_fingerprint(self.request.config), Path(self.request.config.run.dir)
        known = read_sum_state(folder, run)
        if known is not None:
            return known
        contents = dict.fromkeys(self.nodes, self._content(SumParts()))
        found = self._ask(contents, Step(message_type=KEYS, unpack=unpack_advert_reply, fewest=self._fewest))
        state = SumState(run=run, adverts=tuple(reply.advert for reply in found.replies))
        write_sum_state(folder, state)
        return state

    def _with_offers(self, state: SumState, roster: Roster) -> tuple[SumState, Mapping[str, int]]:
        """Return the state with those who take part in the round, and the connections of the sites that are there.

        A round that is under way is asked again, which costs nothing and says who is there; its list stays.
        """

        def check(reply: OfferReply) -> None:
            """Refuse what the other sites would refuse."""
            require_offer(roster, self.request.server_round, reply.offer)
            if set(reply.sealed) != set(roster.sites):
                raise ProtocolError("Expected shares for every site of the run.")

        names = exchange.site_names(self.request.config.federation)
        there = [node for node in self.nodes if names.get(node, roster.sites[0]) in roster.sites]
        contents = dict.fromkeys(there, self._content(SumParts(adverts=state.adverts)))
        found = self._ask(
            contents, Step(message_type=SHARES, unpack=unpack_offer_reply, fewest=self._fewest, check=check)
        )
        if state.server_round != self.request.server_round or not state.offers:
            state = dataclasses.replace(
                state,
                server_round=self.request.server_round,
                offers=tuple(reply.offer for reply in found.replies),
                sealed={reply.site: dict(reply.sealed) for reply in found.replies},
                masked={},
            )
            write_sum_state(Path(self.request.config.run.dir), state)
        return state, {site: found.nodes[site] for site in found.nodes if site in state.sealed}

    def _released(self, state: SumState, participants: Participants, nodes: Mapping[str, int]) -> Exchange[MaskedReply]:
        """Return the masked releases of those who take part; of a round under way only of those on its list."""

        def check(reply: MaskedReply) -> None:
            """Refuse a release that does not fit, or whose facts cannot be so."""
            if reply.values.shape != (self.what.num_values,):
                raise ProtocolError(f"Expected {self.what.num_values} masked values, got {reply.values.size}.")
            if reply.facts.num_patients_declared != participants.roster.advert(reply.site).num_patients:
                raise ProtocolError("Expected as many patients declared as in the site's keys for the run.")
            require_masked(participants, reply.site, reply.signature)
            self.check(reply.facts)

        wanted = [site for site in nodes if site in state.masked or not state.masked]
        # Packed once: all messages share the arrays of a large network.
        packed, parts = pack_request(self.request), SumParts(adverts=state.adverts, offers=state.offers)
        sealed_for = {site: {sender: sealed[site] for sender, sealed in state.sealed.items()} for site in wanted}
        contents = {
            nodes[site]: add_parts(RecordDict(dict(packed)), dataclasses.replace(parts, sealed=sealed_for[site]))
            for site in wanted
        }
        step = Step(
            message_type=self.what.message_type,
            unpack=unpack_masked_reply,
            fewest=len(state.masked) or self._fewest,
            check=check,
        )
        return self._ask(contents, step)

    def _with_survivors(self, state: SumState, released: Exchange[MaskedReply]) -> SumState:
        """Return the state with those whose values arrived; of a round under way they are settled."""
        if not state.masked:
            state = dataclasses.replace(state, masked={reply.site: reply.signature for reply in released.replies})
            write_sum_state(Path(self.request.config.run.dir), state)
        return state

    def _agreed(self, state: SumState, participants: Participants, nodes: Mapping[str, int]) -> dict[str, bytes]:
        """Return what the sites signed for the list of those whose values arrived."""

        def check(reply: AgreeReply) -> None:
            """Refuse what the other sites would refuse."""
            require_survivors(participants, state.masked, {reply.site: reply.signature}, threshold=1)

        parts = SumParts(adverts=state.adverts, offers=state.offers, masked=state.masked)
        contents = dict.fromkeys(nodes.values(), self._content(parts))
        needed = self._threshold(participants)
        step = Step(message_type=AGREE, unpack=unpack_agree_reply, fewest=needed, check=check)
        found = self._ask(contents, step)
        return {reply.site: reply.signature for reply in found.replies}

    def _shares(
        self,
        state: SumState,
        participants: Participants,
        agreed: Mapping[str, bytes],
        nodes: Mapping[str, int],
    ) -> Exchange[UnmaskReply]:
        """Return the shares that open the sum."""
        dropped = set(participants.sites) - set(state.masked)

        def check(reply: UnmaskReply) -> None:
            """Refuse shares of others than those that were asked for."""
            if set(reply.own) != set(state.masked) or set(reply.mask) != dropped:
                raise ProtocolError("Expected a share for each site that takes part.")

        parts = SumParts(adverts=state.adverts, offers=state.offers, masked=state.masked, agreed=agreed)
        contents = dict.fromkeys((nodes[site] for site in agreed), self._content(parts))
        needed = self._threshold(participants)
        step = Step(message_type=UNMASK, unpack=unpack_unmask_reply, fewest=needed, check=check)
        return self._ask(contents, step)

    def _opened(
        self,
        state: SumState,
        participants: Participants,
        released: Exchange[MaskedReply],
        shares: Exchange[UnmaskReply],
    ) -> OpenedSum:
        roster, needed = participants.roster, self._threshold(participants)

        def seeds(sites: Iterable[str], kind: str) -> dict[str, bytes]:
            """Return the seeds of ``sites``, put together from the shares that all have of them."""
            return {
                site: combine(
                    {roster.position(reply.site): getattr(reply, kind)[site] for reply in shares.replies}, needed
                )
                for site in sites
            }

        masked: Words = np.zeros(self.what.num_values, np.uint32)
        for reply in released.replies:
            masked += reply.values
        dropped = [site for site in participants.sites if site not in state.masked]
        try:
            words = unmask(masked, participants, state.masked, seeds(state.masked, "own"), seeds(dropped, "mask"))
            require_sum(words)
        except ProtocolError as error:
            raise RoundError(f"Expected the shares of round {self.request.server_round} to open it: {error}") from error
        fewest = self.request.config.federation.min_sites
        share_std = share(self.what.noise_multiplier, fewest) * self.what.sensitivity
        grid = sum_grid(
            most_patients=self.what.most_patients(roster),
            num_sites=len(roster.sites),
            sensitivity=self.what.sensitivity,
            share_std=share_std,
        )
        opened = OpenedSum(
            total=grid.from_grid(words),
            num_patients=sum(reply.facts.num_patients_declared for reply in released.replies),
            noise_std=share_std * math.sqrt(len(released.replies)),
            replies=Exchange(
                replies=tuple(reply.facts for reply in released.replies),
                failures=released.failures,
                reasons=released.reasons,
            ),
        )
        self._require_possible(opened, self.what.most_patients(roster))
        return opened

    def _require_possible(self, opened: OpenedSum, most_patients: int) -> None:
        """Check that honest sites can have this sum.

        Raises:
            RoundError: it is too long, which happens by chance with probability ``FAILURE_PROBABILITY`` at most.
        """
        noise = opened.noise_std * longest_noise(self.what.num_values)
        longest = _MARGIN * (most_patients * self.what.sensitivity + noise)
        length = float(np.linalg.norm(opened.total))
        if not length <= longest:
            raise RoundError(
                f"Expected the sum of {len(opened.replies.replies)} sites in round {self.request.server_round} to be "
                f"no longer than {longest:.4g}, got {length:.4g}: a site lies or sent wrong shares. A secure sum hides "
                "which one; run once with federation.secure_sum=false to see."
            )

    @property
    def _fewest(self) -> int:
        return self.request.config.federation.min_sites

    def _threshold(self, participants: Participants) -> int:
        return threshold(len(participants.roster.sites), self.request.config.federation.max_colluding)

    def _content(self, parts: SumParts) -> RecordDict:
        """Return a message with ``parts`` and without parameters, which only the release needs."""
        return pack_request(dataclasses.replace(self.request, parameters={}, constants={}, sum_parts=parts))

    def _ask(self, contents: Mapping[int, RecordDict], step: Step[Reply]) -> Exchange[Reply]:
        return exchange.sum_step(self.grid, self.request, contents, step)
