"""The patient whom a DICOM file names, beside the patient of its row: one woman under two identifiers of a table.

She would have two budgets, and could stand in train and test. Files do not decide it: identifiers are replaced when
files leave a hospital, and often all by the same. So this is said to a person, who can look.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from client.data.dicom import reader
from client.data.images import image_paths_used
from client.data.network_inputs import lesion_files
from client.data.sampling import evenly_spread
from client.data.tables.lesion_table import LesionTable
from client.data.tables.rejects import some_names
from client.data.tables.roster import patient_key
from client.identifiers import folded_or_none
from shared_model.config.experiment import ExperimentConfig
from shared_model.errors import DicomError

_MAX_FILES = 10_000
"""Headers read, some seconds."""
_MAX_GROUPS = 3
_CONSTANT_SHARE, _CONSTANT_PATIENTS = 0.5, 5
"""What stands under more than this share of the table's patients, and at least so many, names none of them."""


@dataclass(frozen=True, kw_only=True)
class FilePatients:
    """What DICOM files say of patients; nothing of it repeats what a file holds."""

    num_files: int
    """DICOM files whose header was read."""
    num_unread: int
    """Other files, beyond the most that are read."""
    num_patients: int
    """Of the table, who have such a file."""
    num_unnamed: int
    """Those of them whose files name nobody, or all the same."""
    shared: tuple[tuple[str, ...], ...]
    """Identifiers of the table whose files name one patient, for each of those patients."""

    @classmethod
    def of(cls, table: LesionTable, config: ExperimentConfig) -> "FilePatients":
        """Read the headers of the files that the network reads; what cannot be read is for others to say."""
        spelling: dict[str, str] = {}
        owners: dict[Path, set[str]] = {}
        patients = map(str, table.frame["patient_id"])
        for lesion, patient in zip(lesion_files(table.frame, config), patients, strict=True):
            spelling.setdefault(patient_key(patient), patient)
            for path in image_paths_used(lesion, config.data.image.mode):
                owners.setdefault(path, set()).add(patient_key(patient))
        chosen = evenly_spread(sorted(owners), _MAX_FILES)
        named = {path: name for path in chosen if (name := _named(path)) is not None}
        groups = _groups(named, owners)
        in_files = {owner for path in named for owner in owners[path]}
        constant = [group for name, group in groups.items() if not name or _is_constant(group, len(in_files))]
        others = (group for name, group in groups.items() if name and not _is_constant(group, len(in_files)))
        return cls(
            num_files=len(named),
            num_unread=len(owners) - len(chosen),
            num_patients=len(in_files),
            num_unnamed=len(set().union(*constant)),
            shared=tuple(sorted(tuple(sorted(map(spelling.__getitem__, group))) for group in others if len(group) > 1)),
        )

    def __str__(self) -> str:
        text = f"{self.num_files} DICOM headers read"
        if self.num_unread:
            text += f", {self.num_unread} more files not"
        if self.num_unnamed:
            text += (
                f"; the files of {self.num_unnamed} of {self.num_patients} patients name nobody, or all the same "
                "PatientID, so they cannot tell whether two of the table are one"
            )
        return text

    @property
    def doubt(self) -> str | None:
        """What somebody should look at; None where all is well."""
        if not self.shared:
            return None
        groups = "; ".join(some_names(group) for group in self.shared[:_MAX_GROUPS])
        more = "; ..." if len(self.shared) > _MAX_GROUPS else ""
        return (
            f"{len(self.shared)} PatientID of DICOM files under several patients of the table ({groups}{more}): if "
            "they are one woman, give her one patient_id; else correct image_path"
        )


def _named(path: Path) -> str | None:
    """Return the folded patient whom a DICOM file names, empty where it names nobody; None for other files."""
    try:
        patient, issuer = reader.patient(path)
    except DicomError:
        return None
    folded = folded_or_none(patient)
    return "" if folded is None else f"{folded}\n{issuer.strip().casefold()}"


def _groups(named: Mapping[Path, str], owners: Mapping[Path, set[str]]) -> dict[str, set[str]]:
    """Return the patients of the table by whom their files name."""
    groups: dict[str, set[str]] = {}
    for path, name in named.items():
        groups.setdefault(name, set()).update(owners[path])
    return groups


def _is_constant(group: Set[str], num_patients: int) -> bool:
    return len(group) >= _CONSTANT_PATIENTS and len(group) > _CONSTANT_SHARE * num_patients
