"""Jinja templates: those of packages together with the ones that all pages share."""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape


def package_templates(*packages: str) -> Environment:
    """Return the environment of the templates of ``packages``, the first before the others; no value may be missing.

    Values are escaped, so that no text can become HTML; only in Markdown templates, ending in ``.md``, they are not.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "shared_model.system")]),
        autoescape=select_autoescape(default=True, default_for_string=True, disabled_extensions=("md",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
