"""The model card of a release, from its document alone: what is not released cannot stand in it."""

from server.report.printed_numbers import format_interval, format_number
from shared_model.release.document import NOT_CALIBRATED, Release
from shared_model.system.html_templates import package_templates


def to_model_card(release: Release) -> str:
    """Return the card as Markdown, in the sections of Mitchell et al. 2019."""
    environment = package_templates("server.release")
    environment.globals |= {"number": format_number, "between": format_interval, "not_calibrated": NOT_CALIBRATED}
    return environment.get_template("release_card.md").render(release=release).strip() + "\n"
