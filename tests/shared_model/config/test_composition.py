"""What a command line may change in the configuration, and what it is told where it is wrong."""

import contextlib
import hashlib
import itertools

import pytest
from hydra.core.global_hydra import GlobalHydra

from shared_model.config.choices import Backbone, Backend, Fusion, Modality, NoiseSource, PrivacyMode, StrategyName
from shared_model.config.composition import compose
from shared_model.errors import ConfigError
from shared_model.vocabulary import FeaturePolicy, LesionType


def test_smoke_preset_makes_its_own_small_phantom():
    config = compose(["preset=smoke"])
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
        ("+nope=1", r"Unknown key nope\. Known here: preset, seed, "),
        (
            "+data.image.sice=1",
            r"Unknown key data\.image\.sice\. Did you mean data\.image\.size\? Known here: mode",
        ),
        ("~data.roster", r"Missing key data\.roster"),
        ("preset=nix", r"Could not find 'preset/nix' Available options in 'preset': cbis_mass phantom smoke"),
        ("seed=x", r"Expected seed to be a whole number, got 'x'\."),
        ("seed=-1", r"Expected seed=-1 in \[0, 2\^63\)\."),
        ("privacy.target_epsilon=nan", r"Expected privacy\.target_epsilon=nan to be finite\."),
        ("training.learning_rate=1e999", r"Expected training\.learning_rate=inf to be finite\."),
        ("data.features=all", r"Expected data\.features to be one of safe, descriptors, reader, got 'all'\."),
        ("privacy.mode=off", r"Expected privacy\.target_epsilon=8\.0 to be null with privacy=off; leave it out"),
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


def test_every_preset_composes_what_it_did_in_the_first_release():
    """The hash is of the code in which every group repeated every key."""
    digest = hashlib.sha256()
    for preset, strategy, privacy, federation in itertools.product(
        ("cbis_mass", "phantom", "smoke"), StrategyName, PrivacyMode, Backend
    ):
        root = ["data.root=d"] if preset == "cbis_mass" else []
        groups = [f"preset={preset}", f"strategy={strategy}", f"privacy={privacy}", f"federation={federation}"]
        digest.update(compose([*groups, "run.dir=x", *root]).to_json().encode())
    assert digest.hexdigest() == "7d3cd528731cb2f60b827b9b0972d5880cff531331a7be926dfa86b06f26e1cb"
