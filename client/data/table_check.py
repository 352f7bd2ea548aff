"""A table tried before anybody trains on it: what would be read, what not and why, and pictures of a few lesions."""

from collections.abc import Iterator
from dataclasses import dataclass

from client.data.contact_sheet import Picture
from client.data.file_patients import FilePatients
from client.data.grey_sample import GreySample
from client.data.images import load_lesion
from client.data.network_inputs import lesion_files
from client.data.sampling import evenly_spread
from client.data.shared_images import require_own_images
from client.data.tables.image_counts import ImageCount
from client.data.tables.lesion_table import LesionTable, check_rejects
from client.data.tables.site_table import site_table
from client.data.tables.table_notes import notes
from shared_model.config.choices import Modality
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DataError, DicomError
from shared_model.vocabulary import CLINICAL_COLUMNS, Split

NUM_PICTURES = 10


@dataclass(frozen=True, kw_only=True)
class TableCheck:
    """What was found; nothing of it was kept."""

    config: ExperimentConfig
    table: LesionTable
    images: ImageCount | None
    """None where the network reads none."""
    pictures: tuple[Picture, ...]
    unreadable: tuple[str, ...]
    """Why images among those that were opened cannot be used."""
    grey: GreySample | None
    """None where the network reads no image, as the next."""
    file_patients: FilePatients | None

    @classmethod
    def of(cls, config: ExperimentConfig) -> "TableCheck":
        """Read the table that the configuration names, and open a few images.

        Raises:
            ConfigError, TableError: it cannot be read.
        """
        table = site_table(config, None)
        if config.model.modality is Modality.CLINICAL:
            return cls(
                config=config, table=table, images=None, pictures=(), unreadable=(), grey=None, file_patients=None
            )
        pictures, problems = _pictures(table, config)
        count = ImageCount.of(table, config.data.image.mode)
        grey = GreySample.of(lesion_files(table.frame, config), config.data.image)
        return cls(
            config=config,
            table=table,
            images=count,
            pictures=pictures,
            unreadable=problems,
            grey=grey,
            file_patients=FilePatients.of(table, config),
        )

    def lines(self) -> Iterator[str]:
        """Yield what a person should read, a line each."""
        frame, table = self.table.frame, self.table
        for split in Split:
            rows = frame[frame["split"] == split]
            patients, malignant = rows["patient_id"].nunique(), int(rows["label"].sum())
            yield f"{split:<12} {len(rows)} lesion views of {patients} patients, {malignant} malignant"
        yield f"set aside    {len(table.rejects)} rows rejected, {len(table.excluded)} excluded (patient also tested)"
        if self.images is not None:
            yield f"images       {self.images} (data.image.mode={self.config.data.image.mode})"
        missing = {column.name: int(frame[column.name].isna().sum()) for column in CLINICAL_COLUMNS}
        shown = ", ".join(f"{name} {count}" for name, count in missing.items() if count)
        yield f"missing      {shown or 'no clinical cell'} (of {len(frame)})"
        for note in notes(table):
            yield f"look at      {note}"
        yield from self._image_lines()

    def _image_lines(self) -> Iterator[str]:
        for problem in self.unreadable:
            yield f"look at      image cannot be used: {problem}"
        if self.file_patients is not None:
            yield f"patients     {self.file_patients}"
            if self.file_patients.doubt is not None:
                yield f"look at      {self.file_patients.doubt}"
        if self.grey is not None:
            yield f"grey levels  {self.grey}"
            for doubt in self.grey.doubts:
                yield f"look at      grey levels: {doubt}"
        num_empty = sum(picture.is_empty for picture in self.pictures)
        if num_empty:
            yield f"look at      {num_empty} of {len(self.pictures)} pictures are empty: all of one grey"

    def require_usable(self) -> None:
        """Check what a run would refuse.

        Raises:
            DataError: too many rows are rejected, no lesion has an image, two patients have the same one, or none of
                those that were tried can be used.
        """
        check_rejects(self.table, self.config.data.max_reject_fraction)
        if self.images is not None:
            self.images.require_some("correct image_path and the file's folder, or set model.modality=clinical")
            require_own_images(self.table, self.config)
        if self.unreadable and len(self.unreadable) == len(self.pictures):
            raise DataError(f"Expected lesions that a network can be shown, none of {len(self.pictures)} can be used.")


def _pictures(table: LesionTable, config: ExperimentConfig) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """Return lesions as the network sees them, evenly spread over the table, and what went wrong."""
    frame = table.frame
    has_image = frame["film_path"].notna() | (frame["lesion_paths"].map(len) > 0)
    rows = frame[has_image.to_numpy(dtype=bool)]
    chosen = rows.iloc[evenly_spread(range(len(rows)), NUM_PICTURES)]
    pictures, problems = [], []
    for number, files in enumerate(lesion_files(chosen, config)):
        row = chosen.iloc[number]
        image = None
        try:
            image = load_lesion(files, config.data.image)
        except (DicomError, OSError) as error:
            problems.append(str(error))
        outcome = "malignant" if row["label"] else "benign"
        side, view = ("?" if cell is None else str(cell) for cell in (files.laterality, files.view))
        pictures.append(Picture(caption=(f"row {row['row']}: {outcome}", f"{side} {view}"), image=image))
    return tuple(pictures), tuple(problems)
