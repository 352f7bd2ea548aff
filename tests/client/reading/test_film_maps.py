"""Where the network looked, on the picture as its file has it: a mark on the film is found at its place on the map."""

import dataclasses

import numpy as np
import pytest

from client.data.preprocessing import Box, GreyImage, preprocess, seen_square
from client.reading.answering import film_map
from client.reading.result import MAP_SIDE
from shared_model.config import compose
from shared_model.config.choices import ImageMode
from shared_model.vocabulary import Laterality

SIZE = 64


def config(mode, *, face_left=True):
    image = compose(["preset=smoke"]).data.image
    return dataclasses.replace(image, mode=mode, size=SIZE, face_left=face_left, context=1.5, clahe_clip_limit=0)


def film_with_mark(height, width, x, y, **facts):
    pixels = np.zeros((height, width), dtype=np.float32)
    pixels[y : y + 12, x : x + 12] = 1
    return GreyImage(pixels=pixels, value_range=(0.0, 1.0), padding=np.zeros((height, width), dtype=bool), **facts)


def middle(weights):
    rows, columns = np.indices(weights.shape)
    return (columns * weights).sum() / weights.sum() + 0.5, (rows * weights).sum() / weights.sum() + 0.5


@pytest.mark.parametrize("laterality", [None, *Laterality])
@pytest.mark.parametrize("chest_wall_left", [None, True, False])
@pytest.mark.parametrize(
    ("mode", "box"),
    [
        (ImageMode.ROI, Box(x=100, y=60, width=80, height=40)),
        (ImageMode.ROI, Box(x=5, y=10, width=150, height=90)),
        (ImageMode.FILM, None),
        (ImageMode.CROP, None),
    ],
)
@pytest.mark.parametrize("face_left", [False, True])
def test_a_mark_on_the_film_is_at_its_place_on_the_map(mode, box, face_left, laterality, chest_wall_left):
    x, y, image = 120, 70, config(mode, face_left=face_left)
    for height, width in ((300, 201), (200, 301)):
        film = film_with_mark(height, width, x, y, laterality=laterality, chest_wall_left=chest_wall_left)
        shown = preprocess(film, image, laterality=laterality, box=box)
        square = seen_square(film, image, laterality=laterality, box=box)
        found = film_map(shown, square)
        assert found.square == (square.x, square.y, square.side)
        column, row = middle(found.as_bytes().astype(float))
        on_film = square.x + column * square.side / MAP_SIDE, square.y + row * square.side / MAP_SIDE
        assert on_film == pytest.approx((x + 6, y + 6), abs=square.side / MAP_SIDE / 2)


def test_a_reading_keeps_its_maps_only_if_they_were_asked_for(reader, views):
    with_maps, maps = reader.read_with_maps(views.request())
    without, none = reader.read_with_maps(views.request(), has_maps=False)
    assert [view.map for view in with_maps.views] == [each.on_film for each in maps]
    assert [view.map for view in without.views] == [None, None]
    assert none == ()
    assert all(set(view.grey_levels) == {"dark", "middle", "bright", "contrast", "white"} for view in without.views)
    brightest = np.unravel_index(maps[0].saliency.argmax(), maps[0].saliency.shape)
    cell = tuple(int(place * MAP_SIDE / len(maps[0].saliency)) for place in brightest)
    assert with_maps.views[0].map.as_bytes()[cell] >= 200
