"""What a site says beside its update: all of it is known before, so that a lie or a lost ledger shows."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.federation.checkpoints import SiteState
from server.federation.claims import check_claims
from shared_model.config.composition import compose
from shared_model.errors import ProtocolError
from shared_model.messages import PrivacySpent, Request, TrainReply
from shared_model.privacy.accounting import epsilon
from shared_model.privacy.mechanism import Mechanism
from shared_model.privacy.plan import PrivacyPlan
from tests.reference_prices import gaussian_epsilon

OVERRIDES = ["preset=phantom", "data.root=.", "training.num_rounds=6"]
CONFIG, SAMPLED, OFF = (
    compose([*OVERRIDES, *more])
    for more in ([], ["training.sampling_rate=0.4", "training.local_steps=2"], ["privacy=off"])
)
SIZE = 40
PLAN = PrivacyPlan.calibrate(CONFIG, SIZE)


def price(num_rounds, config=CONFIG):
    """As a site adds it up: release by release."""
    plan = PrivacyPlan.calibrate(config, SIZE)
    return epsilon([plan.mechanism(1)] * num_rounds, plan.delta)


def spent(num_rounds, config=CONFIG, **changes):
    plan = PrivacyPlan.calibrate(config, SIZE)
    values = {
        "epsilon": price(num_rounds, config),
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
    }
    return PrivacySpent(**(values | changes))


def check(privacy, *, server_round, before=None, config=CONFIG, size=SIZE):
    request = Request(config=config, server_round=server_round, parameters={}, constants={})
    reply = TrainReply(
        site="MGH", server_round=server_round, update={}, num_patients_declared=size, privacy=privacy, witness="a" * 64
    )
    check_claims(reply, request, before)


def state(num_rounds, *, size=SIZE, config=CONFIG):
    return SiteState(num_patients_declared=size, privacy=spent(num_rounds, config), test=None)


@pytest.mark.parametrize("num_rounds", [1, 3, 6])
def test_the_price_is_that_of_the_closed_form(num_rounds):
    claimed = gaussian_epsilon(num_rounds, PLAN.noise_multiplier, PLAN.delta)
    check(spent(1, epsilon=claimed), server_round=num_rounds)


class TestHonest:
    @given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
    def test_every_number_of_releases_since_the_last_reply_is_taken(self, server_round, before, missed):
        before, now = sorted((min(before, server_round - 1), min(before + missed + 1, server_round)))
        check(spent(now), server_round=server_round, before=state(before) if before else None)

    @pytest.mark.parametrize("server_round", [1, 2, 6])
    def test_steps_of_sampled_patients(self, server_round):
        check(spent(server_round, SAMPLED), server_round=server_round, config=SAMPLED)
        check(spent(1, SAMPLED), server_round=server_round, config=SAMPLED)

    def test_rounding_of_another_machine_is_none_of_anybodys_business(self):
        check(spent(2, epsilon=price(2) * (1 + 1e-9)), server_round=2, before=state(1))

    def test_without_privacy_the_size_alone_is_claimed(self):
        check(None, server_round=2, config=OFF)
        with pytest.raises(ProtocolError, match="Expected site MGH to declare 40 patients as before, got 30"):
            check(None, server_round=2, config=OFF, before=state(1), size=30)

    def test_noise_so_strong_that_a_round_costs_nothing(self):
        config = compose([*OVERRIDES, "privacy.target_epsilon=0.01", "privacy.delta=0.02"])
        assert price(1, config) == price(2, config) == 0 < price(6, config)
        for number in (1, 2, 3):
            before = state(number - 1, config=config) if number > 1 else None
            check(spent(number, config), server_round=3, config=config, before=before)


class TestRefused:
    def test_a_size_that_moves(self):
        with pytest.raises(ProtocolError, match=r"to declare 40 patients as before, got 39; the size is a constant"):
            check(spent(2), server_round=2, before=state(1), size=39)

    def test_a_size_at_which_delta_allows_too_much(self):
        with pytest.raises(ProtocolError, match=r"Site MGH declares 20000 patients: Expected delta=0\.0001 < 1 /"):
            check(spent(1), server_round=1, size=20000)

    @pytest.mark.parametrize(
        ("claim", "value"), [("delta", 1e-3), ("delta", 1e-5), ("noise_multiplier", 0.5), ("noise_multiplier", 100.0)]
    )
    def test_another_noise_or_delta(self, claim, value):
        with pytest.raises(ProtocolError, match=rf"Expected site MGH to train with {claim}=.*, got {value:g}"):
            check(spent(1, **{claim: value}), server_round=1)

    def test_more_than_was_asked_for(self):
        with pytest.raises(ProtocolError, match=r"price of the run from epsilon .* has made some for somebody else"):
            check(spent(3), server_round=2)

    @pytest.mark.parametrize("num_rounds", [1, 2, 3])
    def test_a_price_that_does_not_grow(self, num_rounds):
        with pytest.raises(ProtocolError, match=r"Expected site MGH to name a price .*: its ledger has lost releases"):
            check(spent(num_rounds), server_round=5, before=state(3))

    @pytest.mark.parametrize("value", [0.0, 1e-3])
    def test_less_than_one_round(self, value):
        with pytest.raises(ProtocolError, match="Expected site MGH to name a price of the run from"):
            check(spent(1, epsilon=value), server_round=4)

    @given(st.integers(1, 4), st.floats(0.01, 0.99))
    def test_a_price_between_those_of_whole_rounds(self, num_rounds, share):
        between = price(num_rounds) * (1 - share) + price(num_rounds + 1) * share
        with pytest.raises(ProtocolError, match="Expected site MGH to name the price of whole rounds"):
            check(spent(1, epsilon=between), server_round=5)

    def test_steps_that_another_noise_would_have_cost(self):
        weaker = Mechanism(noise_multiplier=PLAN.noise_multiplier * 0.9, sampling_rate=1.0, num_steps=2)
        with pytest.raises(ProtocolError, match="Expected site MGH to name"):
            check(spent(2, epsilon=epsilon(weaker, PLAN.delta)), server_round=2, before=state(1))


DEPLOYED = compose(["preset=cbis_mass", "data.root=.", "training.num_rounds=6"])
WHOLE = PrivacyPlan.calibrate(DEPLOYED, SIZE)


def spent_of(*, has_mean=True, num_rounds=0, has_histogram=False):
    """As a site adds it up: release by release, in the order of the run."""
    parts = [*WHOLE.released(has_mean=has_mean, num_rounds=0, has_histogram=False)]
    parts += [WHOLE.mechanism(1)] * num_rounds
    parts += WHOLE.released(has_mean=False, num_rounds=0, has_histogram=has_histogram)
    return PrivacySpent(epsilon=epsilon(parts, WHOLE.delta), delta=WHOLE.delta, noise_multiplier=WHOLE.noise_multiplier)


def known(privacy):
    return None if privacy is None else SiteState(num_patients_declared=SIZE, privacy=privacy, test=None)


class TestMeanAndHistogram:
    def test_a_whole_run_is_taken_step_by_step(self):
        before = None
        steps = [spent_of(), *(spent_of(num_rounds=n) for n in range(1, 7)), spent_of(num_rounds=6, has_histogram=True)]
        for server_round, privacy in enumerate(steps):
            check(privacy, server_round=server_round, config=DEPLOYED, before=known(before))
            before = privacy
        assert 7.9 < before.epsilon <= 8

    @given(st.booleans(), st.integers(1, 6), st.integers(0, 5), st.integers(0, 5))
    def test_a_site_that_was_away_now_and_then_is_taken(self, has_mean, server_round, before, missed):
        before, now = sorted((min(before, server_round - 1), min(before + missed + 1, server_round)))
        earlier = spent_of(has_mean=has_mean, num_rounds=before) if before or has_mean else None
        check(
            spent_of(has_mean=has_mean, num_rounds=now),
            server_round=server_round,
            config=DEPLOYED,
            before=known(earlier),
        )

    @given(st.booleans(), st.integers(0, 6))
    def test_the_histogram_comes_after_any_number_of_rounds(self, has_mean, num_rounds):
        earlier = spent_of(has_mean=has_mean, num_rounds=num_rounds) if num_rounds or has_mean else None
        now = spent_of(has_mean=has_mean, num_rounds=num_rounds, has_histogram=True)
        check(now, server_round=7, config=DEPLOYED, before=known(earlier))

    @pytest.mark.parametrize(
        ("claimed", "server_round", "before"),
        [
            # The price of a mean is not that of a round, nor the other way round.
            (spent_of(has_mean=False, num_rounds=1), 0, None),
            (spent_of(num_rounds=1), 0, None),
            (spent_of(has_histogram=True), 0, None),
            # A mean that is paid for again with every round, and one that is forgotten on the way.
            (spent_of(), 2, spent_of()),
            (spent_of(has_mean=False, num_rounds=2), 2, spent_of(num_rounds=1)),
            # A histogram that costs nothing, or comes before its time.
            (spent_of(num_rounds=6), 7, spent_of(num_rounds=6)),
            (spent_of(num_rounds=3, has_histogram=True), 3, spent_of(num_rounds=2)),
        ],
    )
    def test_the_price_of_other_releases_is_refused(self, claimed, server_round, before):
        with pytest.raises(ProtocolError, match="Expected site MGH to name"):
            check(claimed, server_round=server_round, config=DEPLOYED, before=known(before))


def test_nothing_of_an_earlier_state_is_needed_for_the_first_reply():
    before = dataclasses.replace(state(1), privacy=None)
    check(spent(1), server_round=1, before=before)
