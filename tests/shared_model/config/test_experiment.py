"""The configuration: what outside scripts may override, and that nothing unknown, mistyped or out of bounds passes."""

import contextlib
import dataclasses
import json

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.config.choices import Backbone, Backend, Fusion, Modality, NoiseSource, PrivacyMode, StrategyName
from shared_model.config.experiment import ExperimentConfig, RunConfig, compose
from shared_model.errors import ConfigError
from shared_model.vocabulary import FeaturePolicy, LesionType

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


def test_smoke_preset_makes_its_own_small_phantom(config):
    assert config.preset == "smoke"
    assert config.phantom.num_patients >= 12
    assert config.data.root == f".cache/phantom-{config.phantom.num_patients}-{config.seed}"
    assert config.privacy.mode is PrivacyMode.PATIENT
    assert config.privacy.noise is NoiseSource.SECURE
    assert config.model.backbone is Backbone.EFFICIENTNET_LITE0


def test_phantom_is_the_preset_of_a_bare_command():
    bare = compose([])
    assert bare.preset == "phantom"
    assert bare.phantom.num_patients is not None
    assert bare.run.dir.startswith("runs/phantom-")


def test_cbis_mass_preset_needs_a_data_root_and_keeps_it():
    with pytest.raises(ConfigError, match=r"Expected a value for data\.root, for example data\.root=\.\.\."):
        compose(["preset=cbis_mass"])
    real = compose(["preset=cbis_mass", "data.root=/folder with blanks"])
    assert (real.preset, real.data.root, real.phantom.num_patients) == ("cbis_mass", "/folder with blanks", None)
    assert real.data.lesion_types == (LesionType.MASS,)
    assert real.data.features is FeaturePolicy.SAFE


def test_a_preset_yields_to_overrides_on_the_command_line():
    real = compose(["preset=smoke", "training.num_rounds=7", "phantom.num_patients=33", "seed=5"])
    assert real.training.num_rounds == 7
    assert real.data.root == ".cache/phantom-33-5"


def test_names_that_outside_scripts_rely_on():
    composed = compose(
        [
            "preset=smoke",
            "seed=3",
            "run.dir=/runs/mine",
            "data.root=/data",
            "data.features=reader",
            "model.modality=image",
            "model.fusion=late",
            "privacy=patient",
            "privacy.target_epsilon=1.5",
            "federation=ray",
            "strategy=fedadam",
        ]
    )
    assert (composed.seed, composed.run.dir, composed.data.root) == (3, "/runs/mine", "/data")
    assert composed.data.features is FeaturePolicy.READER
    assert (composed.model.modality, composed.model.fusion) == (Modality.IMAGE, Fusion.LATE)
    assert (composed.privacy.mode, composed.privacy.target_epsilon) == (PrivacyMode.PATIENT, 1.5)
    assert (composed.federation.backend, composed.strategy.name) == (Backend.RAY, StrategyName.FEDADAM)


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedprox"])
def test_every_strategy_composes_under_its_name(name):
    strategy = compose([f"strategy={name}"]).strategy
    assert strategy.name is StrategyName(name)
    assert (strategy.proximal_mu > 0) == (name == "fedprox")
    assert (strategy.momentum > 0) == (name == "fedavgm")


def test_privacy_off_clears_the_promise_and_takes_its_own_training():
    private, bare = compose(["preset=smoke"]), compose(["preset=smoke", "privacy=off"])
    assert bare.privacy.mode is PrivacyMode.OFF
    assert {bare.privacy.target_epsilon, bare.privacy.delta, bare.privacy.max_grad_norm, bare.privacy.noise} == {None}
    assert bare.training.learning_rate < private.training.learning_rate


def test_composing_twice_is_equal_and_independent():
    first = compose(["preset=smoke", "run.dir=r"])
    compose(["preset=smoke", "run.dir=r", "seed=9", "privacy=off"])
    assert compose(["preset=smoke", "run.dir=r"]) == first
    assert hash(compose(["preset=smoke", "run.dir=r"])) == hash(first)


@pytest.mark.parametrize("override", ["seed=1", "nope=1", "seed=x"])
def test_hydra_global_state_is_left_clean(override):
    with contextlib.suppress(ConfigError):
        compose([override])
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nope=1", r"Could not override 'nope'"),
        ("+nope=1", r"Unknown configuration key nope; known here: preset, seed, "),
        ("+data.image.sice=1", r"Unknown configuration key data\.image\.sice; known here: mode, size, "),
        ("~data.roster", r"Missing configuration key data\.roster"),
        ("preset=nix", r"Could not find 'preset/nix' Available options in 'preset': cbis_mass phantom smoke"),
        ("seed=x", r"Expected seed to be int, got 'x'\."),
        ("seed=-1", r"Expected seed=-1 in \[0, 2\^63\)\."),
        ("privacy.target_epsilon=nan", r"Expected privacy\.target_epsilon=nan to be finite\."),
        ("training.learning_rate=1e999", r"Expected training\.learning_rate=inf to be finite\."),
        ("data.features=all", r"Expected data\.features to be one of safe, descriptors, reader, got 'all'\."),
        ("privacy.mode=off", r"Expected privacy\.target_epsilon=8\.0 to be null with privacy=off\."),
        ("data=3", r"Expected data to be a mapping, got 3\."),
        ("seed=${nope}", r"Interpolation key 'nope' not found"),
        ("seed=" + "1" * 5000, r"Cannot compose the configuration: Exceeds the limit"),
        ("===", r"Cannot compose the configuration: mismatched input '='"),
    ],
)
def test_wrong_overrides_are_named_in_one_line(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose([override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", True, r"Expected seed to be int, got True\."),
        ("seed", 1.0, r"Expected seed to be int, got 1\.0\."),
        ("seed", 2**63, r"Expected seed=9223372036854775808 in \[0, 2\^63\)\."),
        ("run", "here", r"Expected run to be a mapping, got 'here'\."),
        ("run.dir", None, r"Expected run\.dir to be str, got None\."),
        ("data.lesion_types", "mass", r"Expected data\.lesion_types to be a list, got 'mass'\."),
        ("data.lesion_types", [], r"Expected data\.lesion_types=\[\] not empty\."),
        ("data.lesion_types", ["mass", "mass"], r"Expected data\.lesion_types=\['mass', 'mass'\] to be distinct\."),
        ("data.lesion_types", ["mass", "cyst"], r"Expected data\.lesion_types\[1\] to be one of mass, calcification"),
        ("data.roster", 3, r"Expected data\.roster to be str or null, got 3\."),
        ("data.image.size", 31, r"Expected data\.image\.size=31 in \[32, 4096\]\."),
        ("data.image.context", 0.5, r"Expected data\.image\.context=0\.5 in \[1, 10\]\."),
        ("data.image.face_left", 1, r"Expected data\.image\.face_left to be bool, got 1\."),
        ("data.image.clahe_clip_limit", -1, r"Expected data\.image\.clahe_clip_limit=-1\.0 in \[0, 100\]\."),
        ("data.max_reject_fraction", 1.1, r"Expected data\.max_reject_fraction=1\.1 in \[0, 1\]\."),
        ("data.validation_fraction", -0.1, r"Expected data\.validation_fraction=-0\.1 >= 0\."),
        ("data.public_fraction", 0, r"fraction=0\.0 in \(0, 0\.5\]: the operating threshold needs validation patients"),
        ("data.public_fraction", 0.6, r"public_fraction \+ data\.validation_fraction=0\.6 in \(0, 0\.5\]"),
        ("model.fusion", ["early"], r"Expected model\.fusion to be Fusion, got \['early'\]\."),
        ("model.image_components", 2000, r"Expected model\.image_components=2000 in \[0, 1024\]\."),
        ("model.hidden_width", -1, r"Expected model\.hidden_width=-1 in \[0, 4096\]\."),
        ("training.num_rounds", 0, r"Expected training\.num_rounds=0 >= 1\."),
        ("training.local_steps", 0, r"Expected training\.local_steps=0 >= 1\."),
        ("training.sampling_rate", 0, r"Expected training\.sampling_rate=0\.0 in \(0, 1\]\."),
        ("training.learning_rate", 0, r"Expected training\.learning_rate=0\.0 > 0\."),
        (
            "training.learning_rate",
            10**400,
            r"Expected training\.learning_rate to be float, got an integer of 1329 bits",
        ),
        ("training.momentum", 1, r"Expected training\.momentum=1\.0 in \[0, 1\)\."),
        ("training.weight_decay", -1, r"Expected training\.weight_decay=-1\.0 >= 0\."),
        ("training.focal_gamma", 6, r"Expected training\.focal_gamma=6\.0 in \[0, 5\]\."),
        ("training.positive_weight", 11, r"Expected training\.positive_weight=11\.0 in \[0\.1, 10\]\."),
        ("privacy.target_epsilon", 0, r"Expected privacy\.target_epsilon=0 in \[0\.01, 1000\]\."),
        ("privacy.target_epsilon", None, r"Expected privacy\.target_epsilon to be set with privacy=patient\."),
        ("privacy.noise", None, r"Expected privacy\.noise to be set with privacy=patient\."),
        ("privacy.noise", "none", r"Expected privacy\.noise to be one of secure, seeded, got 'none'\."),
        ("privacy.delta", 0.5, r"Expected privacy\.delta=0\.5 in \(0, 0\.1\)\."),
        ("privacy.max_grad_norm", -1, r"Expected privacy\.max_grad_norm=-1\.0 > 0\."),
        ("privacy.cohort_rounding", 0, r"Expected privacy\.cohort_rounding=0 >= 1\."),
        ("strategy.server_learning_rate", 0, r"Expected strategy\.server_learning_rate=0\.0 > 0\."),
        ("strategy.momentum", 1, r"Expected strategy\.momentum=1\.0 in \[0, 1\)\."),
        ("strategy.second_momentum", 1, r"Expected strategy\.second_momentum=1\.0 in \[0, 1\)\."),
        ("strategy.adaptivity", 0, r"Expected strategy\.adaptivity=0\.0 > 0\."),
        ("strategy.proximal_mu", -1, r"Expected strategy\.proximal_mu=-1\.0 >= 0\."),
        ("strategy.average_last_fraction", 2, r"Expected strategy\.average_last_fraction=2\.0 in \[0, 1\]\."),
        ("strategy.max_site_weight", 0, r"Expected strategy\.max_site_weight=0\.0 in \(0, 1\]\."),
        ("federation.sites", [], r"Expected federation\.sites=\[\] not empty\."),
        ("federation.sites", ["A", "A", "B"], r"Expected federation\.sites=.* to be distinct names of letters"),
        ("federation.sites", ["A", "", "B"], r"Expected federation\.sites=.* to be distinct names of letters"),
        ("federation.sites", ["A", "../B"], r"Expected federation\.sites=.* to be distinct names of letters"),
        ("federation.sites", [1], r"Expected federation\.sites\[0\] to be str, got 1\."),
        ("federation.min_sites", 4, r"Expected federation\.min_sites=4 in \[1, number of sites = 3\]\."),
        ("federation.concentration", 0, r"Expected federation\.concentration=0\.0 > 0\."),
        ("federation.round_timeout_seconds", 0, r"Expected federation\.round_timeout_seconds=0\.0 > 0\."),
        ("federation.num_workers", 0, r"Expected federation\.num_workers=0 >= 1\."),
        ("evaluation.num_bins", 9, r"Expected evaluation\.num_bins=9 in \[10, 100000\]\."),
        ("evaluation.target_sensitivity", 0, r"Expected evaluation\.target_sensitivity=0\.0 in \(0, 1\]\."),
        ("evaluation.bootstrap_resamples", 99, r"Expected evaluation\.bootstrap_resamples=99 >= 100\."),
        ("phantom.num_patients", 11, r"Expected phantom\.num_patients=11 null or >= 12\."),
        ("phantom.num_patients", True, r"Expected phantom\.num_patients to be int or null, got True\."),
        ("extra", 1, r"Unknown configuration key extra; known here: preset, "),
        ("model.ex\ntra", 1, r"Unknown configuration key model\.ex tra; known here: "),
        ("seed", "y" * 10**6, r"Expected seed to be int, got 'yyy.*\.\.\.y+'\."),
    ],
)
def test_every_bound_names_key_value_and_expectation(config, key, value, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ExperimentConfig.from_json(changed(config, key, value))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


FLOATS = [
    f"{section}.{field.name}"
    for section, kind in ExperimentConfig.__annotations__.items()
    if dataclasses.is_dataclass(kind)
    for field in dataclasses.fields(kind)
    if field.type in (float, float | None)
] + ["data.image.context", "data.image.clahe_clip_limit"]


def test_there_are_float_fields_to_try():
    assert len(FLOATS) >= 20
    assert {"training.learning_rate", "privacy.delta", "federation.round_timeout_seconds"} <= set(FLOATS)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", FLOATS)
def test_no_float_field_takes_nan_or_infinity(config, key, value):
    with pytest.raises(ConfigError, match=rf"Expected {key}={value} to be finite\."):
        ExperimentConfig.from_json(changed(config, key, value))


def test_a_replaced_section_is_checked_too(config):
    with pytest.raises(ConfigError, match=r"Expected training\.learning_rate=inf to be finite\."):
        dataclasses.replace(config.training, learning_rate=float("inf"))


def test_json_round_trip(config):
    assert ExperimentConfig.from_json(config.to_json()) == config
    bare = compose(["preset=cbis_mass", 'data.root="/ä b"', "privacy=off", "data.roster=null"])
    odd = dataclasses.replace(bare, run=RunConfig(dir="\n\"'\ud800\0"))
    assert ExperimentConfig.from_json(odd.to_json()) == odd


def test_whole_numbers_may_stand_for_floats(config):
    assert (
        type(ExperimentConfig.from_json(changed(config, "training.learning_rate", 2)).training.learning_rate) is float
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "as JSON: Expecting value"),
        ("{", "as JSON: Expecting property name"),
        ("null", "Expected the configuration to be a mapping, got None"),
        ("[]", r"Expected the configuration to be a mapping, got \[\]"),
        ("NaN", "Expected the configuration to be a mapping, got nan"),
        ("{}", "Missing configuration key data, evaluation, federation, "),
        ("\ud800", "as JSON: Expecting value"),
        ("[" * 100_000, "as JSON: maximum recursion depth exceeded"),
        ('{"a":' * 100_000, "as JSON: maximum recursion depth exceeded"),
        ("[" * 900 + "]" * 900, "Expected the configuration to be a mapping, got "),
        ("1" * 5000, "as JSON: Exceeds the limit"),
    ],
)
def test_hostile_json_is_refused_in_one_short_line(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ExperimentConfig.from_json(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@settings(deadline=None)
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
