"""Citations: by hand, against a walk through the document, and an error wherever a claim would stand without figure."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.dossier.citations import Citations, resolve
from shared_model.errors import ConfigError

RESULTS = {
    "final": {"auroc": 0.8394, "auroc_interval": [0.7875, 0.889], "sensitivity": None, "num_lesions": 378},
    "levels": [
        {"level": "breast", "fn": 2},
        {"level": "lesion", "fn": 8, "figures": [{"name": "brier", "value": 0.2}]},
    ],
    "shares": {"0.9": {"value": 0.917, "interval": [0.866, 0.965]}, "0.8": {"value": 0.8, "interval": None}},
    "types": ["mass", "calcification"],
    "signed": True,
    "prevalence": 0.00059,
    "a/b": {"c~d": 1},
}


@pytest.fixture
def citations():
    return Citations(documents={"results": ("results.json", RESULTS)}, anchors=frozenset({"summary"}))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AUC [[results:/final/auroc|/final/auroc_interval]].", "AUC 0.839 (0.787 to 0.889)."),
        ("[[results:/final/num_lesions]] lesions", "378 lesions"),
        ("[[results:/levels/level=lesion/fn]] of [[results:/levels/0/fn]]", "8 of 2"),
        ("[[results:/levels/level=lesion/figures/name=brier]]", "0.200"),
        ("[[results:/shares/0.9]] and [[results:/shares/0.8]]", "0.917 (0.866 to 0.965) and 0.800"),
        ("[[results:/types]], [[results:/signed]], [[results:/prevalence]]", "mass, calcification, yes, 0.00059"),
        ("[[results:/a~1b/c~0d]]", "1"),
        ("no figure", "no figure"),
    ],
)
def test_a_figure_stands_in_the_text(citations, text, words):
    assert "".join(part.words for part in citations.parts(text)) == words


def test_a_figure_knows_its_file_and_key_and_is_numbered_once(citations):
    first = citations.parts("[[results:/final/auroc|/final/auroc_interval]]")[0].figure
    assert (first.number, first.file, first.key, first.interval_key) == (
        1, "results.json", "/final/auroc", "/final/auroc_interval",
    )  # fmt: skip
    assert first.value == 0.8394
    assert citations.parts("x [[results:/final/num_lesions]]")[1].figure.number == 2
    assert citations.parts("[[results:/final/auroc|/final/auroc_interval]]")[0].figure is first
    assert len(citations.figures) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[results:/final/auc]]", "the key /final/auc in results.json, .*'auc' is"),
        ("[[results:/final/auroc/value]]", "'value' is"),
        ("[[results:/levels/level=patient/fn]]", "'level=patient' is"),
        ("[[results:/levels/name=lesion/fn]]", "'name=lesion' is"),
        ("[[results:/levels/2/fn]]", "'2' is"),
        ("[[results:/levels/fn]]", "'fn' is"),
        ("[[results:/types/0/x]]", "'x' is"),
        ("[[results:/final/auroc|/final/interval]]", "'interval' is"),
        ("[[results:/final/sensitivity]]", "a figure at /final/sensitivity in results.json, .* it is null"),
        ("[[results:/final]]", "a number, a text or an estimate"),
        ("[[card:/final]]", "a citation of results, got 'card'"),
    ],
)
def test_a_claim_without_its_figure_is_an_error(citations, text, message):
    with pytest.raises(ConfigError, match=message):
        citations.parts(text)


def test_places_in_the_dossiers_own_files_must_be_there(citations):
    citations.check(["report#summary", "results:/final", "docs/limits.md", "fedmammo evaluate", "card"])
    for place in ("report#privacy", "results:/final/nothing", "release:/name"):
        with pytest.raises(ConfigError, match="Expected"):
            citations.check([place])


values = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(st.text(max_size=3), inner, min_size=1),
    max_leaves=8,
)


@given(values, st.data())
def test_a_pointer_leads_where_the_steps_lead(value, data):
    steps, at = [], value
    while isinstance(at, dict | list):
        step = data.draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        steps.append(step)
        at = at[step]
    if not steps:
        return
    key = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    assert resolve(json.loads(json.dumps(value)), key, "x.json") == at
