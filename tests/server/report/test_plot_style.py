"""A plot becomes one PNG file, the same every time, and Matplotlib's global state is left alone."""

import io

import matplotlib as mpl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from server.report.plot_style import bracket, label_axes, save_png, to_svg
from shared_model.metrics.intervals import ConfidenceInterval


def plot():
    figure = Figure(figsize=(2, 1), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [1, 3])
    label_axes(axes, x="epsilon", y="AUC")
    return figure


def test_only_png(tmp_path):
    with pytest.raises(ValueError, match=r"roc.pdf to end in .png"):
        save_png(plot(), tmp_path / "roc.pdf")
    assert not list(tmp_path.iterdir())


def test_leaves_one_file_and_no_global_state(tmp_path):
    before = dict(mpl.rcParams)
    save_png(plot(), tmp_path / "roc.png")
    assert dict(mpl.rcParams) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["roc.png"]


def test_a_picture_is_the_one_that_matplotlib_saves_and_is_drawn_once(tmp_path, monkeypatch):
    saved, draws, draw = io.BytesIO(), [], Figure.draw
    FigureCanvasAgg(plot()).print_figure(saved, format="png", dpi=200, facecolor="white")
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: draws.append(self) or draw(self, renderer))
    save_png(plot(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == saved.getvalue()
    assert len(draws) == 1


def test_the_same_plot_gives_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(plot(), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_svg_has_letters_as_outlines_and_no_date():
    svg = to_svg(plot()).decode()
    assert svg.startswith("<?xml")
    assert "<text" not in svg
    assert "<dc:date>" not in svg


def test_axes_are_named():
    (axes,) = plot().axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epsilon", "AUC")


def test_bracket():
    assert bracket(ConfidenceInterval(low=0.1234, high=0.5)) == " [0.123, 0.500]"
    assert bracket(None) == ""
