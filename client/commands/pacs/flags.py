"""The flags that the commands of the PACS share."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer


class Over(StrEnum):
    """Which of the PACS's two doors is used."""

    WEB = "web"
    DIMSE = "dimse"


OverOption = Annotated[
    Over | None,
    typer.Option("--over", help="By default web where site.yaml has pacs.web_url, else dimse."),
]
Day = Annotated[datetime | None, typer.Option("--day", formats=["%Y-%m-%d"], help="Of the examination.")]


def chosen(over: Over | None, web_url: str | None) -> Over:
    """Return the door that is used."""
    return over or (Over.DIMSE if web_url is None else Over.WEB)
