"""The site's own limits: every way in which a server may ask for more is refused, with one fixed reason."""

import dataclasses
import re

import numpy as np
import pytest
import yaml

from client.privacy.ledger_history import Limits
from client.privacy.policy import OPEN_POLICY, SecureSum, SitePolicy
from shared_model.config.composition import CONFIG_FOLDER, compose
from shared_model.config.fingerprints import source_fingerprint
from shared_model.errors import ConfigError, PolicyError
from shared_model.privacy.plan import PrivacyPlan
from tests.reference_prices import gaussian_epsilon

HOSPITAL = CONFIG_FOLDER / "site_policy" / "hospital.yaml"
SECURE = "federation.secure_sum=true"
ALLOWED = ["preset=smoke", "evaluation.privacy=dp", "data.lesion_types=[mass]", "data.views=all"]


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
        ("training.num_rounds=201", "training.num_rounds=201"),
        ("training.local_steps=101", "training.local_steps=101"),
        ("training.sampling_rate=0.0009", "training.sampling_rate=0.0009"),
        ("training.learning_rate=1001", "training.learning_rate=1001.0"),
        ("evaluation.privacy=exact", "evaluation.privacy=exact"),
        ("evaluation.target_epsilon=8.1", "evaluation.target_epsilon=8.1"),
        ("evaluation.delta=1.1e-4", "evaluation.delta=0.00011"),
        ("evaluation.dp_num_bins=51", "evaluation.dp_num_bins=51"),
        ("data.features=reader", "data.features=reader"),
        ("data.lesion_types=[mass,calcification]", "data.lesion_types=mass, calcification"),
        ("data.views=own", "data.views=own"),
        ("data.image.size=1025", "data.image.size=1025"),
        ("model.backbone=small_cnn data.views=own", "model.backbone=small_cnn"),
        ("model.feature_engine=openvino", "model.feature_engine=openvino"),
    ],
)
def test_every_widening_is_refused(override, key):
    with pytest.raises(PolicyError, match=f"^Expected {key} to be ") as caught:
        SitePolicy.load(HOSPITAL).require(compose([*ALLOWED, *override.split()]), source_fingerprint())
    assert caught.value.public_reason == "the site's policy does not allow it"


@pytest.mark.parametrize(
    "override",
    ["seed=5", "privacy.cohort_rounding=397", "data.public_fraction=1e-5", "data.validation_fraction=1e-12",
     "data.max_reject_fraction=0.01"],
)  # fmt: skip
def test_what_the_site_fixes_itself_may_stand_there_with_any_value(override):
    """Roles, declared size and reject limit are the policy's; what a configuration says of them is for simulations."""
    SitePolicy.load(HOSPITAL).require(compose([*ALLOWED, override]), source_fingerprint())


def test_exact_histograms_are_the_open_policys_and_bounded_where_they_are_allowed(tmp_path):
    exact = compose([*ALLOWED, "evaluation.privacy=exact", "evaluation.num_bins=100000"])
    SitePolicy.load(OPEN_POLICY).require(exact, "")
    with pytest.raises(PolicyError, match=r"evaluation\.privacy=exact to be one of none, dp,"):
        SitePolicy.load(HOSPITAL).require(exact, "")
    policy = policy_of(tmp_path, evaluation=["exact"], max_epsilon=None)
    with pytest.raises(PolicyError, match=r"evaluation\.num_bins=100000 to be <= 50,"):
        policy.require(exact, "")


@pytest.mark.parametrize("entry", [10001.0, -10001.0, float("inf"), float("-inf"), float("nan")])
def test_no_entry_of_a_request_is_large_or_not_finite(entry):
    policy = SitePolicy.load(HOSPITAL)
    arrays = {"empty": np.zeros((0, 3), np.float32), "bound": np.full(3, -1e4, np.float32)}
    policy.require_magnitude(arrays)
    with pytest.raises(PolicyError, match="Expected weights of absolute values <= 10000"):
        policy.require_magnitude(arrays | {"weights": np.array([[0, entry]], np.float32)})


def test_only_approved_code_runs(tmp_path):
    policy = policy_of(tmp_path, source_fingerprints=["a" * 64])
    policy.require(compose(ALLOWED), "a" * 64)
    with pytest.raises(PolicyError, match="source code=bbbbbbbbbbbb to be approved"):
        policy.require(compose(ALLOWED), "b" * 64)


def test_further_fields(tmp_path):
    policy = policy_of(
        tmp_path, lesion_types=None, fields={"data.lesion_types": [["mass"]], "data.image.size": [64, 128]}
    )
    policy.require(compose(ALLOWED), "")
    with pytest.raises(PolicyError, match=r"data.image.size=32 to be one of \[64, 128\]"):
        policy.require(compose([*ALLOWED, "data.image.size=32"]), "")
    with pytest.raises(PolicyError, match=r"data\.lesion_types"):
        policy.require(compose([*ALLOWED, "data.lesion_types=[mass,calcification]"]), "")


def test_too_little_noise(tmp_path):
    policy = policy_of(tmp_path, min_noise_multiplier=0.5)
    policy.require_noise(0.5)
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


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"evaluation": ["exact", "dp"]}, r"Expected evaluation without exact .* set evaluation: \[none, dp\]\.$"),
        ({"evaluation": ["exact"]}, r"set evaluation: \[none, dp\]\.$"),
        ({"privacy": ["patient", "off"]}, r"Expected privacy without off .* set privacy: \[patient\]\.$"),
        ({"noise": ["secure", "seeded"]}, r"Expected noise without seeded .* protects nobody; .* noise: \[secure\]\.$"),
    ],
)
def test_a_cap_beside_what_it_does_not_bound_is_refused_before_a_run_spends_anything(tmp_path, changes, advice):
    """Earlier the training of such a run spent its budget, and only then was its evaluation refused."""
    with pytest.raises(ConfigError, match=advice):
        policy_of(tmp_path, **changes)
    assert policy_of(tmp_path, **changes, max_epsilon=None).max_epsilon is None


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


def test_a_limit_that_a_file_forgets_is_that_of_the_kits(tmp_path):
    """A site whose file is older than a limit keeps running, under the strict value."""
    values = yaml.safe_load(HOSPITAL.read_text()) | {"max_rounds": 7}
    del values["min_patients"], values["max_magnitude"]
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(values))
    kits = SitePolicy.load(HOSPITAL)
    assert SitePolicy.load(path) == dataclasses.replace(kits, max_rounds=7)
    assert SitePolicy.load(path, defaults=OPEN_POLICY).max_magnitude == SitePolicy.load(OPEN_POLICY).max_magnitude


def test_what_only_simulations_may_leave_open():
    kits, simulated = SitePolicy.load(HOSPITAL), SitePolicy.load(OPEN_POLICY)
    assert kits.declared_patients is None
    for name in ("validation_fraction", "lesion_types", "views"):
        assert getattr(kits, name) is not None
        assert getattr(simulated, name) is None


@pytest.mark.parametrize(
    ("choice", "override", "allowed"),
    [
        ("refuse", SECURE, "false"),
        ("refuse", "federation.secure_sum=false", None),
        ("allow", SECURE, None),
        ("allow", "federation.secure_sum=false", None),
        ("demand", SECURE, None),
        ("demand", "federation.secure_sum=false", "true"),
    ],
)
def test_secure_sums_are_refused_allowed_or_demanded(tmp_path, choice, override, allowed):
    policy, config = policy_of(tmp_path, secure_sum=choice), compose([*ALLOWED, override])
    if allowed is None:
        policy.require(config, "")
        return
    with pytest.raises(PolicyError, match=rf"^Expected {re.escape(override)} to be {allowed}, as") as caught:
        policy.require(config, "")
    assert caught.value.key == "federation.secure_sum"


def test_a_sum_of_fewer_sites_is_refused(tmp_path):
    policy = policy_of(tmp_path, min_sum_sites=3)
    policy.require(compose([*ALLOWED, SECURE, "federation.min_sites=3"]), "")
    with pytest.raises(PolicyError, match=r"Expected federation\.min_sites=2 to be >= 3,"):
        policy.require(compose([*ALLOWED, SECURE]), "")
    policy.require(compose(ALLOWED), "")


def plan_of(*overrides):
    return PrivacyPlan.calibrate(compose(["preset=cbis_mass", "data.root=.", *overrides]), num_patients_declared=100)


def test_the_kits_grant_the_default_federation_its_secure_sums_at_epsilon_8():
    """Its sums have two sites at least; of three each sends a smaller share, which the kits grant too."""
    kits = SitePolicy.load(HOSPITAL)
    for num_sites in (2, 3):
        kits.require_alone(plan_of(SECURE, f"federation.min_sites={num_sites}"))
    five = (SECURE, "federation.sites=[A,B,C,D,E]", "federation.min_sites=4")
    with pytest.raises(PolicyError, match=r"Expected epsilon 19\.\d+ <= 16\.5 at delta 0\.0001 to whoever") as caught:
        kits.require_alone(plan_of(*five))
    assert caught.value.key == "max_epsilon_alone"
    SitePolicy.load(OPEN_POLICY).require_alone(plan_of(*five))


def test_the_price_of_the_shares_is_that_of_all_releases_of_the_run_at_the_sites_own_delta(tmp_path):
    plan = plan_of(SECURE)
    released = plan.released(has_mean=True, num_rounds=plan.num_rounds, has_histogram=True)
    precision = sum(2 * part.num_steps / part.noise_multiplier**2 for part in released)
    price = gaussian_epsilon(1, precision**-0.5, 1e-5)
    policy_of(tmp_path, max_epsilon_alone=price + 0.01, max_delta=1e-5).require_alone(plan)
    with pytest.raises(PolicyError, match=rf"Expected epsilon {price:.3f} <= "):
        policy_of(tmp_path, max_epsilon_alone=price - 0.01, max_delta=1e-5).require_alone(plan)
    # A site that sends all noise itself is granted by max_epsilon.
    policy_of(tmp_path, max_epsilon=7.0, max_epsilon_alone=7.0).require_alone(plan_of())


def test_without_a_limit_of_their_own_shares_must_keep_the_first():
    kits = SitePolicy.load(HOSPITAL)
    strict = dataclasses.replace(kits, max_epsilon_alone=None)
    assert (kits.limits.granted_alone, strict.limits.granted_alone) == (16.5, 8.0)
    # The figures in the file's comment.
    for num_sites, price in ((2, r"12\.4[5-9]"), (3, r"16\.2[5-9]")):
        with pytest.raises(PolicyError, match=rf"Expected epsilon {price}\d <= 8 at delta"):
            strict.require_alone(plan_of(SECURE, f"federation.min_sites={num_sites}"))
    strict.require_alone(plan_of(SECURE, "privacy.target_epsilon=5.0"))


def test_a_file_that_is_older_than_secure_sums_grants_nothing_more_by_them(tmp_path):
    path = tmp_path / "policy.yaml"
    for text, limits in (
        ("max_epsilon: 20.0\n", Limits(max_epsilon=20.0, max_delta=1e-4, max_releases=10_000)),
        ("max_epsilon: 1.0\n", Limits(max_epsilon=1.0, max_delta=1e-4, max_releases=10_000)),
    ):
        path.write_text(text)
        policy = SitePolicy.load(path)
        assert policy.limits == limits
        assert policy.partners is None
    path.write_text("max_rounds: 7\n")
    assert SitePolicy.load(path).max_epsilon_alone == 16.5


def test_no_limit_is_no_limit_for_whoever_breaks_the_sums_too(tmp_path):
    assert policy_of(tmp_path, max_epsilon=None).limits.granted_alone is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_epsilon_alone": 7.9}, r"Expected max_epsilon_alone=7\.9 >= max_epsilon=8\.0: whoever breaks"),
        ({"secure_sum": "maybe"}, "Expected secure_sum to be one of refuse, allow, demand"),
        ({"min_sum_sites": 0}, "Expected min_sum_sites=0 >= 1"),
        ({"partners": {"MGH": "ab" * 31}}, r"partners\.MGH.*to be 64 digits 0-9 a-f, as fedmammo site identity"),
        ({"partners": {"MGH": "AB" * 32}}, r"partners\.MGH.*to be 64 digits 0-9 a-f"),
        ({"partners": {"M G H": "ab" * 32}}, "partners"),
        (
            {"partners": {"MGH": "ab" * 32, "WFU": "ab" * 32}},
            "to name every identity once: one site would count as two",
        ),
        ({"partners": ["ab" * 32]}, "partners"),
    ],
)
def test_what_a_policy_cannot_say_of_secure_sums(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        policy_of(tmp_path, **changes)


def test_partners_have_names_and_identities(tmp_path):
    policy = policy_of(tmp_path, partners={"MGH": "ab" * 32, "WFU": "cd" * 32}, secure_sum="demand")
    assert policy.partners == {"MGH": "ab" * 32, "WFU": "cd" * 32}
    assert policy.secure_sum is SecureSum.DEMAND
