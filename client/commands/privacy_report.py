"""``fedmammo site privacy-report``."""

import re
from pathlib import Path
from typing import Annotated

import typer

from client.commands.flags import HERE, SitePath


def _report_file(text: str) -> Path:
    from client.privacy.report.files import WRITERS

    if Path(text).suffix.lower() not in WRITERS:
        raise typer.BadParameter(f"expected {text} to end in {', '.join(WRITERS)}")
    return Path(text)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"expected {text} to be a number in (0, 1)")
    return value


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise typer.BadParameter(f"expected {text} to be 64 hexadecimal digits, as an earlier report gives them")
    return text


Out = Annotated[
    list[Path] | None,
    typer.Option(parser=_report_file, metavar="FILE", help="File to write, .html, .json or .csv; may be repeated."),
]
Delta = Annotated[
    float | None,
    typer.Option(
        parser=_probability, metavar="DELTA", help="Delta of all figures; the policy's max_delta, if not given."
    ),
]
Head = Annotated[
    str | None,
    typer.Option(parser=_digest, metavar="DIGEST", help="Head of an earlier report, which the ledger must contain."),
]
Audit = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Show this audit too, which fedmammo attack one-run --out has written."),
]


def privacy_report(
    site: SitePath = HERE, out: Out = None, delta: Delta = None, expect_head: Head = None, audit: Audit = None
) -> None:
    """Verify this hospital's ledger and say what its patients have spent of what its policy grants."""
    import dataclasses

    from rich.console import Console

    from client.deployment.site_file import SiteFile
    from client.privacy.policy import SitePolicy
    from client.privacy.report.figures import report_on
    from client.privacy.report.files import write_report
    from client.privacy.report.formats import print_report
    from shared_model.errors import LedgerError
    from shared_model.privacy.one_run_bound import OneRunAudit

    settings = SiteFile.load(site)
    limits = SitePolicy.load(settings.policy).limits
    report = report_on(
        settings.ledger, delta=delta, limits=limits, expect_head=expect_head, audit_log=settings.audit_log
    )
    if audit is not None:
        report = dataclasses.replace(report, one_run=OneRunAudit.load(audit))
    for path in out or ():
        write_report(report, path)
    if report.problem is not None:
        raise LedgerError(f"NOT VERIFIED. {report.problem}")
    print_report(report, Console())
