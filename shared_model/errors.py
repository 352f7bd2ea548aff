"""Every exception that this project raises on purpose.

    FederatedMammographyError
    ├── ConfigError            a key, type or value of the configuration is wrong
    ├── DataError              a site's images or table cannot be used
    │   ├── DicomError         one file is not an image that we can read
    │   ├── TableError         a clinical table lacks a column or holds an unknown value
    │   ├── RejectLimitError   more rows were rejected than the configuration accepts
    │   └── CohortError        too few patients, or one class only
    ├── PrivacyError           training would not have the promised guarantee
    │   ├── PolicyError        the site's policy does not allow what was asked
    │   ├── BudgetError        the site's patients have no budget left for it
    │   └── LedgerError        the site's ledger was changed, is damaged or cannot be written
    ├── ReleaseError           a release is damaged, was changed, or nobody here trusts it
    ├── PacsError              a PACS or hospital system does not answer, refuses, or answers what was not asked
    ├── TimeLimitError         a request took longer than the site's policy allows
    ├── ProtocolError          a message is malformed, stale or from other code
    └── RoundError             too few valid replies, or a non-finite aggregate

Flower forwards the text of a client's exception to the server. The detail (path, identifier, value) is for the
site's own log; only ``public_reason``, fixed for each class, may leave the site. What may depend on a site's data,
disk or time has one reason: a table, the ledger and a limit of time are not told apart.
"""

from typing import ClassVar


class FederatedMammographyError(Exception):
    """Base of all errors of this project; ``str(error)`` is one line for the person at this machine."""

    public_reason: ClassVar[str] = "the site failed; its own log has the detail"


class ConfigError(FederatedMammographyError):
    """A key, type or value of the configuration is wrong."""

    public_reason: ClassVar[str] = "the site refused the configuration"


class DataError(FederatedMammographyError):
    """A site's images or table cannot be used."""


class DicomError(DataError):
    """One file is not a single-frame grey-scale image that we can read."""


class TableError(DataError):
    """A clinical table lacks a column or holds a value outside the vocabulary."""


class RejectLimitError(DataError):
    """More rows were rejected than the configuration accepts."""


class CohortError(DataError):
    """A site has too few patients, or patients of one class only."""


class PrivacyError(FederatedMammographyError):
    """Training would not have the promised privacy guarantee."""

    public_reason: ClassVar[str] = "the site refused for privacy reasons"


class PolicyError(PrivacyError):
    """The site's policy does not allow what was asked."""

    public_reason: ClassVar[str] = "the site's policy does not allow it"

    def __init__(self, message: str, *, key: str = "") -> None:
        """Begin with ``message`` and the ``key`` of the policy or configuration that it is about, for the audit log."""
        super().__init__(message)
        self.key = key


class BudgetError(PrivacyError):
    """The site's patients have no privacy budget left for what was asked."""

    public_reason: ClassVar[str] = "the site's privacy budget does not allow it"


class LedgerError(PrivacyError):
    """The site's privacy ledger was changed, is damaged or cannot be written."""

    # Whether it can be written is a matter of the disk, and so of what else lies there.
    public_reason: ClassVar[str] = FederatedMammographyError.public_reason


class ReleaseError(FederatedMammographyError):
    """A release is damaged, was changed after it was signed, or is not trusted here."""

    public_reason: ClassVar[str] = "the site does not use the release"


class PacsError(FederatedMammographyError):
    """A PACS or another system of the hospital does not answer, refuses, or answers what was not asked."""


class TimeLimitError(FederatedMammographyError):
    """A request took longer than the site's policy allows."""


class ProtocolError(FederatedMammographyError):
    """A message is malformed, stale, or comes from other source code."""

    public_reason: ClassVar[str] = "the site could not accept the request"


class RoundError(FederatedMammographyError):
    """A round has too few valid replies or a non-finite aggregate."""

    public_reason: ClassVar[str] = "the round failed"
