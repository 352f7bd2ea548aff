"""What the page's scripts ask: JSON bodies of bounded size, every value checked."""

from collections.abc import Mapping
from typing import Annotated, TypeVar

from annotated_types import Interval, Len

from client.data.preprocessing import Box
from client.reader_page.gate import MAX_BODY_BYTES
from client.reader_page.kept import Known, Verdict
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json
from shared_model.vocabulary import View

T = TypeVar("T")
Identifier = Annotated[str, Len(32, 32)]
Pixel = Annotated[int, Interval(ge=0, le=20_000)]
MAX_WHY = 2000


@checked(key="", error=ValueError)
class MarkedFilm:
    """One film of the lesion."""

    film: Identifier
    view: View
    """Under which it was shown."""
    box: Annotated[tuple[Pixel, ...], Len(4, 4)] | None
    """x, y, width, height in pixels of the film; null for a picture that is read whole."""

    def as_box(self) -> Box | None:
        """Return the box.

        Raises:
            ValueError: it has no area.
        """
        if self.box is None:
            return None
        x, y, width, height = self.box
        return Box(x=x, y=y, width=width, height=height)


@checked(key="", error=ValueError)
class AskedReading:
    """A lesion that is to be read."""

    study: Identifier
    films: Annotated[tuple[MarkedFilm, ...], Len(1, 2)]
    columns: Mapping[str, str]


@checked(key="", error=ValueError)
class GivenOpinion:
    """What a doctor thinks of a reading."""

    reading: Identifier
    verdict: Verdict
    why: Annotated[str, Len(0, MAX_WHY)]


@checked(key="", error=ValueError)
class GivenPathology:
    """What a lesion turned out to be."""

    reading: Identifier
    pathology: Known


def parsed(kind: type[T], body: bytes) -> T:
    """Return the checked values of a body.

    Raises:
        ValueError: in one line, what is wrong with it.
    """
    if len(body) > MAX_BODY_BYTES:
        raise ValueError(f"Expected a body of at most {MAX_BODY_BYTES} bytes.")
    try:
        values = from_json(body)
    except ValueError as error:
        raise ValueError("Expected a body of JSON.") from error
    return build(kind, values)
