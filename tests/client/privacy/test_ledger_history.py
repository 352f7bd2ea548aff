"""What a ledger's entries add up to, by hand and by a second way, without a disk."""

import dataclasses
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from scipy.stats import norm

from client.privacy.cohorts import Cohorts
from client.privacy.ledger_entries import (
    FORMAT,
    CohortAdded,
    Committed,
    Entry,
    Forgotten,
    Opened,
    Purpose,
    Reserved,
    Retired,
    Unprotected,
)
from client.privacy.ledger_history import (
    History,
    Limits,
    composed_epsilon,
    epsilon_alone,
    require_budget,
    run_epsilon,
    who_can_afford,
)
from client.privacy.pseudonyms import Cohort
from shared_model.config.choices import NoiseSource
from shared_model.errors import BudgetError, LedgerError
from shared_model.privacy.mechanism import Mechanism

DELTA = 1e-4
NO_LIMIT = Limits(max_epsilon=None, max_delta=DELTA)


def pseudonyms(*numbers):
    return frozenset(number.to_bytes(16, "big") for number in numbers)


def cohort_of(*numbers):
    return Cohort.from_pseudonyms(pseudonyms(*numbers))


def release(
    cohort, *, request="request", run="run", purpose=Purpose.TRAINING, noise_multiplier=2.0, target=8.0, share=None
):
    return Reserved(
        purpose=purpose,
        run=run,
        server_round=1,
        request=request,
        cohort=cohort.fingerprint,
        num_patients_declared=10,
        mechanism=Mechanism(noise_multiplier=noise_multiplier, sampling_rate=1.0, num_steps=1),
        delta=DELTA,
        target_epsilon=target,
        max_grad_norm=1.0,
        noise=NoiseSource.SECURE,
        own_share=None if share is None else Mechanism(noise_multiplier=share, sampling_rate=1.0, num_steps=1),
    )


def unprotected(cohort, *, purpose=Purpose.TRAINING):
    return Unprotected(purpose=purpose, run="run", cohort=cohort.fingerprint, num_patients_declared=len(cohort.members))


def history_of(cohorts, *contents):
    """A history of ``cohorts`` and then ``contents``."""
    every = [Opened(ledger="name", key_check="check", format=FORMAT)]
    every += [CohortAdded(cohort=cohort.fingerprint, num_patients=len(cohort.members)) for cohort in cohorts]
    every += contents
    entries = tuple(
        Entry(sequence=number, time=datetime(2026, 1, 1, tzinfo=UTC), content=content, digest=str(number))
        for number, content in enumerate(every, start=1)
    )
    return History(entries=entries, members=Cohorts({cohort.fingerprint: cohort for cohort in cohorts}))


def recorded_as(history, members):
    """The history with these members, by the fingerprints under which they are said to be recorded."""
    cohorts = {name: Cohort.from_pseudonyms(pseudonyms) for name, pseudonyms in members.items()}
    return dataclasses.replace(history, members=Cohorts(cohorts))


def gaussian_epsilon(noise_multipliers):
    """Dong et al. 2022, Corollary 2.13, for Gaussian mechanisms in sequence; a second way to the price at rate 1."""
    mu = math.sqrt(sum(noise**-2 for noise in noise_multipliers))

    def excess(epsilon):
        return norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu) - DELTA

    return optimize.brentq(excess, 0, 100)


class TestPrice:
    @pytest.mark.parametrize("noise_multipliers", [[1.0], [2.0, 2.0, 3.0], [5.0] * 20])
    def test_releases_cost_what_the_composed_gaussian_mechanism_costs(self, noise_multipliers):
        releases = [release(cohort_of(1), noise_multiplier=noise) for noise in noise_multipliers]
        price = composed_epsilon(releases, DELTA)
        assert price == pytest.approx(gaussian_epsilon(noise_multipliers), rel=2e-3)
        # Never below the truth.
        assert price >= gaussian_epsilon(noise_multipliers) - 1e-9

    def test_nothing_costs_nothing_and_a_release_without_noise_has_no_bound(self):
        assert composed_epsilon([], DELTA) == 0
        assert composed_epsilon([release(cohort_of(1)), unprotected(cohort_of(1))], DELTA) == math.inf

    def test_delta_out_of_bounds(self):
        for price in (composed_epsilon, epsilon_alone):
            with pytest.raises(ValueError, match="delta"):
                price([release(cohort_of(1))], 1.0)

    def test_a_release_of_a_secure_sum_has_two_prices(self):
        releases = [release(cohort_of(1), noise_multiplier=4.0, share=2.5), release(cohort_of(1), noise_multiplier=3.0)]
        assert composed_epsilon(releases, DELTA) == pytest.approx(gaussian_epsilon([4.0, 3.0]), rel=1e-6)
        assert epsilon_alone(releases, DELTA) == pytest.approx(gaussian_epsilon([2.5, 3.0]), rel=1e-6)
        assert epsilon_alone([*releases, unprotected(cohort_of(1))], DELTA) == math.inf
        assert epsilon_alone([], DELTA) == 0


class TestBudget:
    """Public facts decide: which releases were made for the purpose, and never about whom."""

    def test_the_price_of_a_run_is_that_of_its_own_releases(self):
        spent = [release(cohort_of(1), run="earlier"), release(cohort_of(2)), release(cohort_of(1))]
        assert run_epsilon(spent, release(cohort_of(3))) == composed_epsilon([release(cohort_of(1))] * 3, DELTA)

    def test_a_run_keeps_its_promise_however_often_it_asks(self):
        price = composed_epsilon([release(cohort_of(1))] * 3, DELTA)
        new = release(cohort_of(1), target=price)
        require_budget([new, new], new, NO_LIMIT)
        with pytest.raises(BudgetError, match=rf"promise of epsilon {price:g}: it would reach \d"):
            require_budget([new] * 3, new, NO_LIMIT)
        # Nor does it help to ask about others.
        with pytest.raises(BudgetError, match=rf"promise of epsilon {price:g}"):
            require_budget([release(cohort_of(number)) for number in (2, 3, 4)], new, NO_LIMIT)

    def test_other_runs_do_not_count_towards_the_promise(self):
        new = release(cohort_of(1), target=composed_epsilon([release(cohort_of(1))], DELTA))
        require_budget([release(cohort_of(1), run="another")], new, NO_LIMIT)

    def test_the_sites_limit_counts_everything_and_says_what_is_left(self):
        spent = [release(cohort_of(number), run=str(number)) for number in range(3)]
        after = composed_epsilon([*spent, release(cohort_of(9))], DELTA)
        before = composed_epsilon(spent, DELTA)
        require_budget(spent, release(cohort_of(9)), Limits(max_epsilon=after, max_delta=DELTA))
        less = Limits(max_epsilon=after - 0.01, max_delta=DELTA)
        left = f"for training this site has spent {before:.3f}, {after - 0.01 - before:.3f} is left"
        with pytest.raises(BudgetError, match=rf"Expected epsilon {after:.3f} <= .*{left}"):
            require_budget(spent, release(cohort_of(9)), less)

    def test_both_prices_of_secure_sums_have_their_limit(self):
        past = [release(cohort_of(number), noise_multiplier=4.0, share=2.0) for number in range(3)]
        new = release(cohort_of(9), run="another", noise_multiplier=4.0, share=2.0)
        in_sum, alone = gaussian_epsilon([4.0] * 4), gaussian_epsilon([2.0] * 4)
        before = gaussian_epsilon([2.0] * 3)

        def limits(max_epsilon, max_epsilon_alone):
            return Limits(max_epsilon=max_epsilon, max_epsilon_alone=max_epsilon_alone, max_delta=DELTA)

        require_budget(past, new, limits(in_sum + 0.01, alone + 0.01))
        # Without a limit of its own the second price must keep the first limit.
        require_budget(past, new, limits(alone + 0.01, None))
        require_budget(past, new, limits(None, alone + 0.01))
        with pytest.raises(BudgetError, match=rf"Expected epsilon {in_sum:.3f} <= .* at delta 0\.0001: for training"):
            require_budget(past, new, limits(in_sum - 0.01, alone + 0.01))
        broken = (
            rf"Expected epsilon {alone:.3f} <= .* to whoever breaks the secure sums: for training this site has spent "
        )
        for tight in (limits(in_sum + 0.01, alone - 0.01), limits(alone - 0.01, None), limits(None, alone - 0.01)):
            with pytest.raises(BudgetError, match=rf"{broken}{before:.3f}, "):
                require_budget(past, new, tight)

    def test_the_promise_of_a_run_is_about_its_sums(self):
        new = release(cohort_of(1), target=gaussian_epsilon([4.0]) + 0.01, noise_multiplier=4.0, share=0.5)
        require_budget([], new, NO_LIMIT)

    def test_the_limit_holds_at_its_own_delta(self):
        price = composed_epsilon([release(cohort_of(1))], DELTA)
        with pytest.raises(BudgetError, match="at delta 1e-06"):
            require_budget([], release(cohort_of(1)), Limits(max_epsilon=price, max_delta=1e-6))

    def test_nothing_private_fits_after_a_release_without_noise(self):
        with pytest.raises(BudgetError, match=r"has spent inf, 0\.000 is left"):
            require_budget(
                [unprotected(cohort_of(1))],
                release(cohort_of(1), run="another"),
                Limits(max_epsilon=100.0, max_delta=DELTA),
            )

    def test_releases_for_a_purpose_come_in_order_and_up_to_an_entry(self):
        one, two = cohort_of(1), cohort_of(2)
        contents = [
            release(one, request="a"),
            release(two, request="b", purpose=Purpose.EVALUATION),
            unprotected(two),
            release(two, request="c"),
        ]
        # Entries 4 to 7, after the opening and two cohorts.
        history = history_of([one, two], *contents)
        assert history.releases_for(Purpose.TRAINING) == (contents[0], contents[2], contents[3])
        assert history.releases_for(Purpose.TRAINING, before=7) == (contents[0], contents[2])
        assert history.releases_for(Purpose.TRAINING, before=4) == ()
        assert history.releases_for(Purpose.EVALUATION) == (contents[1],)


class TestWhoCanAfford:
    """Feldman and Zrnic 2021: everybody is filtered by her own spending."""

    def afford(self, history, members, new, max_epsilon):
        limits = Limits(max_epsilon=max_epsilon, max_delta=DELTA)
        return who_can_afford(history, pseudonyms(*members), new, limits)

    def test_everybody_without_a_limit_or_far_from_it(self):
        history = history_of([cohort_of(1)], unprotected(cohort_of(1)))
        new = release(cohort_of(1))
        assert self.afford(history, [1, 2], new, None) == pseudonyms(1, 2)
        assert self.afford(history_of([]), [1, 2], new, 8.0) == pseudonyms(1, 2)

    def test_who_spent_over_all_purposes_is_left_out_and_nobody_else(self):
        one, both = cohort_of(1), cohort_of(1, 2)
        releases = [release(both), release(one, purpose=Purpose.EVALUATION)]
        history = history_of([one, both], *releases)
        new = release(cohort_of(1, 2, 3))
        two, three = (gaussian_epsilon([2.0] * number) for number in (2, 3))
        assert self.afford(history, [1, 2, 3], new, (two + three) / 2) == pseudonyms(2, 3)
        assert self.afford(history, [1, 2, 3], new, three + 0.05) == pseudonyms(1, 2, 3)
        assert self.afford(history, [1, 2, 3], new, two - 0.05) == pseudonyms(3)

    def test_a_release_without_noise_leaves_her_nothing(self):
        history = history_of([cohort_of(1)], unprotected(cohort_of(1), purpose=Purpose.EVALUATION))
        assert self.afford(history, [1, 2], release(cohort_of(1, 2)), 100.0) == pseudonyms(2)

    @pytest.mark.parametrize(("max_epsilon", "max_epsilon_alone"), [(9.0, 9.0), (9.0, None), (1.0, 99.0)])
    def test_who_spent_too_much_by_either_price_is_left_out(self, max_epsilon, max_epsilon_alone):
        sums, plain = cohort_of(1), cohort_of(2)
        # With the new release both have spent epsilon 2.5 in the sums, and alone 9.3 and 5.4.
        releases = [release(sums, noise_multiplier=2.0, share=0.6), release(plain, noise_multiplier=2.0)]
        history = history_of([sums, plain], *releases)
        limits = Limits(max_epsilon=max_epsilon, max_epsilon_alone=max_epsilon_alone, max_delta=DELTA)
        able = who_can_afford(history, pseudonyms(1, 2), release(cohort_of(1, 2), share=0.8), limits)
        assert able == (pseudonyms() if max_epsilon == 1.0 else pseudonyms(2))

    @given(
        st.lists(st.tuples(st.frozensets(st.integers(0, 5), min_size=1), st.sampled_from([1.0, 2.0, 4.0])), max_size=8),
        st.sampled_from([1.0, 2.0, 4.0]),
        st.floats(0.5, 12),
    )
    def test_each_patient_by_herself(self, past, noise_multiplier, max_epsilon):
        """A second way: Dong et al.'s composed Gaussian of the releases that she was in, patient by patient."""
        cohorts = list({cohort_of(*group).fingerprint: cohort_of(*group) for group, _ in past}.values())
        releases = [release(cohort_of(*group), noise_multiplier=noise) for group, noise in past]
        able = self.afford(
            history_of(cohorts, *releases),
            range(6),
            release(cohort_of(*range(6)), noise_multiplier=noise_multiplier),
            max_epsilon,
        )
        for patient in range(6):
            exact = gaussian_epsilon([noise for group, noise in past if patient in group] + [noise_multiplier])
            if abs(exact - max_epsilon) > 0.01 * max_epsilon:
                assert (pseudonyms(patient) <= able) == (exact < max_epsilon)


class TestHistory:
    @given(
        st.lists(st.sets(st.integers(0, 6), min_size=1), min_size=1, max_size=6), st.sets(st.integers(0, 6), min_size=1)
    )
    def test_a_cohort_inherits_at_least_what_any_of_its_patients_has_spent(self, groups, asked):
        cohorts = list({cohort.fingerprint: cohort for cohort in (cohort_of(*group) for group in groups)}.values())
        releases = [release(cohort, request=str(number)) for number, cohort in enumerate(cohorts)]
        history = history_of(cohorts, *releases)
        inherited = history.releases(pseudonyms(*asked))
        for patient in asked:
            of_patient = [r for r in releases if pseudonyms(patient) <= history.members[r.cohort]]
            assert set(of_patient) <= set(inherited)
        assert all(not history.members[r.cohort].isdisjoint(pseudonyms(*asked)) for r in inherited)

    def test_releases_come_in_their_order_and_include_those_without_noise(self):
        cohort = cohort_of(1)
        contents = [release(cohort, request="a"), unprotected(cohort), release(cohort, request="b")]
        assert history_of([cohort], *contents).releases(cohort.members) == tuple(contents)

    def test_an_answer_is_found_by_purpose_and_request_whatever_the_cohort(self):
        one, two = cohort_of(1), cohort_of(2)
        # Entries 4 to 8, after the opening and two cohorts.
        history = history_of(
            [one, two],
            release(one, request="a"),
            release(two, request="a", purpose=Purpose.EVALUATION),
            release(one, request="b"),
            Committed(reservation=5, reply="of two"),
            Committed(reservation=4, reply="of one"),
        )
        assert history.reserved(Purpose.TRAINING, "a") == 4
        assert history.reserved(Purpose.EVALUATION, "a") == 5
        assert history.reserved(Purpose.TRAINING, "b") == 6
        assert history.reserved(Purpose.TRAINING, "c") is None
        assert [history.committed(number) and history.committed(number).reply for number in (4, 5, 6)] == [
            "of one",
            "of two",
            None,
        ]

    def test_the_reservation_before_another(self):
        cohort = cohort_of(1)
        # Entries 3 to 6, after the opening and a cohort.
        history = history_of(
            [cohort], release(cohort, request="a"), unprotected(cohort), Committed(reservation=3, reply=""),
            release(cohort, request="b"),
        )  # fmt: skip
        assert history.reservation_before(3) is None
        assert history.reservation_before(6).sequence == 3

    def test_who_is_known_forgotten_and_whether_the_ledger_goes_on(self):
        cohort = cohort_of(1, 2)
        history = history_of([cohort], Forgotten(patient=next(iter(pseudonyms(2))).hex()))
        assert (history.known, history.forgotten) == (pseudonyms(1, 2), pseudonyms(2))
        assert not history.is_retired
        assert not history.has_releases
        assert history_of([cohort], release(cohort)).has_releases
        assert history_of([cohort], Retired(successor="elsewhere")).is_retired

    def test_the_head_is_the_last_entry(self):
        assert History(entries=(), members=Cohorts({})).head is None
        assert history_of([cohort_of(1)]).head.sequence == 2

    @pytest.mark.parametrize(
        "members",
        [
            lambda cohort: {},
            lambda cohort: {cohort.fingerprint: pseudonyms(1)},
            lambda cohort: {cohort.fingerprint: pseudonyms(1, 2, 3)},
            lambda cohort: {cohort.fingerprint: cohort.members, "other": pseudonyms(1)},
            lambda cohort: {cohort.fingerprint: cohort.members, cohort_of(9).fingerprint: pseudonyms(9)},
        ],
        ids=["lost", "one removed", "one added", "wrong name", "never recorded"],
    )
    def test_members_that_are_not_those_recorded(self, members):
        cohort = cohort_of(1, 2)
        with pytest.raises(LedgerError, match=r"Expected the patients of cohort .* as they were recorded"):
            recorded_as(history_of([cohort]), members(cohort))

    def test_a_release_of_a_cohort_that_was_never_recorded(self):
        with pytest.raises(LedgerError, match="Expected ledger entry 2 to concern a recorded cohort"):
            history_of([], release(cohort_of(1)))
