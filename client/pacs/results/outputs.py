"""All that is written of one reading for PACS and hospital system: the one way there, whichever command asks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom.decoder_pool import stop_decoders
from client.deployment.pacs_section import PacsSettings
from client.deployment.report_kind import ReportKind
from client.pacs.results.fhir import FhirVersion, write_transactions
from client.pacs.results.files import DICOM_FILES, write_results
from client.pacs.results.of_reading import lesion_reading
from client.reading.result import Reading
from shared_model.errors import ConfigError
from shared_model.vocabulary import LesionType

LESION = "lesion 1"
"""What a lesion is called that nobody has named."""
OUTPUT_FILES = (*DICOM_FILES, *(f"fhir-{version.lower()}.json" for version in FhirVersion))
"""Names of all files that may be written."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What is wanted, and where."""

    folder: Path
    dicom: ReportKind | None
    """The report among the DICOM files; None for no such files."""
    fhir: PacsSettings | None
    """Which names the hospital's patient numbers; None for no FHIR resources."""

    def __post_init__(self) -> None:
        if self.fhir is not None and self.fhir.patient_system is None:
            raise ConfigError(
                "Expected patient_system, the URI of the hospital's patient numbers, in the section pacs of site.yaml: "
                "FHIR resources need to know whose they are."
            )

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all files that may be written."""
        return tuple(self.folder / name for name in OUTPUT_FILES)

    def require_apart(self, films: Sequence[Path]) -> None:
        """Check that no film lies where results go: they would be taken for films of the next reading.

        Raises:
            ConfigError: one does.
        """
        if any(path.resolve().parent == self.folder.resolve() for path in films):
            raise ConfigError(f"Expected films elsewhere than in {self.folder}, where results go; use another --out.")

    def remove_older(self, *, but: Sequence[Path]) -> None:
        """Remove what an earlier reading has left here, which nobody shall take for this one's.

        Args:
            but: the films that are to be read; none of them lies here.

        Raises:
            ConfigError: as ``require_apart``.
        """
        self.require_apart(but)
        for path in self.paths:
            path.unlink(missing_ok=True)


def write_outputs(
    reading: Reading, films: Sequence[Path], wanted: Outputs, *, lesion: str, lesion_type: LesionType
) -> Iterator[Path]:
    """Write what is wanted of a reading, and yield each file's path once it is there.

    Args:
        reading: as ``fedmammo read`` gave it.
        films: the files that were read.
        wanted: files, and where they go.
        lesion: what the site calls it; no patient's name.
        lesion_type: of the lesion.

    Raises:
        ConfigError: a film lies where results go.
        DicomError: nothing can be attached to these films; what was written before stays.
        OSError: a file cannot be written.
    """
    wanted.require_apart(films)
    known = lesion_reading(reading, films, lesion=lesion, lesion_type=lesion_type)
    if wanted.dicom is not None:
        try:
            yield from write_results(known, wanted.folder, wanted.dicom)
        finally:
            stop_decoders()
    if wanted.fhir is not None and wanted.fhir.patient_system is not None:
        system, issuer = wanted.fhir.patient_system, wanted.fhir.patient_issuer
        yield from write_transactions(known, wanted.folder, patient_system=system, patient_issuer=issuer)
