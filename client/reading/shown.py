"""A reading for a person: as lines of text, and as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from client.reading.answering import LesionMap
from client.reading.result import Answer, Outcome, Reading
from shared_model.system.files import write_atomically

_HINT = "Grad-CAM: a hint where the network looked, no evidence of where a lesion is"
_HEAT = 0.45


def print_reading(reading: Reading, console: Console | None = None) -> None:
    """Print the reading in a few lines."""
    lines = [f"{reading.outcome}: release {reading.release.name} {reading.release.digest[:12]}"]
    if reading.outcome is not Outcome.READ:
        lines += [f"  {each.code}: {each.text}" for each in reading.why]
    if reading.answer is not None:
        lines += _answer_lines(reading.answer)
    lines += ["When not to trust this:", *(f"  - {text}" for text in reading.when_not_to_trust)]
    shown = console or Console()
    for line in lines:
        shown.print(line, markup=False, highlight=False)


def _answer_lines(answer: Answer) -> list[str]:
    call = "malignant" if answer.is_above_threshold else "benign"
    parts = answer.contributions
    lines = [
        f"  probability of malignancy {answer.probability:.3f} (95 % of the scaling: {answer.interval.low:.3f} to "
        f"{answer.interval.high:.3f}), {answer.band}",
        f"  call {call} at threshold {answer.threshold:.3f} ({answer.threshold_interval.low:.3f} to "
        f"{answer.threshold_interval.high:.3f})",
        f"  logits: base {parts.base:+.2f}, image {parts.image:+.2f}, columns {parts.columns:+.2f}",
    ]
    lines += [f"    {each.name}={each.value}: {each.logits:+.2f}" for each in parts.by_column if each.value is not None]
    if answer.conformal_label is not None and answer.conformal_level is not None:
        lines.append(f"  at level {answer.conformal_level:g} only {answer.conformal_label} is left")
    if answer.novelty_distance is not None:
        lines.append(f"  distance from the public lesions {answer.novelty_distance:.2f} of the limit")
    return lines


def write_picture(reading: Reading, maps: Sequence[LesionMap], path: Path) -> None:
    """Write the pictures as the network sees them, and beside each where it looked; for its owner alone to read."""
    from matplotlib.figure import Figure  # noqa: PLC0415, takes a while that a reading without picture need not wait

    figure = Figure(figsize=(6, 3.2 * len(maps)), layout="constrained")
    axes = figure.subplots(len(maps), 2, squeeze=False)
    for row, shown in zip(axes, maps, strict=True):
        for axis in row:
            axis.imshow(shown.picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        row[0].set_title(str(shown.view or "view not known"))
        row[1].imshow(shown.saliency, cmap="inferno", vmin=0, vmax=1, alpha=_HEAT)
    figure.suptitle(f"{_HINT}\nreading {reading.reading_id}", fontsize="small")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    write_atomically(path, drawn.getvalue())
