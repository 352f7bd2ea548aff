"""Overrides from elsewhere: they set plain values, and nothing that they hold makes Hydra read or evaluate anything."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.config import composition
from shared_model.config.composition import compose, compose_received
from shared_model.config.overrides import override
from shared_model.errors import ConfigError

PLAIN = [
    ["preset=smoke"],
    ["preset=cbis_mass", "data.root=/folder with blanks", "privacy=off", "strategy=fedadam", "federation=ray"],
    ["preset=smoke", "federation.sites=[A,B,C]", "federation.node_ids=[1,2,18446744073709551615]", "seed=3"],
    ["preset=smoke", override("run.dir", "/home/J (study), it's [x]=1/run"), override("evaluation.public", None)],
    ["preset=smoke", "data.lesion_types=[mass]", "training.learning_rate=1e-3"],
]


@pytest.mark.parametrize("overrides", PLAIN, ids=" ".join)
def test_plain_values_compose_as_on_a_command_line(overrides):
    given_folder = overrides if any("run.dir" in text for text in overrides) else [*overrides, "run.dir=runs/x"]
    assert compose_received(shlex.join(given_folder)) == compose(given_folder)


INTERPOLATIONS = [
    "run.dir=${oc.env:HOME}",
    'run.dir=${oc.decode:"1"}',
    "run.dir=${now:%Y}",
    "run.dir='${seed}'",
    "run={dir:'${oc.env:HOME}'}",
    r"run.dir=\${seed}",
    "seed=${oc.create:1}",
]
OTHERS = [
    "hydra.run.dir=/tmp/x",
    "hydra.searchpath=[file:///tmp/elsewhere]",
    "hydra/launcher=basic",
    "hydra.job.chdir=true",
    "hydra={a:1}",
    "+hydra=x",
    "+experiment=@x",
    "+x=1",
    "++seed=1",
    "~strategy",
    "privacy@strategy=off",
    "+seed@_global_=1",
    "defaults=[x]",
    "_target_=os.system",
    "run._target_=os.system",
    "--config-dir=/tmp",
    "--config-dir",
    "base/strategy=x",
    "site_policy=hospital",
    "run={dir:x}",
    "seed",
    "",
    "=1",
    "seed\n=1",
    "\nhydra.run.dir=x",
]
VALUES = [
    "seed=1,2",
    "seed=choice(1,2)",
    "run.dir={a:1}",
    "run.dir=glob(*)",
    "seed=range(1,3)",
    "run.dir=[",
    "run.dir='",
]
OPTIONS = ["preset=../../x", "preset=/tmp/x", "preset=[smoke,phantom]", "preset=null", "strategy=", "privacy=Off"]


@pytest.fixture
def no_hydra(monkeypatch):
    """Fail the test if anything is composed."""
    monkeypatch.setattr(composition, "compose", lambda overrides: pytest.fail(f"composed {overrides}"))


@pytest.mark.parametrize("text", INTERPOLATIONS)
def test_nothing_is_read_from_environment_or_files(no_hydra, text):
    with pytest.raises(ConfigError, match=r"Expected overrides from elsewhere without \$\{\.\.\.\}, got "):
        compose_received(shlex.join(["preset=smoke", text]))


@pytest.mark.parametrize("text", OTHERS)
def test_nothing_but_keys_of_ours_is_set(no_hydra, text):
    with pytest.raises(ConfigError, match="Expected overrides from elsewhere to set keys of the configuration"):
        compose_received(shlex.join(["preset=smoke", text]))


@pytest.mark.parametrize("text", VALUES)
def test_nothing_but_one_plain_value(no_hydra, text):
    with pytest.raises(ConfigError, match=r"Expected one plain value for .* from elsewhere, got"):
        compose_received(shlex.join(["preset=smoke", text]))


@pytest.mark.parametrize("text", OPTIONS)
def test_groups_have_the_options_of_our_own_folder(no_hydra, text):
    with pytest.raises(ConfigError, match=r"Expected (preset|strategy|privacy) to be one of "):
        compose_received(text)


def test_errors_are_short_whatever_came(no_hydra):
    for text in ("x" * 19_000, "preset=" + "x" * 19_000, "seed=" + "[" * 19_000, "seed=${" + "x" * 19_000):
        with pytest.raises(ConfigError) as caught:
            compose_received(text)
        assert len(str(caught.value)) < 400
        assert str(caught.value).isprintable()


def test_too_much_is_not_even_looked_at(no_hydra):
    for text in (" ".join(["seed=1"] * 501), "run.dir=" + "x" * 20_001):
        with pytest.raises(ConfigError, match="Expected at most 500 overrides of at most 20000 characters"):
            compose_received(text)


def test_quotes_that_stay_open(no_hydra):
    with pytest.raises(ConfigError, match="Expected overrides as a shell has them, with closed quotes"):
        compose_received("preset=smoke 'seed=1")


@given(st.text(st.sampled_from("${}:ocenv.HOM'\"\\=[]@+~/ \nseedrundir,()"), max_size=30))
def test_whatever_comes_no_interpolation_is_resolved(text):
    try:
        config = compose_received(shlex.join(["preset=smoke", f"run.dir={text}"]))
    except ConfigError:
        return
    assert "${" not in text
    assert set(config.run.dir) <= set(text)
