"""Why the network of a finished run scored test lesions as it did.

Writes a picture of every lesion, the part that image and columns had in its score, and figures that say whether the
maps can be trusted, to ``explanations/`` in the run folder; then the report again, with them.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import Tensor

from client.data.dataset import configured_roles, finding_numbers, load_all_lesions
from client.data.images import load_lesion, load_lesion_mask
from client.data.network_inputs import lesion_files
from client.data.splits import Role
from client.data.tables.site_table import site_table
from server.evaluation.predictions import PREDICTIONS_FILE, Predictions
from server.report.explanations import (
    EXPLANATIONS_FOLDER,
    ColumnContribution,
    Explanations,
    LesionExplanation,
    SaliencyCheck,
    draw_explanation,
    write_explanations,
)
from server.report.html_report import write_report
from server.report.plot_style import save_png
from server.report.run_folder import CONFIG_FILE
from server.results.document import RESULTS_FILE, read_results
from shared_model.config.choices import Modality, Views
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions
from shared_model.errors import ConfigError, DicomError
from shared_model.network.efficientnet import EfficientNetLite, load_efficientnet_lite
from shared_model.network.fusion import FusionNet, build_network
from shared_model.network.state import load_constants, load_trainable, trainable_state
from shared_model.system.seeding import derive_seed, numpy_generator
from shared_model.vocabulary import clinical_columns, clinical_width
from simulations.explanations import faithfulness as checks
from simulations.explanations.saliency import (
    LesionScorer,
    column_attributions,
    grad_cam,
    grad_cam_plus_plus,
    modality_share,
)

_METHODS = {"Grad-CAM": grad_cam, "Grad-CAM++": grad_cam_plus_plus}
FloatArray = NDArray[np.float32]
Measures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run with what it takes to score its test lesions again."""

    folder: Path
    config: ExperimentConfig
    network: FusionNet
    predictions: Predictions
    threshold: float
    frame: pd.DataFrame
    """The test lesions' rows, in the order of ``predictions``."""
    clinical: Tensor
    """``(N, C)``, what the network reads of their columns."""
    other_views: tuple[Tensor | None, ...]
    """Of every row the features ``(V, D)`` of the lesion's other views; None where every view is scored by itself."""

    @classmethod
    def open(cls, folder: Path) -> "FinishedRun":
        """Read the run and find its test lesions in the data.

        Raises:
            ConfigError: no finished run, one without images or threshold, or its test lesions are not in the data.
        """
        try:
            values = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
            config = ExperimentConfig.from_json(json.dumps(values))
            results = read_results(folder / RESULTS_FILE)
            arrays = load((folder / "model.safetensors").read_bytes())
        except (OSError, ValueError, yaml.YAMLError, SafetensorError) as error:
            raise ConfigError(f"Expected a finished run in {folder}: {error}") from error
        if config.model.modality is Modality.CLINICAL or results.final.threshold is None:
            raise ConfigError(f"Expected a run with images and an operating threshold in {folder}.")
        network = build_network(config.model, clinical_width(config.data.features), seed=config.seed)
        trainable = set(trainable_state(network))
        load_trainable(network, {name: arrays[name] for name in trainable})
        load_constants(network, {name: array for name, array in arrays.items() if name not in trainable})
        predictions = Predictions.from_csv(folder / PREDICTIONS_FILE)
        frame, lesions = _test_lesions(config)
        if frame["label"].to_list() != predictions.labels.tolist():
            raise ConfigError("Expected the run's own test split in data.root; it has other lesions.")
        return cls(
            folder=folder,
            config=config,
            network=network,
            predictions=predictions,
            threshold=results.final.threshold,
            frame=frame,
            clinical=lesions.clinical,
            other_views=(None,) * len(frame) if config.data.views is Views.OWN else _other_views(config),
        )

    @property
    def frozen_encoder(self) -> EfficientNetLite | None:
        """The encoder whose features the network reads; None where it has its own."""
        backbone = self.config.model.backbone
        return load_efficientnet_lite(backbone) if backbone.is_frozen else None

    def scorer(self, row: int) -> LesionScorer:
        """Return the scorer of one lesion."""
        return LesionScorer(
            self.network,
            self.clinical[row],
            frozen_encoder=self.frozen_encoder,
            other_views=self.other_views[row],
        )

    def kind(self, row: int) -> str:
        """Return what the call was worth."""
        is_called = self.predictions.scores[row] >= self.threshold
        if self.predictions.labels[row]:
            return "found cancer" if is_called else "missed cancer"
        return "false alarm" if is_called else "benign, as called"

    def chosen(self, count: int) -> list[int]:
        """Return rows: in equal parts the worst misses and false alarms and the surest finds, the rest at random."""
        missed, alarms = self.predictions.misclassified(self.threshold)
        order = [int(row) for row in np.argsort(self.predictions.scores, kind="stable")]
        found = [row for row in order[::-1] if self.kind(row) == "found cancer"]
        part = max(1, count // 4)
        picked = [*missed[:part], *alarms[:part], *found[:part]]
        others = numpy_generator(self.config.seed, "explain").permutation([r for r in order if r not in picked])
        return [*picked, *(int(row) for row in others)][:count]


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """The network with every weight tensor shuffled, of the head and of the encoder."""

    network: FusionNet
    frozen_encoder: EfficientNetLite | None
    """In place of a frozen encoder, which is no part of the network."""

    @classmethod
    def of(cls, run: FinishedRun, *, seed: int) -> "Shuffled":
        """Shuffle copies of what scores the run's lesions."""
        frozen = run.frozen_encoder
        return cls(
            network=checks.randomised(run.network, seed=seed),
            frozen_encoder=None if frozen is None else checks.randomised(frozen, seed=seed),
        )

    def scorer(self, run: FinishedRun, row: int) -> LesionScorer:
        """Return the scorer of one lesion."""
        return LesionScorer(
            self.network, run.clinical[row], frozen_encoder=self.frozen_encoder, other_views=run.other_views[row]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """The maps of one lesion, all ``(S, S)``."""

    heats: Mapping[str, FloatArray]
    by_chance: FloatArray
    lesion: NDArray[np.bool_] | None


def _test_lesions(config: ExperimentConfig) -> tuple[pd.DataFrame, Lesions]:
    lesions, table = load_all_lesions(site_table(config, None), config)
    is_test = (table.frame["patient_id"].map(configured_roles(table.frame, config)) == Role.TEST).to_numpy(dtype=bool)
    return table.frame[is_test].reset_index(drop=True), lesions.select(torch.from_numpy(is_test))


def _other_views(config: ExperimentConfig) -> tuple[Tensor | None, ...]:
    """Return of every test row the features of the lesion's other views."""
    by_itself = dataclasses.replace(config, data=dataclasses.replace(config.data, views=Views.OWN))
    frame, lesions = _test_lesions(by_itself)
    findings, rows = finding_numbers(frame), torch.arange(len(frame))
    return tuple(lesions.images[(findings == findings[row]) & lesions.has_image & (rows != row)] for row in rows)


def explain_run(run: FinishedRun, count: int, console: Console) -> Explanations:
    """Explain ``count`` test lesions that have an image; write pictures, index and report.

    Raises:
        ConfigError: none of them can be read.
    """
    files = lesion_files(run.frame, run.config)
    folder = run.folder / EXPLANATIONS_FOLDER
    folder.mkdir(exist_ok=True)
    shuffled = Shuffled.of(run, seed=derive_seed(run.config.seed, "explain", "shuffle"))
    explained: list[LesionExplanation] = []
    measured: dict[str, list[Measures]] = {method: [] for method in _METHODS}
    for row in track(run.chosen(count), description="lesions", console=console, disable=not console.is_terminal):
        try:
            image = load_lesion(files[row], run.config.data.image)
        except DicomError:
            continue
        scorer = run.scorer(row)
        pixels = torch.from_numpy(image)[None]
        lesion = load_lesion_mask(files[row], run.config.data.image)
        maps = {method: compute(scorer, pixels) for method, compute in _METHODS.items()}
        one = _explain(run, row, scorer, pixels)
        save_png(draw_explanation(one, image, list(maps.items()), lesion), folder / one.file)
        by_chance = numpy_generator(run.config.seed, "explain", str(row)).random(image.shape).astype(np.float32)
        found = Maps(heats=maps, by_chance=by_chance, lesion=lesion)
        measures = _measure(scorer, shuffled.scorer(run, row), image, found)
        explained.append(one)
        for method, of_method in measures.items():
            measured[method].append(of_method)
    if not explained:
        raise ConfigError("Expected test lesions with an image that can be read, found none.")
    index = Explanations(
        lesions=tuple(explained), checks=tuple(_check(method, rows) for method, rows in measured.items())
    )
    write_explanations(index, folder)
    write_report(run.folder)
    return index


def _explain(run: FinishedRun, row: int, scorer: LesionScorer, pixels: Tensor) -> LesionExplanation:
    columns = column_attributions(scorer, pixels, clinical_columns(run.config.data.features))
    return LesionExplanation(
        file=f"lesion-{row:04d}.png",
        row=row,
        kind=run.kind(row),
        score=scorer.probability(pixels),
        image_share=modality_share(scorer, pixels).image_share,
        columns=tuple(ColumnContribution(column=name, logits=logits) for name, logits in columns.items()),
    )


def _measure(scorer: LesionScorer, shuffled: LesionScorer, image: FloatArray, maps: Maps) -> dict[str, Measures]:
    pixels, lesion = torch.from_numpy(image)[None], maps.lesion

    def score(changed: FloatArray) -> float:
        return scorer.probability(torch.from_numpy(changed)[None])

    by_chance = {
        "deletion_random": checks.deletion(score, image, maps.by_chance),
        "insertion_random": checks.insertion(score, image, maps.by_chance),
    }
    return {
        method: {
            "area": None if lesion is None else float(lesion.mean()),
            "energy": None if lesion is None else checks.energy_inside(heat, lesion),
            "pointing": None if lesion is None else _share(checks.points_inside(heat, lesion)),
            "deletion": checks.deletion(score, image, heat),
            "insertion": checks.insertion(score, image, heat),
            "similarity": checks.similarity(heat, _METHODS[method](shuffled, pixels)),
            **by_chance,
        }
        for method, heat in maps.heats.items()
    }


def _share(is_inside: bool | None) -> float | None:
    return None if is_inside is None else float(is_inside)


def _check(method: str, rows: Sequence[Measures]) -> SaliencyCheck:
    def mean(name: str) -> float | None:
        known = [value for row in rows if (value := row[name]) is not None]
        return float(np.mean(known)) if known else None

    return SaliencyCheck(
        method=method,
        num_lesions=len(rows),
        num_marked=sum(row["area"] is not None for row in rows),
        area=mean("area"),
        energy=mean("energy"),
        pointing=mean("pointing"),
        deletion=mean("deletion") or 0.0,
        deletion_random=mean("deletion_random") or 0.0,
        insertion=mean("insertion") or 0.0,
        insertion_random=mean("insertion_random") or 0.0,
        similarity=mean("similarity"),
    )


def print_checks(found: Explanations, console: Console) -> None:
    """Print one line per method."""
    table = Table(title=f"Can the maps be trusted? Means over {len(found.lesions)} test lesions")
    names = ("energy in box (area)", "pointing", "deletion (random)", "insertion (random)", "shuffled weights")
    for name in ("map", *names):
        table.add_column(name)
    for row in found.checks:
        table.add_row(
            row.method,
            "-" if row.energy is None or row.area is None else f"{row.energy:.3f} ({row.area:.3f})",
            "-" if row.pointing is None else f"{row.pointing:.2f}",
            f"{row.deletion:.3f} ({row.deletion_random:.3f})",
            f"{row.insertion:.3f} ({row.insertion_random:.3f})",
            "-" if row.similarity is None else f"r {row.similarity:+.2f}",
        )
    console.print(table)
