"""Outside witnesses of the sites' ledgers: whether what a ledger shows now continues from what it showed before.

With every private reply a site sends the witness of the reservation behind it, and the witness of the reservation
before that one: digests under a key of the site's own, which say nothing of what was reserved. Together they are the
links of a chain. A ledger that was put back to an older state, or that lives on at two machines, forgets what its
patients have spent; its chain has a fork, or a gap, that whoever keeps the links can see.

For example, a site shows A, then B after A. If it then shows C after A, it has forgotten B.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from shared_model.config.bounds import Text
from shared_model.errors import ConfigError
from shared_model.messages import EvaluateReply, TrainReply
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json, to_json
from shared_model.system.files import write_atomically

WITNESSES_FILE = "witnesses.json"
"""Beside the run folders of a coordinator: what all its runs have seen."""


@checked()
class Link:
    """A reservation of a site's ledger and the one before it."""

    witness: Text
    """Keyed digest, hexadecimal."""
    previous: str
    """Of the reservation before; empty for the ledger's first."""


Witnesses = Mapping[str, tuple[Link, ...]]
"""By site, in the order in which they came."""


@checked()
class _File:
    """What stands in ``WITNESSES_FILE``."""

    sites: Mapping[str, tuple[Link, ...]]


def observe(seen: Witnesses, replies: Iterable[TrainReply | EvaluateReply]) -> tuple[Witnesses, tuple[str, ...]]:
    """Return ``seen`` with the witnesses of ``replies``, and a warning for every one that does not continue.

    Nothing is wrong with a witness that is known (a request was repeated), with the first of a site, and with one that
    comes after the last known one or fills a gap before a known one. Replies without a witness, as those without
    privacy, are passed over.

    Args:
        seen: it is not changed.
        replies: in the order in which the sites made them.
    """
    updated, warnings = {site: list(links) for site, links in seen.items()}, []
    for reply in replies:
        links = updated.setdefault(reply.site, [])
        if reply.witness and all(reply.witness != link.witness for link in links):
            link = Link(witness=reply.witness, previous=reply.previous_witness)
            problem = _problem(link, links)
            if problem:
                warnings.append(f"the ledger of {reply.site} does not continue from what it showed before: {problem}")
            links.append(link)
    return {site: tuple(links) for site, links in sorted(updated.items()) if links}, tuple(warnings)


def _problem(new: Link, links: list[Link]) -> str:
    """Return what must have happened for ``new`` to come after ``links``; nothing where it may."""
    if not links or new.previous == links[-1].witness or any(new.witness == link.previous for link in links):
        return ""
    if not new.previous or any(new.previous == link.previous for link in links):
        return "it was restored or copied"
    return "it was restored or copied, or replies of it never came here"


def joined(first: Witnesses, second: Witnesses) -> Witnesses:
    """Return the links of both, those of ``second`` that ``first`` lacks after the others."""
    together = {site: list(links) for site, links in first.items()}
    for site, links in second.items():
        known = together.setdefault(site, [])
        known += [link for link in links if link not in known]
    return {site: tuple(links) for site, links in sorted(together.items())}


def read_witnesses(path: Path) -> Witnesses:
    """Return what ``write_witnesses`` wrote; nothing where there is no file.

    Raises:
        ConfigError: the file cannot be read or holds something else.
    """
    try:
        return build(_File, from_json(path.read_bytes())).sites if path.exists() else {}
    except (OSError, ValueError, ConfigError) as error:
        raise ConfigError(f"Expected the witnesses of the sites' ledgers in {path}: {error}") from error


def write_witnesses(path: Path, witnesses: Witnesses) -> None:
    """Add ``witnesses`` to the file, which other runs may have written to since it was read.

    Raises:
        ConfigError: as ``read_witnesses``.
    """
    content = to_json(_File(sites=joined(read_witnesses(path), witnesses)))
    write_atomically(path, content.encode())
