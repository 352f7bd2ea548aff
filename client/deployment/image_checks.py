"""Whether a hospital's images are where its tables say, and can be read: a few of them are opened before a start."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from client.data.file_patients import FilePatients
from client.data.images import LesionFiles, image_paths_used, load_lesion, read_image
from client.data.network_inputs import lesion_files
from client.data.sampling import evenly_spread
from client.data.shared_images import require_own_images
from client.data.tables.image_counts import ImageCount
from client.deployment.checks import Doubt
from client.deployment.own_patients import own_config, own_table
from client.deployment.site_file import SiteFile
from client.privacy.policy import SitePolicy
from client.site import SiteSettings
from shared_model.config.choices import Modality
from shared_model.config.site_sections import ImageConfig
from shared_model.errors import DataError, DicomError

_NUM_PER_KIND = 4


def check_images(site: SiteFile) -> str:
    """Check that lesions have images, and open a few files of every kind, the same ones each time.

    Kinds are films and cut-outs, by the ending of their names. A site whose policy allows only
    ``model.modality=clinical`` needs none.

    Raises:
        DataError: no lesion has an image, two patients have the same one, no file of a kind that was opened can be
            read, or no lesion that was tried can be used, as where table and files name different views.
        Doubt: some of those that were opened cannot be read, or fewer than half of the lesions have an image.
        ConfigError, TableError: the tables cannot be read.
    """
    policy = SitePolicy.load(site.policy)
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, policy))
    if settings.config.model.modality is Modality.CLINICAL:
        return "none needed: the policy allows model.modality=clinical alone"
    table = own_table(settings)
    lesions = lesion_files(table.frame, settings.config)
    found = ImageCount.of(table, settings.config.data.image.mode)
    found.require_some(
        "correct data_root or the paths in the tables, or where this hospital has none set fields: "
        f"{{model.modality: [{Modality.CLINICAL}]}} in {site.policy}"
    )
    require_own_images(table, settings.config)
    tried = _Tried.of(lesions)
    if tried.failed_kind is not None:
        raise DataError(f"Expected {tried.failed_kind} that can be read; {found}; {tried}.")
    unfit = _unfit(lesions, settings.config.data.image)
    if unfit.problems and len(unfit.problems) == unfit.num_lesions:
        raise DataError(f"Expected lesions that a network can be shown; {found}; {unfit}.")
    if unfit.problems and not tried.problems:
        raise Doubt(f"{found}; {tried}; {unfit}")
    if tried.problems or 2 * found.num_with < found.num_lesions:
        raise Doubt(f"{found}; {tried}")
    return f"{found}; {tried}"


def check_file_patients(site: SiteFile) -> str:
    """Check that no patient whom DICOM files name stands under two identifiers of the tables.

    Raises:
        Doubt: one does.
        ConfigError, TableError: the tables cannot be read.
    """
    settings = SiteSettings.from_node_config(site.node_config, own_config(site, SitePolicy.load(site.policy)))
    if settings.config.model.modality is Modality.CLINICAL:
        return "none needed"
    found = FilePatients.of(own_table(settings), settings.config)
    if found.doubt is not None:
        raise Doubt(f"{found}; {found.doubt}")
    return str(found)


class _Unfit(NamedTuple):
    """Lesions that were made into network input, and what went wrong."""

    num_lesions: int
    problems: list[str]

    def __str__(self) -> str:
        return f"{len(self.problems)} of {self.num_lesions} lesions cannot be used, the first: {self.problems[0]}"


def _unfit(lesions: Sequence[LesionFiles], image: ImageConfig) -> _Unfit:
    """Try a few lesions: a file that can be read may name another side or view than the table, or lack its lesion."""
    chosen = evenly_spread([lesion for lesion in lesions if image_paths_used(lesion, image.mode)], _NUM_PER_KIND)
    problems = []
    for lesion in chosen:
        # A pipe would be waited for.
        if all(path.is_file() for path in image_paths_used(lesion, image.mode)):
            try:
                load_lesion(lesion, image)
            except (DicomError, OSError) as error:
                problems.append(str(error))
    return _Unfit(len(chosen), problems)


class _Tried:
    """The files that were opened, and what went wrong."""

    def __init__(self) -> None:
        self.num_files = 0
        self.problems: list[str] = []
        self.failed_kind: str | None = None
        """The first kind of which no file could be read."""

    @classmethod
    def of(cls, lesions: Sequence[LesionFiles]) -> "_Tried":
        tried = cls()
        for kind, paths in sorted(_by_kind(lesions).items()):
            chosen = evenly_spread(paths, _NUM_PER_KIND)
            problems = [problem for path in chosen if (problem := _problem(path)) is not None]
            tried.num_files += len(chosen)
            tried.problems += problems
            if len(problems) == len(chosen) and tried.failed_kind is None:
                tried.failed_kind = kind
        return tried

    def __str__(self) -> str:
        if not self.problems:
            return f"{self.num_files} files opened"
        return f"{len(self.problems)} of {self.num_files} files opened cannot be read, the first: {self.problems[0]}"


def _paths(lesion: LesionFiles) -> tuple[Path, ...]:
    return (*lesion.lesion_paths, *(() if lesion.film_path is None else (lesion.film_path,)))


def _by_kind(lesions: Sequence[LesionFiles]) -> dict[str, list[Path]]:
    """Return the paths of every kind of file, in order."""
    kinds: dict[str, set[Path]] = {}
    for lesion in lesions:
        for path in _paths(lesion):
            what = "films" if path == lesion.film_path else "cut-outs or masks"
            kinds.setdefault(f"{what} ({path.suffix.lower() or 'no ending'})", set()).add(path)
    return {kind: sorted(paths) for kind, paths in kinds.items()}


def _problem(path: Path) -> str | None:
    # A pipe of that name would be waited for.
    if not path.is_file():
        return f"{path}: no such file"
    try:
        read_image(path)
    except (DicomError, OSError) as error:
        text = str(error)
        return text if str(path) in text else f"{path}: {text}"
    return None
