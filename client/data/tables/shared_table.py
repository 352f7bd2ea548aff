"""A table that the simulated sites of a process share: read once, and dealt by the roster."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from client.data.tables.lesion_table import PARTS, LesionTable, Rows
from client.data.tables.rejects import RejectCells
from client.data.tables.roster import fold_site, patient_key
from client.data.tables.site_table import read_homes, rejects_of_nobody, row_owners, shared_table
from shared_model.config.experiment import ExperimentConfig

_NO_ROWS = np.array([], dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SharedTable:
    """A table, and which of its rows are whose."""

    table: LesionTable
    rows: Mapping[str, Mapping[str, Rows]] | None
    """By part of the table and folded site: positions in order. None where all rows are everybody's."""
    respelt: Mapping[str, frozenset[str]]
    """By folded site, as ``LesionTable.respelt``."""
    open_rejects: Rows
    """Rejects of patients whom the roster does not name: every site hears of them."""
    unknown: tuple[RejectCells, ...]
    """What other rows of such patients become."""

    @classmethod
    def read(cls, config: ExperimentConfig) -> "SharedTable":
        """Read the table and the roster.

        Raises:
            ConfigError, TableError: a file cannot be read; see ``read_table``.
        """
        table, homes = shared_table(config), read_homes(config.data)
        if homes is None:
            return cls(table=table, rows=None, respelt={}, open_rejects=_NO_ROWS, unknown=())
        home = {patient: next(iter(sites)) for patient, sites in homes.items() if len(sites) == 1}
        owner = row_owners(table)
        respelt: dict[str, set[str]] = {}
        for patient in table.respelt:
            respelt.setdefault(home.get(patient_key(patient), ""), set()).add(patient)
        return cls(
            table=table,
            rows={name: _positions(owner[name].map(home)) for name in PARTS},
            respelt={site: frozenset(patients) for site, patients in respelt.items()},
            open_rejects=np.flatnonzero(~owner["rejects"].isin(homes.keys())),
            unknown=tuple(rejects_of_nobody(table.frame[~owner["frame"].isin(homes.keys())])),
        )

    def of(self, site: str) -> LesionTable:
        """Return the part of ``site``, as ``site_table`` reads it; it takes no longer where there are more sites."""
        if self.rows is None:
            return self.table
        home = fold_site(site)
        own = {name: rows.get(home, _NO_ROWS) for name, rows in self.rows.items()}
        own["rejects"] = np.union1d(own["rejects"], self.open_rejects)
        return self.table.part(own, respelt=self.respelt.get(home, frozenset())).with_rejects(self.unknown)


def _positions(homes: "pd.Series[str]") -> dict[str, Rows]:
    """Return the positions of every site's rows; rows of nobody are left out."""
    groups = homes.reset_index(drop=True).groupby(homes.to_numpy()).indices
    return {str(site): np.sort(rows) for site, rows in groups.items()}
