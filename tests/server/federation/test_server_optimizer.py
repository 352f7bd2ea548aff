"""Every optimiser of the server by hand and against a naive loop, and the mean of the late rounds."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from server.federation.server_optimizer import ServerState, apply_update
from shared_model.config.choices import Aggregation, StrategyName
from shared_model.config.server_sections import StrategyConfig

ENTRIES = st.floats(-1e3, 1e3, width=32)


def strategy_of(name, **changes):
    values = {
        "server_learning_rate": 1.0,
        "momentum": 0.0,
        "second_momentum": 0.0,
        "adaptivity": 1e-3,
        "proximal_mu": 0.0,
        "average_last_fraction": 0.0,
        "max_site_share": 1.25,
        "max_site_weight": 1.0,
        "aggregation": Aggregation.MEAN,
        "num_hostile": 0,
        "max_update_norm": None,
    }
    return StrategyConfig(name=StrategyName(name), **(values | changes))


def named(*entries):
    return {"w": np.array(entries, dtype=np.float32)}


def run(strategy, start, updates, *, num_averaged=0):
    """Return the states after every round; the last ``num_averaged`` rounds enter the average."""
    states = [ServerState.from_parameters(start)]
    for i, update in enumerate(updates):
        is_averaged = i >= len(updates) - num_averaged
        states.append(apply_update(states[-1], update, strategy, is_averaged=is_averaged))
    return states[1:]


# Strategies by hand


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_fedavg_and_fedprox_add_the_update(name):
    states = run(strategy_of(name, server_learning_rate=0.5, momentum=0.9), named(1, 2), [named(2, 4), named(2, -4)])
    assert [state.parameters["w"].tolist() for state in states] == [[2, 4], [3, 2]]


def test_fedavgm_by_hand():
    states = run(strategy_of("fedavgm", momentum=0.5), named(0), [named(1), named(1), named(0)])
    # velocities 1, 1.5, 0.75
    assert [state.parameters["w"].tolist() for state in states] == [[1], [2.5], [3.25]]


def test_fedadam_by_hand():
    strategy = strategy_of("fedadam", server_learning_rate=0.1, momentum=0.9, second_momentum=0.99, adaptivity=0.5)
    (first,) = run(strategy, named(0), [named(2)])
    # m = 0.1 * 2 = 0.2, v = 0.01 * 4 = 0.04, step = 0.2 / (0.2 + 0.5)
    assert first.parameters["w"][0] == pytest.approx(0.1 * 0.2 / 0.7, rel=1e-5)


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam"])
def test_no_update_from_rest_moves_nothing(name):
    strategy = strategy_of(name, momentum=0.9, second_momentum=0.99)
    (state,) = run(strategy, named(1, -2), [named(0, 0)])
    assert state.parameters["w"].tolist() == [1, -2]


# Strategies against a second way


def naive(strategy, start, updates):
    """Return the iterates, entry by entry, with Python's own floats."""
    iterates = []
    x = [float(entry) for entry in start]
    m, v = [0.0] * len(x), [0.0] * len(x)
    for update in updates:
        for i, delta in enumerate(map(float, update)):
            if strategy.name is StrategyName.FEDAVGM:
                m[i] = strategy.momentum * m[i] + delta
                step = m[i]
            elif strategy.name is StrategyName.FEDADAM:
                m[i] = strategy.momentum * m[i] + (1 - strategy.momentum) * delta
                v[i] = strategy.second_momentum * v[i] + (1 - strategy.second_momentum) * delta**2
                step = m[i] / (math.sqrt(v[i]) + strategy.adaptivity)
            else:
                step = delta
            x[i] += strategy.server_learning_rate * step
        iterates.append(list(x))
    return np.array(iterates)


@pytest.mark.parametrize("name", list(StrategyName))
@settings(max_examples=40)
@given(
    updates=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.floats(-10, 10, width=32)
    ),
    learning_rate=st.floats(0.01, 2),
    momentum=st.floats(0, 0.99),
    second_momentum=st.floats(0, 0.99),
)
def test_strategies_agree_with_a_naive_loop(name, updates, learning_rate, momentum, second_momentum):
    strategy = strategy_of(
        name,
        server_learning_rate=learning_rate,
        momentum=momentum,
        second_momentum=second_momentum,
        adaptivity=0.01,
    )
    start = np.linspace(-1, 1, updates.shape[1]).astype(np.float32)
    states = run(strategy, {"w": start}, [{"w": update} for update in updates])
    iterates = np.array([state.parameters["w"] for state in states])
    assert iterates.dtype == np.float32
    np.testing.assert_allclose(iterates, naive(strategy, start, updates), rtol=1e-3, atol=1e-3)


@settings(max_examples=40)
@given(
    updates=hnp.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(-10, 10, width=32)),
    data=st.data(),
)
def test_average_is_the_mean_of_the_late_iterates(updates, data):
    num_averaged = data.draw(st.integers(0, len(updates)))
    states = run(
        strategy_of("fedavgm", momentum=0.9), named(1, 2, 3), [{"w": u} for u in updates], num_averaged=num_averaged
    )
    iterates = np.array([state.parameters["w"] for state in states], dtype=np.float64)
    late = iterates[len(iterates) - num_averaged :] if num_averaged else iterates[-1:]
    np.testing.assert_allclose(states[-1].average["w"], late.mean(axis=0), rtol=1e-5, atol=1e-4)
    assert states[-1].num_averaged == num_averaged
    assert states[-1].average["w"].dtype == np.float32


def test_before_averaging_begins_the_average_is_the_iterate():
    first, second = run(strategy_of("fedavg"), named(0), [named(1), named(1)])
    for state in (first, second):
        assert state.average["w"].tolist() == state.parameters["w"].tolist()
        assert state.num_averaged == 0


def test_averaging_does_not_disturb_the_iterates():
    updates = [named(1), named(-3), named(2)]
    strategy = strategy_of("fedavgm", momentum=0.9)
    plain, averaged = run(strategy, named(0), updates), run(strategy, named(0), updates, num_averaged=2)
    assert [state.parameters["w"].tolist() for state in plain] == [state.parameters["w"].tolist() for state in averaged]


def test_the_state_before_is_left_as_it_was():
    start = named(1, 2)
    state = ServerState.from_parameters(start)
    before = dataclasses.replace(state)
    apply_update(state, named(3, 4), strategy_of("fedadam", momentum=0.9, second_momentum=0.9), is_averaged=True)
    assert state == before
    assert start["w"].tolist() == [1, 2]
    assert state.first_moment["w"].tolist() == [0, 0]


def test_an_update_of_another_network_is_an_error():
    with pytest.raises(ValueError, match="Expected equal shapes of w"):
        apply_update(ServerState.from_parameters(named(1)), named(1, 2), strategy_of("fedavg"), is_averaged=False)
