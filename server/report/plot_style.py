"""The look that all plots share, and how a plot becomes a PNG or SVG file; Matplotlib's global state is not touched.

Colours are those of Okabe and Ito (2008, "Color Universal Design"), which colour-blind people can tell apart. Lines
also differ in dash or marker.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from shared_model.metrics.intervals import ConfidenceInterval
from shared_model.system.files import write_atomically
from shared_model.system.peer_text import peer_text

logger = logging.getLogger(__name__)

DOTS_PER_INCH = 200
BLUE, VERMILLION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
FONT_SIZE = 9
_CANNOT_DRAW = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
"""What Matplotlib raises where values cannot be drawn, and the disk where it is full."""


@contextmanager
def left_out_if_it_fails(picture: str) -> Iterator[None]:
    """Draw or write one picture in the block; one that cannot be is left out, with one line of warning that names it.

    By then the results are written, and no picture is worth a finished run.
    """
    try:
        yield
    except _CANNOT_DRAW as error:
        logger.warning("Left out %s, which could not be drawn: %s", picture, peer_text(str(error)))


def bracket(interval: ConfidenceInterval | None) -> str:
    """Return the interval as a legend shows it, nothing for None."""
    return "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"


def label_axes(axes: Axes, *, x: str, y: str) -> None:
    """Name the axes and give the panel its look."""
    axes.set_xlabel(x, fontsize=FONT_SIZE)
    axes.set_ylabel(y, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1)
    axes.grid(color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save_png(figure: Figure, path: Path) -> None:
    """Write ``figure`` atomically as a PNG file.

    Raises:
        ValueError: ``path`` does not end in ``.png``.
    """
    if path.suffix != ".png":
        raise ValueError(f"Expected path={path} to end in .png.")
    stream = io.BytesIO()
    figure.set_dpi(DOTS_PER_INCH)
    figure.set_facecolor("white")
    # Figure.savefig would draw a figure with a layout twice, for the same picture.
    FigureCanvasAgg(figure).print_png(stream)  # type: ignore[no-untyped-call]
    write_atomically(path, stream.getvalue())


def to_svg(figure: Figure) -> bytes:
    """Return ``figure`` as SVG, its letters drawn as outlines so that it looks the same everywhere."""
    stream = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return stream.getvalue()
