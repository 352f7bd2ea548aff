"""A site's lesion table and images -> tensors, by the role that each patient has."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from client.data.network_inputs import Progress, load_network_inputs
from client.data.tables.clinical_encoding import encode_clinical
from client.data.tables.lesion_table import LesionTable
from client.data.tables.rejects import REJECT_COLUMNS, reject_frame
from client.data.view_average import average_views
from shared_model.config.choices import Views
from shared_model.config.experiment import ExperimentConfig
from shared_model.data.lesions import Lesions


def _no_progress(_done: int, _total: int) -> None:
    """Show nothing."""


def load_all_lesions(
    table: LesionTable,
    config: ExperimentConfig,
    *,
    report: Progress = _no_progress,
    max_cache_bytes: float | None = None,
) -> tuple[Lesions, LesionTable]:
    """Turn the table into tensors; rows whose image cannot be read move to the rejects.

    Args:
        table: of the site.
        config: says what the network reads of an image, and where the cache lies.
        report: told of the progress.
        max_cache_bytes: quota of the cached images; None sets none.

    Returns:
        The lesions in the order of the returned table, whose rejects are complete.
    """
    inputs = load_network_inputs(table.frame, config, report, max_cache_bytes=max_cache_bytes)
    is_kept = np.array([row not in inputs.problems for row in range(len(table.frame))], dtype=bool)
    if inputs.problems:
        table = set_aside(table, inputs.problems)
    frame = table.frame
    lesions = Lesions(
        images=torch.from_numpy(inputs.images[is_kept]),
        has_image=torch.from_numpy(inputs.has_image[is_kept]),
        clinical=torch.from_numpy(encode_clinical(frame, config.data.features)),
        labels=torch.from_numpy(frame["label"].to_numpy(dtype=np.float32)),
        patients=torch.from_numpy(pd.factorize(frame["patient_id"])[0].astype(np.int64)),
    )
    return (lesions if config.data.views is Views.OWN else average_views(lesions, finding_numbers(frame))), table


def finding_numbers(frame: pd.DataFrame) -> Tensor:
    """Return the number ``(N,)`` of the finding that every row shows, int64 from 0; see ``average_views``."""
    numbers = frame.groupby(["patient_id", "finding_id"], sort=False).ngroup()
    return torch.from_numpy(numbers.to_numpy(dtype=np.int64, copy=True))


def set_aside(table: LesionTable, problems: Mapping[int, str]) -> LesionTable:
    """Return the table with its rows that have a problem, by position from 0, moved to the rejects."""
    names = table.frame[list(REJECT_COLUMNS[:-1])].iloc[list(problems)].itertuples(index=False, name=None)
    rejects = reject_frame((*cells, reason) for cells, reason in zip(names, problems.values(), strict=True))
    is_kept = ~np.isin(np.arange(len(table.frame)), list(problems))
    return dataclasses.replace(
        table,
        frame=table.frame[is_kept].reset_index(drop=True),
        rejects=pd.concat([table.rejects, rejects], ignore_index=True),
    )
