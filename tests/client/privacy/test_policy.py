"""The site's own limits: every way in which a server may ask for more is refused, with one fixed reason."""

import pytest
import yaml

from client.privacy.policy import OPEN_POLICY, SitePolicy
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError, PolicyError

HOSPITAL = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
ALLOWED = ["preset=smoke", "evaluation.privacy=dp", "privacy.cohort_rounding=10"]


def policy_of(tmp_path, **changes):
    values = yaml.safe_load(HOSPITAL.read_text()) | changes
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(values))
    return SitePolicy.load(path)


def test_the_shipped_policies_allow_what_they_are_for(tmp_path):
    SitePolicy.load(HOSPITAL).require(compose(ALLOWED), source_fingerprint())
    for preset in ("phantom", "smoke"):
        for overrides in ([], ["privacy=off"], ["privacy.noise=seeded"], ["data.features=reader"]):
            SitePolicy.load(OPEN_POLICY).require(compose([f"preset={preset}", *overrides]), source_fingerprint())


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("privacy=off", "privacy.mode=off"),
        ("privacy.noise=seeded", "privacy.noise=seeded"),
        ("privacy.target_epsilon=8.1", "privacy.target_epsilon=8.1"),
        ("privacy.delta=1.1e-4", "privacy.delta=0.00011"),
        ("privacy.max_grad_norm=1.01", "privacy.max_grad_norm=1.01"),
        ("privacy.cohort_rounding=9", "privacy.cohort_rounding=9"),
        ("training.num_rounds=201", "training.num_rounds=201"),
        ("evaluation.privacy=exact", "evaluation.privacy=exact"),
        ("evaluation.target_epsilon=8.1", "evaluation.target_epsilon=8.1"),
        ("evaluation.delta=1.1e-4", "evaluation.delta=0.00011"),
        ("data.features=reader", "data.features=reader"),
        ("model.backbone=small_cnn", "model.backbone=small_cnn"),
    ],
)
def test_every_widening_is_refused(override, key):
    with pytest.raises(PolicyError, match=f"^Expected {key} to be ") as caught:
        SitePolicy.load(HOSPITAL).require(compose([*ALLOWED, override]), source_fingerprint())
    assert caught.value.public_reason == "the site's policy does not allow it"


def test_only_approved_code_runs(tmp_path):
    policy = policy_of(tmp_path, source_fingerprints=["a" * 64])
    policy.require(compose(ALLOWED), "a" * 64)
    with pytest.raises(PolicyError, match="source code=bbbbbbbbbbbb to be approved"):
        policy.require(compose(ALLOWED), "b" * 64)


def test_further_fields(tmp_path):
    policy = policy_of(tmp_path, fields={"data.lesion_types": [["mass"]], "data.image.size": [64, 128]})
    policy.require(compose([*ALLOWED, "data.lesion_types=[mass]"]), "")
    with pytest.raises(PolicyError, match=r"data.image.size=32 to be one of \[64, 128\]"):
        policy.require(compose([*ALLOWED, "data.lesion_types=[mass]", "data.image.size=32"]), "")
    with pytest.raises(PolicyError, match=r"data\.lesion_types"):
        policy.require(compose(ALLOWED), "")


def test_too_few_patients_and_too_little_noise(tmp_path):
    policy = policy_of(tmp_path, min_patients=20, min_noise_multiplier=0.5)
    policy.require_patients(20)
    policy.require_noise(0.5)
    with pytest.raises(PolicyError, match="at least 20 patients"):
        policy.require_patients(19)
    with pytest.raises(PolicyError, match=r"noise_multiplier=0.49 >= 0.5"):
        policy.require_noise(0.49)
    with pytest.raises(PolicyError, match="noise_multiplier=nan"):
        policy.require_noise(float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epsilon": -1.0}, r"In the site policy .*policy\.yaml: Expected max_epsilon=-1.0 > 0"),
        ({"max_epsilon": float("inf")}, "max_epsilon=inf"),
        ({"max_epsilon": "eight"}, "Expected max_epsilon to be a number or null"),
        ({"max_delta": 0.0}, "max_delta=0.0"),
        ({"noise": ["loud"]}, "one of secure, seeded"),
        (
            {"fields": {"privacy.epsilon": [1]}},
            "fields=privacy.epsilon to be a key of the configuration, such as privacy.target_epsilon",
        ),
        ({"surprise": 1}, "Unknown key surprise"),
    ],
)
def test_a_wrong_policy_is_an_error(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        policy_of(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "[", "- a", "\x00"])
def test_a_file_that_is_no_policy(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="policy"):
        SitePolicy.load(path)


def test_no_limit_may_stand_twice_or_be_infinite(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(HOSPITAL.read_text() + "max_epsilon: 800.0\n")
    with pytest.raises(ConfigError, match=r"Expected every key once, got max_epsilon more than once\."):
        SitePolicy.load(path)
    with pytest.raises(ConfigError, match=r"Expected max_grad_norm=inf to be finite\."):
        policy_of(tmp_path, max_grad_norm=float("inf"))


def test_no_limit_may_be_forgotten(tmp_path):
    values = yaml.safe_load(HOSPITAL.read_text())
    del values["min_patients"]
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="Missing key min_patients"):
        SitePolicy.load(path)
