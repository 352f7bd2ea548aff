"""Templates of a package: escaped in HTML, plain in Markdown, strict about missing values."""

import sys

import pytest
from jinja2 import UndefinedError

from shared_model.system.html_templates import package_templates


@pytest.fixture
def templates(tmp_path, monkeypatch):
    """The environment of a package made for the test, with one template of each kind."""
    folder = tmp_path / "made_for_a_test" / "templates"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "page.html").write_text("{% if true %}\n  <p>{{ value }}</p>\n{% endif %}\n")
    (folder / "page.md").write_text("{{ value }}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield package_templates("made_for_a_test")
    sys.modules.pop("made_for_a_test", None)


def test_values_are_escaped_in_html_and_plain_in_markdown(templates):
    value = "<b>5 & 6</b>"
    assert templates.get_template("page.html").render(value=value) == "  <p>&lt;b&gt;5 &amp; 6&lt;/b&gt;</p>\n"
    assert templates.get_template("page.md").render(value=value) == value
    assert templates.from_string("{{ value }}").render(value=value) == "&lt;b&gt;5 &amp; 6&lt;/b&gt;"


def test_a_missing_value_is_an_error(templates):
    with pytest.raises(UndefinedError, match="'value' is undefined"):
        templates.get_template("page.html").render()


def test_shared_templates_are_found_beside_those_of_the_package(templates):
    assert {"page.html", "page.md", "style.html"} <= set(templates.list_templates())
