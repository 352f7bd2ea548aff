"""The model card of a run as Markdown, in the sections of Mitchell et al. 2019, Model Cards for Model Reporting."""

from server.report.report_values import template_environment, template_values
from server.report.stored_run import StoredRun

MODEL_CARD_FILE = "model_card.md"


def to_model_card(run: StoredRun) -> str:
    """Return the whole card."""
    template = template_environment().get_template("model_card.md")
    return template.render(**template_values(run)).strip() + "\n"
