"""The sentences of a reading, the same in every output: ASCII, so that they fit every film's character set."""

from client.pacs.results.lesion_reading import LesionReading, Outcome
from shared_model.system.peer_text import peer_text

PROGRAM = "federated-mammography"
MAKER = "Federated Mammography (research)"
WARNING = "not for diagnosis: research software"
HINT = "Map: where the score came from; a hint, no outline of a lesion"
_MAX_TEXT = 1000


def headline(reading: LesionReading) -> str:
    """Return the result in one line."""
    if reading.score is None:
        what = "Abstained" if reading.outcome is Outcome.ABSTAINED else "Refused"
        return ascii_text(f"{what}: {reading.reason}")
    score = reading.score
    side = "at or above" if score.is_above else "below"
    return (
        f"Probability of malignancy {100 * score.probability:.0f} % (95 % interval {100 * score.low:.0f} to "
        f"{100 * score.high:.0f} %), {side} the threshold of {100 * score.threshold:.0f} %"
    )


def remarks(reading: LesionReading) -> tuple[str, ...]:
    """Return what must be said beside it, the warning first."""
    score = reading.score
    said = [f"{WARNING[0].upper()}{WARNING[1:]}. No BI-RADS assessment."]
    if score is not None:
        said += [f"Band: {score.band}"] if score.band else []
        said += [f"Contribution to the logit, {name}: {value:+.2f}" for name, value in score.contributions.items()]
    said += [f"Do not trust this: {caution}" for caution in reading.cautions]
    said.append(f"Release {reading.release} ({reading.release_digest[:16]}), network {reading.network}")
    return tuple(ascii_text(line) for line in said)


def ascii_text(text: str) -> str:
    """Return one line of ASCII of at most 1,000 characters."""
    return peer_text(text, most=_MAX_TEXT).replace("…", "...").encode("ascii", "replace").decode()
