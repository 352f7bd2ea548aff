"""Films for the screen: parts are means, and a changed file is decoded again."""

import numpy as np
import pytest

from client.reader_page import shown_films as module
from client.reader_page.shown_films import ShownFilm, ShownFilms
from tests.reader_room import write_film

FILM = ShownFilm(pixels=np.arange(24, dtype=np.uint16).reshape(4, 6), low=0, high=1)


def test_a_part_and_its_means():
    np.testing.assert_array_equal(FILM.part(1, 2, 3, 2, step=1), [[13, 14, 15], [19, 20, 21]])
    np.testing.assert_array_equal(FILM.part(0, 0, 6, 4, step=2), [[4, 6, 8], [16, 18, 20]])


@pytest.mark.parametrize("part", [(-1, 0, 2, 2), (0, 0, 7, 4), (5, 0, 2, 1), (0, 4, 1, 1), (0, 0, 0, 1)])
def test_a_part_beside_the_film(part):
    with pytest.raises(ValueError, match="Expected a part of the film of 6 x 4 pixels"):
        FILM.part(*part, step=1)


def test_a_part_too_large_for_once(monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS_AT_ONCE", 5)
    with pytest.raises(ValueError, match="Expected at most 5 pixels at once, got 6 x 4"):
        FILM.part(0, 0, 6, 4, step=1)


def test_a_film_is_decoded_once_for_each_state_and_few_stay(tmp_path, monkeypatch):
    write_film(tmp_path / "a")
    films = ShownFilms()
    first = films.get(tmp_path / "a", 1)
    assert films.get(tmp_path / "a", 1) is first
    assert first.pixels.dtype == np.uint16
    assert 0 < first.low < first.high <= 65535
    monkeypatch.setattr(module, "_MOST_BYTES", first.pixels.nbytes)
    assert films.get(tmp_path / "a", 2) is not first
    assert films.get(tmp_path / "a", 1) is not first


def test_a_negative_of_storage_is_shown_as_tissue_bright(tmp_path):
    write_film(tmp_path / "a")
    write_film(tmp_path / "b", PhotometricInterpretation="MONOCHROME1")
    one, other = (ShownFilms().get(tmp_path / name, 0).pixels.astype(int) for name in "ab")
    assert np.abs(one + other - 65535).max() <= 1
