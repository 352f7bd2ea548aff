"""How many of a table's lesions have an image: said wherever somebody could believe that a network sees some."""

from dataclasses import dataclass

from client.data.tables.image_lookup import EMPTY_FILE, NO_IMAGE_FILE
from client.data.tables.image_modes import shows_film
from client.data.tables.lesion_table import LesionTable
from shared_model.config.choices import ImageMode
from shared_model.errors import DataError


@dataclass(frozen=True, kw_only=True)
class ImageCount:
    """Lesions with the file that the network reads, among those that are used or would be if theirs were there."""

    num_with: int
    num_lesions: int

    @classmethod
    def of(cls, table: LesionTable, mode: ImageMode) -> "ImageCount":
        """Count the files that the readers found; none is opened."""
        frame, reasons = table.frame, table.rejects["reason"].astype(str)
        has_image = frame["film_path"].notna() if shows_film(mode) else frame["lesion_paths"].map(len) > 0
        num_missing = int(reasons.str.startswith((NO_IMAGE_FILE, EMPTY_FILE)).sum())
        return cls(num_with=int(has_image.sum()), num_lesions=len(frame) + num_missing)

    def __str__(self) -> str:
        return f"{self.num_with} of {self.num_lesions} lesions have an image"

    def require_some(self, remedy: str) -> None:
        """Check that any lesion has an image.

        Raises:
            DataError: none has; the message ends with the ``remedy``.
        """
        if not self.num_with:
            raise DataError(f"Expected images, {self}; {remedy}.")
