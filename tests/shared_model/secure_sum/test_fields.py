"""Fields that a peer sends: what fits passes, what does not is named in one short printable line."""

import pytest

from shared_model.errors import ProtocolError
from shared_model.secure_sum.fields import require_bytes, require_count, require_site


@pytest.mark.parametrize("site", ["A", "site-1", "St_Mary", "a" * 64])
def test_names_of_the_configuration_pass(site):
    require_site(site)


@pytest.mark.parametrize(
    "site",
    [
        "",
        "a b",
        "a" * 65,
        "é",
        "a\n",
        "\x1b[31m",
        pytest.param("\ud800", id="surrogate"),
        b"A",
        None,
        1,
        pytest.param("x" * 10**6, id="long"),
    ],
)
def test_other_names_are_refused_in_one_short_line(site):
    with pytest.raises(ProtocolError, match=r"Expected a site's name of 1 to 64 letters") as caught:
        require_site(site)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("value", [b"", bytes(31), bytes(33), bytearray(32), "0" * 32, None])
def test_bytes_of_another_length_or_kind_are_refused(value):
    require_bytes(bytes(32), 32, "a key")
    with pytest.raises(ProtocolError, match="Expected a key of 32 bytes, got"):
        require_bytes(value, 32, "a key")


@pytest.mark.parametrize("value", [0, 11, -1, True, 1.0, "1", None, pytest.param(10**5000, id="huge")])
def test_numbers_out_of_bounds_or_of_another_kind_are_refused(value):
    require_count(10, 1, 10, "a number")
    with pytest.raises(ProtocolError, match="Expected a number from 1 to 10, got") as caught:
        require_count(value, 1, 10, "a number")
    assert len(str(caught.value)) < 100
