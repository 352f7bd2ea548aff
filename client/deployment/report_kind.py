"""As which object of DICOM a reading's report is written; what commands need of it without reading any setting."""

from enum import StrEnum


class ReportKind(StrEnum):
    """As which object of DICOM a reading's report is written."""

    COMPREHENSIVE = "comprehensive"
    """Comprehensive 3D SR by TID 1500: everything as a coded value."""
    CAD = "cad"
    """Mammography CAD SR by TID 4000, for workstations that show no other report over films."""
