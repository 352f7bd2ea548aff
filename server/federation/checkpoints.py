"""Checkpoints: all that the server needs to go on after a crash, in one file that is replaced after each round.

A checkpoint is written when a round is complete. After a crash, the round that was under way is requested again with
the same parameters. A site that had already answered sends the same reply again, from its ledger. So the resumed run
ends with the same parameters as an uninterrupted one, bit for bit.

In the last round one follows each exchange on whose outcome a request depends that costs privacy. Else a site more or
less after a crash would make that another request, and all sites would refuse it: its budget is spent.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from server.federation.agreement import STRANGER, Agreement
from server.federation.server_optimizer import ServerState
from server.federation.witnesses import Link, Witnesses
from server.results.document import RoundResult
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint
from shared_model.errors import ConfigError
from shared_model.messages import Histogram, PrivacySpent
from shared_model.metrics.score_histogram import ScoreHistogram
from shared_model.network.named_arrays import Parameters, to_safetensors
from shared_model.privacy.patient_histogram import PatientHistogram
from shared_model.system.checked import build, checked
from shared_model.system.documents import from_json
from shared_model.system.files import write_atomically

CHECKPOINT_FILE = "checkpoint.safetensors"
"""In the run folder while the run goes on."""
_FACTS_KEY = "facts"
"""Of the file's metadata: everything that is no array, as JSON."""
_PARAMETER_SETS = ("parameters", "first_moment", "second_moment", "average")
"""Fields of ``ServerState`` that hold arrays."""
_CONSTANTS = "constants"
_CLASSES = ("negatives", "positives")
"""Fields of a histogram that hold arrays."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteState:
    """What the server knows of a site after a round."""

    num_patients_declared: int
    """A constant of the site's policy."""
    privacy: PrivacySpent | None
    """The run's price at this site up to this round; None when privacy is off."""
    test: Histogram | None
    """Scores of the site's test lesions; None before its first evaluation."""
    agreement: Agreement = STRANGER
    """How well its updates have agreed with those of the others."""


@checked()
class Underway:
    """What the exchanges after the last of ``rounds`` have come to; it is of the round that they belong to."""

    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The fields of ``FinishedRound``, as those beside them."""
    outliers: tuple[str, ...] = ()
    num_sites: int = 0
    """Whose updates the state contains; 0 where this round is still to be trained."""
    is_final: bool = False
    """Whether the averaged parameters are those of the final network, and ``threshold`` is what was chosen."""
    threshold: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training after the last of ``rounds``, and what is known of the round after it."""

    state: ServerState
    constants: Parameters
    """Of the network: what a run learns before its first round it must not ask for again."""
    rounds: tuple[RoundResult, ...]
    """All finished rounds, from the first."""
    sites: Mapping[str, SiteState]
    """By site, for every site that has answered so far."""
    witnesses: Witnesses
    """All that sites have shown of their ledgers."""
    underway: Underway = dataclasses.field(default_factory=Underway)
    reference: str | None = None
    """SHA-256 of the file of numbers that the run began with; None without one."""


@checked()
class _PrivacyFacts:
    """``PrivacySpent``, as the file's JSON holds it."""

    epsilon: float
    delta: float
    noise_multiplier: float


@checked()
class _SiteFacts:
    """A ``SiteState`` without arrays, as the file's JSON holds it."""

    num_patients_declared: int
    privacy: _PrivacyFacts | None
    noise_std: float | None
    """Of the histogram; null for exact counts or none."""
    agreement: Agreement


@checked()
class _Facts:
    """A ``Checkpoint`` without arrays, as the file's JSON holds it."""

    config: str
    """Fingerprint of the configuration."""
    source: str
    """Fingerprint of the source code."""
    names: tuple[str, ...]
    """Names of the parameters in the order of the network; the arrays of the file are in another order."""
    num_averaged: int
    rounds: tuple[RoundResult, ...]
    sites: Mapping[str, _SiteFacts]
    witnesses: Mapping[str, tuple[Link, ...]]
    underway: Underway
    reference: str | None


def write_checkpoint(folder: Path, checkpoint: Checkpoint, config: ExperimentConfig) -> None:
    """Replace the checkpoint of the run in ``folder``."""
    arrays = {
        f"{field}/{name}": np.asarray(array, order="C")
        for field in _PARAMETER_SETS
        for name, array in getattr(checkpoint.state, field).items()
    }
    arrays |= {f"{_CONSTANTS}/{name}": np.asarray(array, order="C") for name, array in checkpoint.constants.items()}
    for site, site_state in checkpoint.sites.items():
        if site_state.test is not None:
            arrays |= {f"test/{site}/{label}": getattr(site_state.test, label) for label in _CLASSES}
    facts = _Facts(
        config=config_fingerprint(config),
        source=source_fingerprint(),
        names=tuple(checkpoint.state.parameters),
        num_averaged=checkpoint.state.num_averaged,
        rounds=checkpoint.rounds,
        sites={site: _site_facts(site_state) for site, site_state in checkpoint.sites.items()},
        witnesses=checkpoint.witnesses,
        underway=checkpoint.underway,
        reference=checkpoint.reference,
    )
    content = to_safetensors(arrays, {_FACTS_KEY: json.dumps(dataclasses.asdict(facts))})
    write_atomically(folder / CHECKPOINT_FILE, content)


def read_checkpoint(folder: Path, config: ExperimentConfig) -> Checkpoint | None:
    """Return the checkpoint of the run in ``folder``; None where no round was finished.

    Raises:
        ConfigError: the file is damaged, or was written under another configuration or by other source code.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = build(_Facts, from_json(file.metadata()[_FACTS_KEY]))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no iterator of its own
        checkpoint = _checkpoint_from_facts(facts, arrays)
    except (ConfigError, KeyError, OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ConfigError(f"Expected a checkpoint in {path}: {error}; name another run.dir.") from error
    for what, stored, current in (
        ("configuration", facts.config, config_fingerprint(config)),
        ("source code", facts.source, source_fingerprint()),
    ):
        if stored != current:
            raise ConfigError(f"Expected run.dir={folder} to hold a run of the same {what}; name another folder.")
    return checkpoint


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run whose results are written."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)


def _checkpoint_from_facts(facts: _Facts, arrays: Mapping[str, NDArray[np.generic]]) -> Checkpoint:
    parameter_sets = {field: {name: arrays[f"{field}/{name}"] for name in facts.names} for field in _PARAMETER_SETS}
    sites = {
        site: SiteState(
            num_patients_declared=site_facts.num_patients_declared,
            privacy=None if site_facts.privacy is None else PrivacySpent(**dataclasses.asdict(site_facts.privacy)),
            test=_histogram(arrays, site, site_facts.noise_std),
            agreement=site_facts.agreement,
        )
        for site, site_facts in facts.sites.items()
    }
    constants = {
        name.removeprefix(f"{_CONSTANTS}/"): array for name, array in arrays.items() if name.startswith(_CONSTANTS)
    }
    return Checkpoint(
        state=ServerState(**parameter_sets, num_averaged=facts.num_averaged),  # type: ignore[arg-type]
        constants=constants,  # type: ignore[arg-type]
        rounds=facts.rounds,
        sites=sites,
        witnesses=facts.witnesses,
        underway=facts.underway,
        reference=facts.reference,
    )


def _site_facts(site_state: SiteState) -> _SiteFacts:
    return _SiteFacts(
        num_patients_declared=site_state.num_patients_declared,
        privacy=None if site_state.privacy is None else _PrivacyFacts(**dataclasses.asdict(site_state.privacy)),
        noise_std=site_state.test.noise_std if isinstance(site_state.test, PatientHistogram) else None,
        agreement=site_state.agreement,
    )


def _histogram(arrays: Mapping[str, NDArray[np.generic]], site: str, noise_std: float | None) -> Histogram | None:
    counts = {label: arrays.get(f"test/{site}/{label}") for label in _CLASSES}
    if any(values is None for values in counts.values()):
        return None
    if noise_std is None:
        return ScoreHistogram(**counts)  # type: ignore[arg-type]
    return PatientHistogram(**counts, noise_std=noise_std)  # type: ignore[arg-type]
