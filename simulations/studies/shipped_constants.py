"""One hospital as the public set of the two others: its constants and head against a private mean, over epsilon.

So CBIS-DDSM stands in for what it is to hospitals elsewhere: public lesions of other patients. Both recipes train at
the same hospitals and are tested on their official test lesions alone.
"""

from client.data.tables.site_table import restrict
from shared_model.config.choices import ConstantsFrom, InitialHead
from shared_model.config.overrides import override
from shared_model.vocabulary import Split
from simulations.federation.server_files import write_holdout, write_reference
from simulations.reference.constants import NUM_COMPONENTS, reference_constants
from simulations.studies.protocols import StudyData, StudyRun, site_overrides

SHIPPED_EPSILONS = (8.0, 4.0, 2.0, 1.0)
LEARNING_RATE = 2.0
"""Of a head that begins trained, as ``configs/preset/few_patients.yaml`` has it."""


def shipped_names(public: str) -> tuple[str, str]:
    """Return the names of what is compared where the patients of the hospital ``public`` are.

    >>> shipped_names("WFU")
    ('without WFU, private mean', 'without WFU, its constants and head')
    """
    return f"without {public}, private mean", f"without {public}, its constants and head"


def shipped_runs(data: StudyData) -> list[StudyRun]:
    """Return the runs of one seed: each hospital in turn is public, and both recipes train at the others.

    Data that were prepared without images have no features, and no such runs.
    """
    if data.prepared.images is None:
        return []
    return [run for public in data.sites for run in _runs_without(data, public)]


def _runs_without(data: StudyData, public: str) -> list[StudyRun]:
    others = [site for site in data.sites if site != public]
    frame = data.prepared.table.frame
    tested = {
        str(patient) for patient in frame["patient_id"][frame["split"] == Split.TEST] if data.roster[patient] != public
    }
    holdout = write_holdout(data.config, restrict(data.prepared.table, tested), data.roster)
    file = write_reference(data.config, reference_constants(_reading_as(data), sites=[public]))
    shared = (*data.test_overrides(holdout), *site_overrides(others), "evaluation.privacy=none")
    shipped = (
        f"model.feature_constants={ConstantsFrom.SHIPPED}",
        override("model.constants_file", file),
        f"model.image_components={NUM_COMPONENTS}",
        f"model.initial_head={InitialHead.SHIPPED}",
        f"training.learning_rate={LEARNING_RATE}",
    )
    private = (f"model.feature_constants={ConstantsFrom.PRIVATE_MEAN}", "model.image_components=0")
    return [
        StudyRun(name=f"{name}, epsilon {epsilon:g}", overrides=(*shared, *more, f"privacy.target_epsilon={epsilon}"))
        for name, more in zip(shipped_names(public), (private, shipped), strict=True)
        for epsilon in SHIPPED_EPSILONS
    ]


def _reading_as(data: StudyData) -> list[str]:
    """Return the overrides under which the public patients are read as those of the study."""
    read, image = data.config.data, data.config.data.image
    return [
        override("data.root", read.root),
        override("data.roster", read.roster),
        override("data.cache_dir", read.cache_dir),
        f"data.lesion_types=[{','.join(read.lesion_types)}]",
        f"data.views={read.views}",
        f"data.max_reject_fraction={read.max_reject_fraction}",
        *(f"data.image.{name}={value}" for name, value in vars(image).items()),
        f"model.backbone={data.config.model.backbone}",
    ]
