"""Jinja templates: those of one package together with the ones that all pages share."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def package_templates(package: str) -> Environment:
    """Return the environment of the templates of ``package``; a missing value is an error.

    Values are escaped, so that no text can become HTML; only in Markdown templates, ending in ``.md``, they are not.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("shared_model.system")]),
        autoescape=select_autoescape(default=True, default_for_string=True, disabled_extensions=("md",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
