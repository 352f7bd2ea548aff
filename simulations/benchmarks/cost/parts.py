"""The parts of ``fedmammo benchmark cost``."""

from enum import StrEnum


class CostPart(StrEnum):
    """What can be measured."""

    ROUNDS = "rounds"
    LEDGER = "ledger"
    INGEST = "ingest"
    PREFLIGHT = "preflight"
    TRAINING = "training"
    RUN = "run"
    DEPLOYED = "deployed"
