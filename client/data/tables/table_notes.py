"""What a person should hear of a table that was read: what was set aside, and what was taken as something else."""

from collections.abc import Iterable, Iterator

from client.data.tables.lesion_table import LesionTable
from client.data.tables.rejects import kinds
from client.data.tables.site_table import NOT_IN_ROSTER
from shared_model.system.peer_text import peer_text

_MAX_KINDS, _MAX_NAMES = 3, 5


def notes(table: LesionTable) -> Iterator[str]:
    """Yield a line for everything that somebody would want to correct; none for a table in order."""
    found = kinds(table.rejects["reason"])
    for kind in found[:_MAX_KINDS]:
        yield peer_text(f"rejected: {kind}")
    others = found[_MAX_KINDS:]
    if others:
        yield f"rejected: {sum(kind.num_rows for kind in others)} rows for {len(others)} other reasons"
    is_unlisted = table.rejects["reason"] == NOT_IN_ROSTER
    unlisted = set(map(str, table.rejects.loc[is_unlisted, "patient_id"]))
    if unlisted:
        yield f"{len(unlisted)} patients are not in the roster: {_names(unlisted)}"
    if len(table.unreadable):
        lines = ", ".join(map(str, kinds(table.unreadable["reason"])[:_MAX_KINDS]))
        yield peer_text(f"{len(table.unreadable)} cells are not understood and count as missing: {lines}")
    if table.respelt:
        yield f"{len(table.respelt)} patients are spelt in several ways, each taken as one: {_names(table.respelt)}"


def _names(patients: Iterable[str]) -> str:
    names = sorted(patients)
    shown = ", ".join(peer_text(name, 40) for name in names[:_MAX_NAMES])
    return shown + (", ..." if len(names) > _MAX_NAMES else "")
