"""What the server must remember to go on after a crash as if there had been none: one file, replaced after each round.

A checkpoint follows a complete round. The round that was under way is asked again with the same parameters, and a site
that had answered gives the same reply from its ledger, so the resumed run equals the uninterrupted one bit for bit.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from server.federation.server_optimizer import ServerState
from server.results.document import RoundResult
from shared_model.config.experiment import ExperimentConfig
from shared_model.config.fingerprints import config_fingerprint, source_fingerprint
from shared_model.config.strict_build import build
from shared_model.errors import ConfigError
from shared_model.messages import Histogram, PrivacySpent
from shared_model.metrics.counts import ScoreHistogram
from shared_model.network.parameters import to_safetensors
from shared_model.privacy.noisy_histograms import WeightedHistogram
from shared_model.system.files import write_atomically

FILE = "checkpoint.safetensors"
_FACTS = "facts"
_SETS = ("parameters", "first_moment", "second_moment", "average")
_CLASSES = ("negatives", "positives")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteState:
    """What the server knows of a site after a round."""

    num_patients_declared: int
    privacy: PrivacySpent | None
    test: Histogram | None
    """Scores of the site's test lesions; None before its first evaluation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state after the last of ``rounds``."""

    state: ServerState
    rounds: tuple[RoundResult, ...]
    sites: Mapping[str, SiteState]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _SiteFacts:
    num_patients_declared: int
    privacy: PrivacySpent | None
    noise_std: float | None
    """Of the histogram; null for exact counts or none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Facts:
    config: str
    source: str
    names: tuple[str, ...]
    """Of the parameters, in the order of the network, which the arrays of the file do not keep."""
    num_averaged: int
    rounds: tuple[RoundResult, ...]
    sites: Mapping[str, _SiteFacts]


def write_checkpoint(folder: Path, checkpoint: Checkpoint, config: ExperimentConfig) -> None:
    """Replace the checkpoint of the run in ``folder``."""
    arrays = {
        f"{part}/{name}": np.asarray(array, order="C")
        for part in _SETS
        for name, array in getattr(checkpoint.state, part).items()
    }
    for site, known in checkpoint.sites.items():
        if known.test is not None:
            arrays |= {f"test/{site}/{label}": getattr(known.test, label) for label in _CLASSES}
    facts = _Facts(
        config=config_fingerprint(config),
        source=source_fingerprint(),
        names=tuple(checkpoint.state.parameters),
        num_averaged=checkpoint.state.num_averaged,
        rounds=checkpoint.rounds,
        sites={site: _site_facts(known) for site, known in checkpoint.sites.items()},
    )
    content = to_safetensors(arrays, {_FACTS: json.dumps(dataclasses.asdict(facts))})
    write_atomically(folder / FILE, content)


def read_checkpoint(folder: Path, config: ExperimentConfig) -> Checkpoint | None:
    """Return the checkpoint of the run in ``folder``; None where no round was finished.

    Raises:
        ConfigError: it is damaged, or of another configuration or source code.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = build(_Facts, json.loads(file.metadata()[_FACTS]), path="")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no iterator of its own
        checkpoint = _checkpoint(facts, arrays)
    except (ConfigError, KeyError, OSError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise ConfigError(f"Expected a checkpoint in {path}: {error}; name another run.dir.") from error
    for what, found, expected in (
        ("configuration", facts.config, config_fingerprint(config)),
        ("source code", facts.source, source_fingerprint()),
    ):
        if found != expected:
            raise ConfigError(f"Expected run.dir={folder} to hold a run of the same {what}; name another folder.")
    return checkpoint


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run whose results are written."""
    (folder / FILE).unlink(missing_ok=True)


def _checkpoint(facts: _Facts, arrays: Mapping[str, NDArray[np.generic]]) -> Checkpoint:
    sets = {part: {name: arrays[f"{part}/{name}"] for name in facts.names} for part in _SETS}
    sites = {
        site: SiteState(
            num_patients_declared=known.num_patients_declared,
            privacy=known.privacy,
            test=_histogram(arrays, site, known.noise_std),
        )
        for site, known in facts.sites.items()
    }
    return Checkpoint(
        state=ServerState(**sets, num_averaged=facts.num_averaged),  # type: ignore[arg-type]
        rounds=facts.rounds,
        sites=sites,
    )


def _site_facts(known: SiteState) -> _SiteFacts:
    return _SiteFacts(
        num_patients_declared=known.num_patients_declared,
        privacy=known.privacy,
        noise_std=known.test.noise_std if isinstance(known.test, WeightedHistogram) else None,
    )


def _histogram(arrays: Mapping[str, NDArray[np.generic]], site: str, noise_std: float | None) -> Histogram | None:
    counts = {label: arrays.get(f"test/{site}/{label}") for label in _CLASSES}
    if any(values is None for values in counts.values()):
        return None
    if noise_std is None:
        return ScoreHistogram(**counts)  # type: ignore[arg-type]
    return WeightedHistogram(**counts, noise_std=noise_std)  # type: ignore[arg-type]
