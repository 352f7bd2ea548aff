"""Files that configurations of simulated runs name: the server's lesions, rosters, numbers of public lesions.

They lie under ``data.cache_dir`` and are named by a digest of their content: equal content is one file, and runs that
share a cache do not overwrite one another's files.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from client.data.dataset import load_all_lesions
from client.data.tables.lesion_table import LesionTable
from client.data.tables.roster import NOBODY
from client.identifiers import folded_or_none
from server.evaluation.predictions import ATTRIBUTES
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.system.files import write_atomically

_FOLDER = "simulated"


def write_roster(config: ExperimentConfig, roster: Mapping[str, str], *, withheld: Iterable[str] = ()) -> str:
    """Write the site of every patient as CSV, those ``withheld`` as nobody's, and return the path."""
    sites = dict.fromkeys(withheld, NOBODY) | dict(roster)
    frame = pd.DataFrame({"patient_id": list(sites), "site": list(sites.values())})
    return str(_write(config, "roster", {".csv": frame.to_csv(index=False).encode()}))


def is_own_roster(config: ExperimentConfig) -> bool:
    """Return whether the configuration's roster is one that ``write_roster`` wrote."""
    folder = Path(config.data.cache_dir).resolve() / _FOLDER
    return config.data.roster is not None and Path(config.data.roster).parent == folder


def write_holdout(config: ExperimentConfig, table: LesionTable, roster: Mapping[str, str] | None) -> str:
    """Write all lesions of ``table`` as the server's test lesions, with what describes them, and return the path."""
    lesions, table = load_all_lesions(table, config)
    return write_test_lesions(config, lesions, table.frame, roster)


def write_test_lesions(
    config: ExperimentConfig, lesions: Lesions, frame: pd.DataFrame, roster: Mapping[str, str] | None
) -> str:
    """Write the server's test lesions and, beside them, their attributes as CSV; return the path.

    Args:
        config: names the cache.
        lesions: in network input form.
        frame: the rows of the same lesions, in the same order.
        roster: the site of every patient; None where there is one site.
    """
    sites = site_of_rows(config, roster, frame)
    attributes = pd.DataFrame({name: sites if name == "site" else frame[name] for name in ATTRIBUTES})
    contents = {".safetensors": lesions.to_bytes(), ".csv": attributes.to_csv(index=False).encode()}
    return str(_write(config, "holdout", contents))


def write_public_lesions(config: ExperimentConfig, lesions: Lesions) -> str:
    """Write the lesions of public patients, and return the path."""
    return str(_write(config, "public", {".safetensors": lesions.to_bytes()}))


def write_reference(config: ExperimentConfig, content: bytes) -> str:
    """Write numbers of public lesions, as ``simulations.reference`` makes them, and return the path."""
    return str(_write(config, "reference", {".safetensors": content}))


def site_of_rows(config: ExperimentConfig, roster: Mapping[str, str] | None, frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the site of every row of ``frame``; without a roster all belong to the first site."""
    if roster is None:
        return frame["patient_id"].map(lambda _: config.federation.sites[0])
    sites = {folded_or_none(patient): site for patient, site in roster.items()}
    return frame["patient_id"].map(lambda patient: sites[folded_or_none(patient)])


def site_of_patients(config: ExperimentConfig, roster: Mapping[str, str] | None, frame: pd.DataFrame) -> dict[str, str]:
    """Return the site of every patient of ``frame``, in the order of their first rows; see ``site_of_rows``."""
    sites = site_of_rows(config, roster, frame).groupby(frame["patient_id"], sort=False).first()
    return {str(patient): str(site) for patient, site in sites.items()}


def _write(config: ExperimentConfig, name: str, contents: Mapping[str, bytes]) -> Path:
    """Write ``contents``, which are keyed by suffix, and return the path of the first."""
    digest = hashlib.sha256(b"".join(contents.values())).hexdigest()[:16]
    path = Path(config.data.cache_dir).resolve() / _FOLDER / f"{name}-{digest}"
    for suffix, content in contents.items():
        if not path.with_suffix(suffix).exists():
            write_atomically(path.with_suffix(suffix), content)
    return path.with_suffix(next(iter(contents)))
