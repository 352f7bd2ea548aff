"""The report of a run: one HTML file that loads nothing from elsewhere, written together with the model card."""

from pathlib import Path

from server.report.decisions import DECISIONS_FILE, to_decisions_json
from server.report.model_card import MODEL_CARD_FILE, to_model_card
from server.report.report_plots import GROUPS_TITLE, report_plots
from server.report.report_values import template_environment, template_values
from server.report.stored_run import StoredRun
from shared_model.system.files import write_atomically

REPORT_FILE = "report.html"


def write_report(folder: Path) -> None:
    """Write report, decisions and model card into the folder of a finished run, from what lies there.

    Raises:
        ConfigError: the folder holds no finished run, or a file of it cannot be read.
    """
    run = StoredRun.load(folder)
    write_atomically(folder / DECISIONS_FILE, to_decisions_json(run.decisions).encode())
    write_atomically(folder / REPORT_FILE, to_html(run).encode())
    write_atomically(folder / MODEL_CARD_FILE, to_model_card(run).encode())


def to_html(run: StoredRun) -> str:
    """Return the whole page."""
    template = template_environment().get_template("report.html")
    return template.render(**template_values(run), plots=report_plots(run), groups_title=GROUPS_TITLE)
