"""Digests tell requests apart, and stored replies are read back as they were."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shared_model.config import compose
from shared_model.messages.stored import (
    evaluate_reply_from_bytes,
    evaluate_reply_to_bytes,
    request_digest,
    train_reply_from_bytes,
    train_reply_to_bytes,
)
from shared_model.messages.types import EvaluateReply, PrivacySpent, Request, TrainReply
from shared_model.privacy.noise_calibration import evaluation_noise
from shared_model.privacy.patient_histogram import PatientHistogram

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([1, 2], dtype=np.float32)
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
UPDATES = st.dictionaries(st.text(st.characters(codec="ascii"), max_size=5), ARRAYS, max_size=4)
REPLY = TrainReply(
    site="MGH",
    server_round=2,
    update={"weight": WEIGHT, "bias": BIAS},
    num_patients_declared=120,
    privacy=PrivacySpent(epsilon=1.5, delta=1e-4, noise_multiplier=3.0),
)


@pytest.fixture(scope="module")
def request_to_site():
    config = compose(["preset=smoke", "run.dir=run", "federation.ledger_dir=ledgers"])
    return Request(
        config=config, server_round=3, parameters={"w": WEIGHT, "b": BIAS}, constants={"mean": np.ones(4, np.float32)}
    )


def parsed_by_hand(content):
    """Read a safetensors file without the library: a length, a JSON header, the arrays' memory."""
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    metadata, arrays = header.pop("__metadata__"), {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        dtype = {"F32": np.float32, "F64": np.float64}[entry["dtype"]]
        arrays[name] = np.frombuffer(data[start:end], dtype).reshape(entry["shape"])
    return metadata, arrays


class TestRequestDigest:
    def test_is_64_hexadecimal_digits_and_repeats(self, request_to_site):
        digest = request_digest(request_to_site)
        assert len(digest) == 64
        assert int(digest, 16) >= 0
        assert request_digest(dataclasses.replace(request_to_site)) == digest

    def test_does_not_depend_on_the_order_of_names_or_of_memory(self, request_to_site):
        reordered = {"b": BIAS[::-1][::-1], "w": np.asfortranarray(WEIGHT)}
        other = dataclasses.replace(request_to_site, parameters=reordered)
        assert request_digest(other) == request_digest(request_to_site)

    @pytest.mark.parametrize(
        "change",
        [
            {"server_round": 4},
            {"parameters": {"w": WEIGHT + 1, "b": BIAS}},
            {"parameters": {"w": WEIGHT.T, "b": BIAS}},
            {"parameters": {"v": WEIGHT, "b": BIAS}},
            {"parameters": {"w": WEIGHT}},
            {"constants": {}},
            {"config": compose(["preset=smoke", "run.dir=run", "federation.ledger_dir=ledgers", "seed=7"])},
        ],
    )
    def test_changes_with_everything_that_is_asked(self, request_to_site, change):
        assert request_digest(dataclasses.replace(request_to_site, **change)) != request_digest(request_to_site)

    def test_changes_with_the_source_code(self, request_to_site, monkeypatch):
        before = request_digest(request_to_site)
        monkeypatch.setattr("shared_model.messages.stored.source_fingerprint", lambda: "f" * 64)
        assert request_digest(request_to_site) != before

    def test_a_name_moved_from_parameters_to_constants_is_another_request(self, request_to_site):
        one = dataclasses.replace(request_to_site, parameters={"a": BIAS, "b": BIAS}, constants={"c": BIAS})
        other = dataclasses.replace(request_to_site, parameters={"a": BIAS}, constants={"b": BIAS, "c": BIAS})
        assert request_digest(one) != request_digest(other)


class TestTrainReply:
    @given(UPDATES, st.text(max_size=5), st.sampled_from([None, REPLY.privacy]))
    def test_comes_back_with_names_in_their_order(self, update, site, privacy):
        reply = dataclasses.replace(REPLY, update=update, site=site, privacy=privacy)
        read = train_reply_from_bytes(train_reply_to_bytes(reply))
        assert list(read.update) == list(update)
        for name, array in update.items():
            np.testing.assert_array_equal(read.update[name], array)
            assert read.update[name].dtype == np.float32
        assert dataclasses.replace(read, update={}) == dataclasses.replace(reply, update={})

    def test_bytes_are_a_safetensors_file(self):
        metadata, arrays = parsed_by_hand(train_reply_to_bytes(REPLY))
        np.testing.assert_array_equal(arrays["weight"], WEIGHT)
        np.testing.assert_array_equal(arrays["bias"], BIAS)
        assert json.loads(metadata["facts"]) == {
            "site": "MGH",
            "server_round": 2,
            "num_patients_declared": 120,
            "witness": "",
            "previous_witness": "",
            "privacy": {"epsilon": 1.5, "delta": 1e-4, "noise_multiplier": 3.0},
            "names": ["weight", "bias"],
        }

    def test_equal_replies_have_equal_bytes_whatever_their_memory(self):
        strided = {"weight": np.asfortranarray(WEIGHT), "bias": np.repeat(BIAS, 2)[::2]}
        assert train_reply_to_bytes(dataclasses.replace(REPLY, update=strided)) == train_reply_to_bytes(REPLY)


class TestEvaluateReply:
    def test_comes_back_with_the_noise_of_the_configuration(self):
        evaluation = compose(["preset=smoke", "evaluation.privacy=dp"]).evaluation
        std = evaluation_noise(evaluation)
        test, validation = (
            PatientHistogram(negatives=counts, positives=-counts, noise_std=std)
            for counts in (np.array([0.5, -1.25]), np.array([3.0, 1e-9]))
        )
        reply = EvaluateReply(site="WFU", server_round=5, test=test, validation=validation)
        read = evaluate_reply_from_bytes(evaluate_reply_to_bytes(reply), evaluation=evaluation)
        assert (read.site, read.server_round) == ("WFU", 5)
        assert read.test.noise_std == read.validation.noise_std == std
        for name, counts in reply.arrays().items():
            np.testing.assert_array_equal(read.arrays()[name], counts)
            np.testing.assert_array_equal(parsed_by_hand(evaluate_reply_to_bytes(reply))[1][name], counts)
