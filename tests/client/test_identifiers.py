"""One patient is one patient, however a program spells the identifier."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.identifiers import fold_identifier

IDENTIFIERS = st.from_regex(r"[A-Za-z_]{1,4}[0-9]{1,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("00001", "1"),
        ("P00001", "p1"),
        ("P_00012", "P_12"),
        ("P12", "P12\u00a0"),
        ("P12", "P\u200b12"),
        ("P12", "\ufeffP12"),
        ("P12", " P12\t"),
        ("P12", "P 12"),
        ("P12", "\uff30\uff11\uff12"),
        ("12", "12.0"),
        ("12", "12.00"),
        ("12", "12,0"),
        ("Jörg1", unicodedata.normalize("NFD", "JÖRG1")),
        ("straße1", "STRASSE1"),
        ("P12", "P12\ufe0f"),
        ("P12", "P1\u00ad2"),
        ("1-02-3", "01-2-003"),
        ("P-12", "P\u201112"),
        ("P-12", "P\u201312"),
        ("-12", "\u221212"),
        ("12", "\u0661\u0662"),
        ("12", '="00012"'),
        ("12", "'00012"),
        ("12", '"12.0"'),
    ],
)
def test_spellings_of_one_identifier(one, other):
    assert fold_identifier(one) == fold_identifier(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P1", "P2"),
        ("P10", "P1"),
        ("P100", "P1"),
        ("1", "-1"),
        ("12.5", "125"),
        ("P-1", "P1"),
        ("A1", "B1"),
        ("0", "1"),
        ("P1'", "P1"),
        ("=1", "1"),
        ("P_1", "P-1"),
    ],
)
def test_different_identifiers(one, other):
    assert fold_identifier(one) != fold_identifier(other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u200b",
        "unknown",
        "Unknown ",
        "UNKNOWN",
        "n/a",
        "NaN",
        "None",
        "null",
        "-",
        "?",
        "#N/A",
        "***",
        "anonymous",
        '=""',
        "'",
        "\u2014",
    ],
)
def test_placeholders_name_nobody(text):
    with pytest.raises(ValueError, match="names a patient"):
        fold_identifier(text)


@pytest.mark.parametrize("text", ["1.23E+11", "1,23E+11", "1e5", "1.23456E+15 ", "1.23e-4"])
def test_a_number_that_lost_its_digits_is_refused(text):
    with pytest.raises(ValueError, match="scientific notation"):
        fold_identifier(text)


def test_length_is_bounded():
    with pytest.raises(ValueError, match="length=257 <= 256"):
        fold_identifier("1" * 257)


def test_an_error_does_not_repeat_the_identifier():
    with pytest.raises(ValueError, match="scientific") as caught:
        fold_identifier("7.7713E+12")
    assert "7.7713" not in str(caught.value)


@given(IDENTIFIERS)
def test_folding_twice_is_folding_once(text):
    folded = fold_identifier(text)
    assert fold_identifier(folded) == folded


@given(st.text(max_size=40))
def test_any_text_folds_to_a_fixed_point_or_is_refused(text):
    try:
        folded = fold_identifier(text)
    except ValueError:
        return
    assert folded == fold_identifier(folded) == fold_identifier(f" {text}\u200b")


@given(
    IDENTIFIERS,
    st.integers(0, 5),
    st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
    st.sampled_from(" \u00a0\u2009\u200b"),
)
def test_what_programs_do_to_identifiers_changes_nothing(text, num_zeros, form, space):
    letters = text.rstrip("0123456789")
    respelt = unicodedata.normalize(form, f"{space}{letters.swapcase()}{'0' * num_zeros}{text[len(letters) :]}{space}")
    assert fold_identifier(respelt) == fold_identifier(text)
