"""The configuration as a site reads it: nothing unknown, mistyped or out of bounds passes, and every bound is sharp."""

import contextlib
import dataclasses
import hashlib
import json
import math
import re
from types import UnionType
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.config.composition import compose
from shared_model.config.experiment import ExperimentConfig, RunConfig
from shared_model.errors import ConfigError
from tests.first_release import as_first_released

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def config():
    return compose(["preset=smoke"])


def paths_of(values, prefix=()):
    for key, value in values.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from paths_of(value, (*prefix, key))


def changed(config, dotted, value):
    """Return the configuration's JSON with one value replaced."""
    values = json.loads(config.to_json())
    *folders, name = dotted.split(".")
    inner = values
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", True, r"Expected seed to be a whole number, got True\."),
        ("seed", 1.0, r"Expected seed to be a whole number, got 1\.0\."),
        ("seed", 2**63, r"Expected seed=9223372036854775808 in \[0, 2\^63\)\."),
        ("run", "here", r"Expected run to be a mapping, got 'here'\."),
        ("run.dir", None, r"Expected run\.dir to be text, got null\."),
        ("data.lesion_types", "mass", r"Expected data\.lesion_types to be a list, got 'mass'\."),
        ("data.lesion_types", [], r"Expected data\.lesion_types=\[\] not to be empty\."),
        ("data.lesion_types", ["mass", "mass"], r"Expected data\.lesion_types=\['mass', 'mass'\] to be distinct\."),
        ("data.lesion_types", ["mass", "cyst"], r"Expected data\.lesion_types\[1\] to be one of mass, calcification"),
        ("data.roster", 3, r"Expected data\.roster to be text or null, got 3\."),
        ("data.image.size", 31, r"Expected data\.image\.size=31 in \[32, 4096\]\."),
        ("data.image.context", 0.5, r"Expected data\.image\.context=0\.5 in \[1, 10\]\."),
        ("data.image.face_left", 1, r"Expected data\.image\.face_left to be true or false, got 1\."),
        ("data.image.clahe_clip_limit", -1, r"Expected data\.image\.clahe_clip_limit=-1 in \[0, 100\]\."),
        ("data.max_reject_fraction", 1.1, r"Expected data\.max_reject_fraction=1\.1 in \[0, 1\]\."),
        ("data.validation_fraction", -0.1, r"Expected data\.validation_fraction=-0\.1 >= 0\."),
        (
            "data.public_fraction",
            0,
            r"public_fraction=0\.0 and data\.validation_fraction=0\.0 to add up to more than 0 with evaluation\.thres",
        ),
        (
            "data.public_fraction",
            0.6,
            r"public_fraction=0\.6 and data\.validation_fraction=0\.0 to add up to at most 0\.5: the others are tr",
        ),
        (
            "model.feature_constants",
            "private_mean",
            r"image_components=4 == 0 with model\.feature_constants=private_mean: principal components need public",
        ),
        ("privacy.mean_share", 0.0, r"Expected privacy\.mean_share=0\.0 in \[1e-06, 0\.4\]\."),
        ("privacy.histogram_share", 1e-18, r"Expected privacy\.histogram_share=1e-18 in \[1e-06, 0\.4\]\."),
        ("privacy.histogram_share", 0.5, r"Expected privacy\.histogram_share=0\.5 in \[1e-06, 0\.4\]\."),
        ("model.fusion", ["early"], r"Expected model\.fusion to be one of early, mid, late, got \['early'\]\."),
        ("model.image_components", 2000, r"Expected model\.image_components=2000 in \[0, 1024\]\."),
        ("model.hidden_width", -1, r"Expected model\.hidden_width=-1 in \[0, 4096\]\."),
        ("training.num_rounds", 0, r"Expected training\.num_rounds=0 >= 1\."),
        ("training.local_steps", 0, r"Expected training\.local_steps=0 >= 1\."),
        ("training.sampling_rate", 0, r"Expected training\.sampling_rate=0 in \(0, 1\]\."),
        ("training.learning_rate", 0, r"Expected training\.learning_rate=0 > 0\."),
        (
            "training.learning_rate",
            10**400,
            r"Expected training\.learning_rate to be a number, got an integer of 1329 bits",
        ),
        ("training.momentum", 1, r"Expected training\.momentum=1 in \[0, 1\)\."),
        ("training.weight_decay", -1, r"Expected training\.weight_decay=-1 >= 0\."),
        ("training.focal_gamma", 6, r"Expected training\.focal_gamma=6 in \[0, 5\]\."),
        ("training.positive_weight", 11, r"Expected training\.positive_weight=11 in \[0\.1, 10\]\."),
        ("privacy.target_epsilon", 0, r"Expected privacy\.target_epsilon=0 in \[0\.01, 1000\]\."),
        ("privacy.target_epsilon", None, r"Expected privacy\.target_epsilon=null to be set with privacy=patient\."),
        ("privacy.noise", None, r"Expected privacy\.noise=null to be set with privacy=patient\."),
        ("privacy.noise", "none", r"Expected privacy\.noise to be one of secure, seeded, got 'none'\."),
        ("privacy.delta", 0.5, r"Expected privacy\.delta=0\.5 in \(0, 0\.1\)\."),
        ("privacy.max_grad_norm", -1, r"Expected privacy\.max_grad_norm=-1 > 0\."),
        ("privacy.cohort_rounding", 0, r"Expected privacy\.cohort_rounding=0 >= 1\."),
        ("strategy.server_learning_rate", 0, r"Expected strategy\.server_learning_rate=0 > 0\."),
        ("strategy.momentum", 1, r"Expected strategy\.momentum=1 in \[0, 1\)\."),
        ("strategy.second_momentum", 1, r"Expected strategy\.second_momentum=1 in \[0, 1\)\."),
        ("strategy.adaptivity", 0, r"Expected strategy\.adaptivity=0 > 0\."),
        ("strategy.proximal_mu", -1, r"Expected strategy\.proximal_mu=-1 >= 0\."),
        ("strategy.average_last_fraction", 2, r"Expected strategy\.average_last_fraction=2 in \[0, 1\]\."),
        ("strategy.max_site_share", 0.9, r"Expected strategy\.max_site_share=0\.9 >= 1\."),
        ("strategy.max_update_norm", 0, r"Expected strategy\.max_update_norm=0 > 0\."),
        (
            "strategy.max_update_norm",
            "long",
            r"Expected strategy\.max_update_norm to be a number, auto or null, got 'long'\.",
        ),
        ("strategy.max_site_weight", 0, r"Expected strategy\.max_site_weight=0 in \(0, 1\]\."),
        ("federation.sites", [], r"Expected federation\.sites=\[\] not to be empty\."),
        ("federation.sites", ["A", "A", "B"], r"Expected federation\.sites=\['A', 'A', 'B'\] to be distinct\."),
        (
            "federation.sites",
            ["A", "", "B"],
            r"Expected federation\.sites\[1\]='' to be a name of 1 to 64 letters, digits, '-'",
        ),
        (
            "federation.sites",
            ["A", "../B"],
            r"Expected federation\.sites\[1\]=\.\./B to be a name of 1 to 64 letters, digits, ",
        ),
        ("federation.sites", [1], r"Expected federation\.sites\[0\] to be text, got 1\."),
        ("federation.min_sites", 4, r"Expected federation\.min_sites=4 <= 3, the number of federation\.sites: "),
        ("federation.sites", ["MGH", "mgh", "WFU"], "to differ by more than case"),
        ("federation.concentration", 0, r"Expected federation\.concentration=0 > 0\."),
        ("federation.round_timeout_seconds", 0, r"Expected federation\.round_timeout_seconds=0 > 0\."),
        ("federation.num_workers", 0, r"Expected federation\.num_workers=0 >= 1\."),
        ("evaluation.num_bins", 9, r"Expected evaluation\.num_bins=9 in \[10, 100000\]\."),
        ("evaluation.target_sensitivity", 0, r"Expected evaluation\.target_sensitivity=0 in \(0, 1\]\."),
        ("evaluation.bootstrap_resamples", 99, r"Expected evaluation\.bootstrap_resamples=99 >= 100\."),
        ("phantom.num_patients", 11, r"Expected phantom\.num_patients=11 >= 12\."),
        ("phantom.num_patients", True, r"Expected phantom\.num_patients to be a whole number or null, got True\."),
        ("extra", 1, r"Unknown key extra\. Known here: preset, "),
        ("model.ex\ntra", 1, r"Unknown key model\.ex tra\. Known here: "),
        ("seed", "y" * 10**6, r"Expected seed to be a whole number, got 'yyy.*\.\.\.y+'\."),
    ],
)
def test_every_bound_names_key_value_and_expectation(config, key, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ExperimentConfig.from_json(changed(config, key, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def leaves_of(kind, path=""):
    """Return every value of the configuration: key, type, bounds by their name in ``annotated_types``."""
    for name, whole in get_type_hints(kind, include_extras=True).items():
        is_union = get_origin(whole) in {Union, UnionType}
        hint = next(part for part in get_args(whole) if part is not type(None)) if is_union else whole
        base, *metadata = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        bounds = {sign: getattr(bound, sign, None) for bound in metadata for sign in ("ge", "gt", "le", "lt")}
        if dataclasses.is_dataclass(base):
            yield from leaves_of(base, f"{path}{name}.")
        else:
            yield path + name, base, {sign: limit for sign, limit in bounds.items() if limit is not None}


LEAVES = list(leaves_of(ExperimentConfig))
FLOATS = [key for key, base, _ in LEAVES if base is float]
LIMITS = [(key, base, sign, limit) for key, base, bounds in LEAVES for sign, limit in bounds.items()]


def beyond(base, limit, distance):
    """Return a value ``distance`` steps above ``limit``, below if negative: integers, or neighbouring float64."""
    if base is int:
        return limit + distance
    value = float(limit)
    for _ in range(abs(distance)):
        value = math.nextafter(value, math.copysign(math.inf, distance))
    return value


def test_there_are_float_fields_to_try():
    assert len(FLOATS) >= 20
    assert len(LIMITS) >= 50
    assert {"training.learning_rate", "privacy.delta", "federation.round_timeout_seconds"} <= set(FLOATS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", FLOATS)
def test_no_float_field_takes_nan_or_infinity(config, key, value):
    with pytest.raises(ConfigError, match=rf"Expected {key}={value} to be finite\."):
        ExperimentConfig.from_json(changed(config, key, value))


@given(limit=st.sampled_from(LIMITS), distance=st.integers(0, 50))
def test_every_bound_is_sharp(config, limit, distance):
    """Law: the least value inside a bound is accepted, the next one outside is refused with its key."""
    key, base, sign, edge = limit
    inwards = 1 if sign in {"ge", "gt"} else -1
    is_open = sign in {"gt", "lt"}
    wide = ExperimentConfig.from_json(changed(config, "data.validation_fraction", 0.1))
    ExperimentConfig.from_json(changed(wide, key, beyond(base, edge, inwards * is_open)))
    outside = beyond(base, edge, -inwards * (distance + (not is_open)))
    with pytest.raises(
        ConfigError, match=rf"^In the configuration: Expected {re.escape(f'{key}={outside} ')}(in|>|>=) "
    ):
        ExperimentConfig.from_json(changed(wide, key, outside))


def test_a_replaced_section_is_checked_too(config):
    with pytest.raises(ConfigError, match=r"Expected training\.learning_rate=inf to be finite\."):
        dataclasses.replace(config.training, learning_rate=float("inf"))


def test_json_round_trip(config):
    assert ExperimentConfig.from_json(config.to_json()) == config
    bare = compose(["preset=cbis_mass", 'data.root="/ä b"', "privacy=off", "data.roster=null"])
    odd = dataclasses.replace(bare, run=RunConfig(dir="\n\"'\ud800\0"))
    assert ExperimentConfig.from_json(odd.to_json()) == odd


def test_the_json_is_that_of_the_first_release():
    """Ledgers and fingerprints rest on its bytes; written by the code before bounds stood in annotations.

    Its defaults were ``exact`` histograms and an unbounded mean then, which a simulation now asks for by name, and
    later keys were not there.
    """
    first = ["evaluation.privacy=exact", "strategy.aggregation=mean", "strategy.max_update_norm=null"]
    written = as_first_released(compose(["preset=smoke", "run.dir=x", *first]))
    assert hashlib.sha256(written.encode()).hexdigest() == (
        "1f48dbddc9ea542f80957efb117d5ed5e91bd3b7d78cb13e200d84f8932af28d"
    )


@given(value=JSON_VALUES)
def test_any_json_is_a_configuration_or_a_config_error(value):
    with pytest.raises(ConfigError, match=r"^In the configuration: (Expected a mapping|Unknown key|Missing keys)"):
        ExperimentConfig.from_json(json.dumps(value))


def test_a_repeated_key_is_refused(config):
    text = config.to_json().replace('"seed": 0', '"seed": 0, "seed": 0')
    with pytest.raises(ConfigError, match=r"as JSON: Expected every key once, got seed more than once\."):
        ExperimentConfig.from_json(text)


def test_whole_numbers_may_stand_for_floats(config):
    assert (
        type(ExperimentConfig.from_json(changed(config, "training.learning_rate", 2)).training.learning_rate) is float
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "as JSON: Expecting value"),
        ("{", "as JSON: Expecting property name"),
        ("null", "Expected a mapping, got null"),
        ("[]", r"Expected a mapping, got \[\]"),
        ("NaN", "Expected a mapping, got nan"),
        ("{}", "Missing keys data, evaluation, federation, "),
        ("\ud800", "as JSON: Expecting value"),
        ("[" * 100_000, "as JSON: maximum recursion depth exceeded"),
        ('{"a":' * 100_000, "as JSON: maximum recursion depth exceeded"),
        ("[" * 900 + "]" * 900, "Expected a mapping, got "),
        ("1" * 5000, "as JSON: Exceeds the limit"),
    ],
)
def test_hostile_json_is_refused_in_one_short_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ExperimentConfig.from_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@given(data=st.data(), value=JSON_VALUES)
def test_any_value_at_any_place_is_accepted_whole_or_refused(config, data, value):
    path = data.draw(st.sampled_from(sorted(".".join(path) for path in paths_of(json.loads(config.to_json())))))
    with contextlib.suppress(ConfigError):
        read = ExperimentConfig.from_json(changed(config, path, value))
        assert ExperimentConfig.from_json(read.to_json()) == read
        assert json.loads(read.to_json(), parse_constant=pytest.fail)


def test_pixels_of_two_views_are_not_averaged(config):
    message = r"Expected data\.views=all == own with model\.backbone=small_cnn: the pixels of two views have no mean"
    with pytest.raises(ConfigError, match=message):
        compose(["preset=smoke", "data.views=all", "model.backbone=small_cnn"])
    compose(["preset=smoke", "data.views=all", "model.backbone=small_cnn", "model.modality=clinical"])


@pytest.mark.parametrize("text", ["${oc.env:HOME}", "a/${seed}", "${oc.decode:1}"])
@pytest.mark.parametrize(
    "place", [("run", "dir"), ("data", "root"), ("federation", "ledger_dir"), ("evaluation", "public")]
)
def test_a_configuration_from_elsewhere_refers_to_nothing(place, text):
    values = json.loads(compose(["preset=smoke"]).to_json())
    values[place[0]][place[1]] = text
    # A dollar that JSON spells otherwise is one all the same.
    for written in (json.dumps(values), json.dumps(values).replace("$", r"\u0024")):
        with pytest.raises(ConfigError, match=r"In the configuration: Expected values without \$\{\.\.\.\}, got '"):
            ExperimentConfig.from_json(written)


@pytest.mark.parametrize("depth", [100, 500, 900, 950, 980, 990, 2000])
def test_any_depth_is_refused_as_a_configuration_error(depth):
    with pytest.raises(ConfigError, match=r"^(In the configuration: |Expected the configuration as JSON: )"):
        ExperimentConfig.from_json('{"run": ' + "[" * depth + "]" * depth + "}")
