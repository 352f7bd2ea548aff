"""What a command line may change in the configuration, and what it is told where it is wrong."""

import contextlib
import hashlib
import itertools
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from shared_model.config.choices import Backbone, Backend, Fusion, Modality, NoiseSource, PrivacyMode, StrategyName
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.config.hydra_groups import composed
from shared_model.errors import ConfigError
from shared_model.vocabulary import FeaturePolicy, LesionType
from tests.first_release import PUBLIC_PATIENTS, as_first_released


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


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedprox", "one_shot"])
def test_every_strategy_composes_under_its_name(name):
    composed = compose([f"strategy={name}"])
    strategy = composed.strategy
    assert strategy.name is StrategyName(name)
    assert composed.training.num_rounds == (1 if name == "one_shot" else 20)
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
    "overrides",
    [
        # Values before groups, in every order, and twice.
        ("privacy.target_epsilon=3", "training.learning_rate=0.5", "privacy=off", "preset=smoke", "seed=4", "seed=5"),
        ("strategy=one_shot", "preset=phantom", "strategy.momentum=0.3", "federation.sites=[A,B]"),
        ("preset=smoke", "data={root: here, features: safe}", "data.roster=null", "data.lesion_types=[mass]"),
        # References to other keys, and to what stands behind the others.
        ("preset=smoke", "run.dir='${preset} of ${seed}: ${data.root}'", "seed=7", "phantom.num_patients=9"),
        # Signs, and groups in braces: they are not values that are set after all groups.
        ("preset=smoke", "++seed=3", "+phantom.more=1", "~data.roster"),
        ("privacy.delta=0.01", "privacy={target_epsilon: 2, delta: 0.02}", "preset=smoke"),
        ("hydra.verbose=true", "hydra.job.name=x", "preset=smoke"),
        ("preset=smoke", "federation.sites='a,b'", "data.root=1e3", "data.cache_dir=[1,{a: b}]"),
    ],
)
def test_groups_and_values_compose_as_hydra_alone_composes_them(overrides):
    fixed = [*overrides, "run.dir=r"] if "run.dir" not in str(overrides) else list(overrides)
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        expected = OmegaConf.to_container(hydra.compose("experiment", overrides=fixed), resolve=True)
    for _ in range(2):
        assert composed(CONFIG_FOLDER, fixed) == expected


def test_the_folder_of_a_run_has_the_time_of_its_own_composition(monkeypatch):
    instants = [datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC) for second in range(3)]
    clock = iter(instants)
    monkeypatch.setattr("hydra.core.utils.datetime", SimpleNamespace(now=lambda: next(clock)))
    folders = [compose(["preset=smoke"]).run.dir for _ in instants]
    assert folders == [f"runs/smoke-20260102-03040{second}" for second in range(3)]


FIRST_STRATEGIES = tuple(name for name in StrategyName if name is not StrategyName.ONE_SHOT)


def answers():
    """Return what is typed after a command's name, and the sentence that answers it."""
    pairs = Path(__file__).with_name("wrong_overrides.txt").read_text(encoding="utf-8").strip().split("\n\n")
    return [pair.removeprefix("$ ").split("\n") for pair in pairs]


def test_there_are_answers_to_try():
    assert len(answers()) >= 60


@pytest.mark.parametrize(("typed", "answer"), answers())
def test_a_wrong_override_is_answered_in_a_sentence(typed, answer):
    with pytest.raises(ConfigError) as caught:
        compose(shlex.split(typed))
    assert str(caught.value) == answer


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("", r"Expected key=value, for example seed=1, got ''\."),
        ("seed=\ud800", r"Expected closed brackets and quotes in 'seed=\\ud800'; .* quotes: 'seed=\"a=b\"'\."),
        ("seed=" + "1" * 5000, r"Expected closed brackets and quotes in 'seed=1+\.\.\.1+'; "),
        ("x" * 5000 + "=1", r"Unknown key 'x+\.\.\.x+'\. Known here: "),
        ("a\nb=1", r"Unknown key 'a\\nb'\. Known here: "),
    ],
)
def test_strange_overrides_are_answered_in_a_short_line(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        compose([override])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@settings(max_examples=60)
@given(
    start=st.sampled_from(["", "+", "~", "seed", "data.root", "preset", "privacy", "data", "data.lesion_types"]),
    rest=st.text("=+~@$[]{}()'\"\\,.:/ \nabc123é", max_size=8),
)
def test_whatever_is_typed_is_a_configuration_or_an_answer_without_jargon(start, rest):
    answer = ""
    try:
        compose(["preset=smoke", start + rest])
    except ConfigError as error:
        answer = str(error)
    assert not re.search(r"hydra|omegaconf|interpolation|lexer|mismatched|pkg:|<EOF>|\n", answer, re.IGNORECASE)


def test_every_preset_composes_what_it_did_in_the_first_release():
    """The hash is of the code in which every group repeated every key.

    ``exact`` and ``mean`` were defaults then, later keys were not there, and masses had public patients.
    """
    digest = hashlib.sha256()
    first = ["evaluation.privacy=exact", "strategy.aggregation=mean", "strategy.max_update_norm=null"]
    for preset, strategy, privacy, federation in itertools.product(
        ("cbis_mass", "phantom", "smoke"), FIRST_STRATEGIES, PrivacyMode, Backend
    ):
        root = ["data.root=d", *PUBLIC_PATIENTS] if preset == "cbis_mass" else []
        if strategy is not StrategyName.FEDAVGM and preset == "cbis_mass":
            root.append(f"strategy.average_last_fraction={0.5 if strategy is StrategyName.FEDADAM else 0.0}")
        groups = [f"preset={preset}", f"strategy={strategy}", f"privacy={privacy}", f"federation={federation}"]
        digest.update(as_first_released(compose([*groups, "run.dir=x", *first, *root])).encode())
    assert digest.hexdigest() == "7d3cd528731cb2f60b827b9b0972d5880cff531331a7be926dfa86b06f26e1cb"
