"""``fedmammo server report``."""

import typer

from server.commands.flags import RunFolder


def report(run: RunFolder) -> None:
    """Write the report and the model card of a finished run again.

    RUN is the folder of the run.
    """
    from server.report.html_report import REPORT_FILE, write_report
    from server.report.model_card import MODEL_CARD_FILE

    write_report(run)
    typer.echo(f"{run / REPORT_FILE} and {MODEL_CARD_FILE}")
