"""README, docs and CONTRIBUTING say nothing that is not so: commands, overrides, tables, links, modules and figures."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import click
import pytest
import typer

from shared_model.config import compose
from shared_model.errors import ConfigError
from simulations.commands.app import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("client", "server", "shared_model", "simulations")
FOLDERS = (*PACKAGES, "configs", "tests", "docs", ".ci")
FILE_SUFFIXES = ("csv", "html", "json", "jsonl", "md", "onnx", "parquet", "png", "safetensors", "sqlite", "txt", "yaml")


def load_tables():
    # By its path: a package that is called docs may be installed.
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tables = load_tables()
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in tables.PAGES}
pages = pytest.mark.parametrize("page", PAGES)


def fenced(text):
    """Return the lines of fenced blocks, continued lines joined, comments cut off."""
    joined = "\n".join(re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [re.sub(r"\s+#\s.*", "", line).strip() for line in joined.splitlines()]


def inline(text):
    """Return the contents of inline code, line breaks as spaces."""
    prose = re.sub(r"^```\n.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def commands(text, *beginnings):
    """Return every command of a page as words, and whether it is complete; one named in a sentence need not be."""
    complete = [*fenced(text), *(block.command for block in tables.blocks(text))]
    found = [(line, True) for line in complete] + [(code, False) for code in inline(text)]
    return [
        (shlex.split(line), is_complete)
        for line, is_complete in found
        if any(line == beginning or line.startswith(f"{beginning} ") for beginning in beginnings)
    ]


def parse(words):
    """Parse the words after ``fedmammo`` without running anything; return the last command's own parameters."""
    command, name = typer.main.get_command(app), "fedmammo"
    context = None
    while True:
        context = command.make_context(name, words, parent=context)
        if not isinstance(command, click.Group):
            return context.params
        # The group's own flags are parsed; what follows names the sub-command.
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])


def test_the_parser_refuses_what_no_command_has():
    assert parse(["simulate", "seed=1"])["overrides"] == ("seed=1",)
    for words in (["simulat"], ["study", "epsilom"], ["site", "preflight", "--sites", "x"], ["attack", "inversion"]):
        with pytest.raises(click.UsageError, match=r"No such|Missing"):
            parse(words)


@pages
def test_every_command_parses(page):
    text = PAGES[page].replace("DIGEST", 64 * "0")
    for words, is_complete in commands(text, "fedmammo", ".venv/bin/fedmammo"):
        try:
            overrides = parse(words[1:]).get("overrides")
        except click.exceptions.NoArgsIsHelpError:
            assert not is_complete, words
        except click.MissingParameter:
            # A sentence may name a command without its arguments.
            assert not is_complete, words
        else:
            compose([*(overrides or ()), "run.dir=unused"])


@pages
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for words, _ in commands(PAGES[page], "make"):
        for word in words[1:]:
            name, _, value = word.partition("=")
            assert name in targets or f"$({name})" in makefile, words
            if name == "OVERRIDES":
                compose([*shlex.split(value), "run.dir=unused"])


@pages
def test_every_module_that_is_run_exists(page):
    for words, _ in commands(PAGES[page], "python -m"):
        assert is_module(words[2]), words


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pages
def test_every_module_that_is_named_exists(page):
    for code in inline(PAGES[page]):
        if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+(:\w+)?", code):
            assert is_module(code.partition(":")[0]), code


@pages
def test_every_file_that_is_named_exists(page):
    for code in inline(PAGES[page]):
        # What a command writes is not there yet; words in capitals stand for something that the reader fills in.
        for word in re.sub(r"--(out|plot) \S+", "", code).split():
            if re.match(rf"({'|'.join(map(re.escape, FOLDERS))})/", word) and not re.search("[A-Z]{3}", word):
                assert (ROOT / word).exists(), word


@pages
def test_every_key_of_the_configuration_that_is_named_exists(page):
    configuration = json.loads(compose(["data.root=unused", "run.dir=unused"]).to_json())
    for code in inline(PAGES[page]):
        for word in code.split():
            key, _, value = word.rstrip(":").partition("=")
            parts = key.split(".")
            if len(parts) < 2 or parts[0] not in configuration or parts[-1] in FILE_SUFFIXES:
                continue
            found = configuration
            for part in parts:
                assert part in found, word
                found = found[part]
            if value and "|" not in value:
                # Some values need others beside them; the message then names another key.
                assert f"{key}=" not in refusal(word), word


def refusal(override):
    try:
        compose(["data.root=unused", "run.dir=unused", "data.validation_fraction=0.1", override])
    except ConfigError as error:
        return str(error)
    return ""


@pages
def test_every_generated_block_is_what_its_command_wrote(page):
    assert tables.refreshed(PAGES[page]) == PAGES[page], "run make docs-tables"


def page_with(options, body="old\n"):
    return f"before\n<!-- generated by: fedmammo benchmark utility\n{options}\n-->\n{body}<!-- end -->\nafter\n"


def test_a_block_is_written_again_from_its_file():
    text = tables.refreshed(page_with("from: utility.md\nrows: [image]\ncolumns: [inputs, epsilon 1]"))
    assert re.search(r"-->\n\| inputs \| epsilon 1 \|\n\| --- \| --- \|\n\| image \| 0\.\d{3} [^|]*\|\n<!-- end", text)
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert tables.refreshed(text) == text


def test_a_block_without_its_file_says_that_nothing_was_measured():
    assert "*Not measured since the code changed: `fedmammo benchmark utility`.*" in tables.refreshed(
        page_with("from: missing.md")
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("from: utility.md\nrows: [imagination]", "to have imagination"),
        ("from: utility.md\ncolumns: [epsilon 9]", "to have epsilon 9"),
        ("from: utility.md\ntable: 9", r"table 9 in utility.md, found \d"),
        ("from: simulate.txt\nlines: [nothing, begins so]", "lines that begin with nothing and begins so"),
        ("form: utility.md", "'generated by' and 'from'"),
    ],
)
def test_a_block_that_asks_for_what_is_not_there_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        tables.refreshed(page_with(options))


def test_rows_of_one_name_are_all_shown_and_none_can_be_picked(monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "GENERATED", tmp_path)
    (tmp_path / "twice.md").write_text("| step | time |\n|---|---|\n| round | 1 |\n| round | 2 |\n| start | 3 |\n")
    assert "| round | 1 |\n| round | 2 |\n| start | 3 |\n<!-- end" in tables.refreshed(page_with("from: twice.md"))
    assert "-->\n| step | time |\n| --- | --- |\n| start | 3 |\n<!-- end" in tables.refreshed(
        page_with("from: twice.md\nrows: [start]")
    )
    with pytest.raises(ValueError, match="has several of round"):
        tables.refreshed(page_with("from: twice.md\nrows: [start, round]"))


def test_columns_of_one_title_are_each_their_own():
    shown = tables.refreshed(page_with("from: search.md\nrows: [each view by itself]"))
    assert "| each view by itself | 0.883 | -0.013 ± 0.003 | 0.848 | -0.030 ± 0.009 |" in shown


@pytest.mark.parametrize("path", sorted(tables.GENERATED.glob("*.*")), ids=lambda path: path.name)
def test_every_generated_file_names_its_source_and_is_shown(path):
    shown = {block.file: block.command for text in PAGES.values() for block in tables.blocks(text)}
    if path.suffix == ".csv":
        assert path.with_suffix(".md").exists()
        return
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.)])/\w", text), "a path of the machine that wrote it"
    *_, last = text.splitlines()
    provenance = re.fullmatch(
        rf"{tables.PROVENANCE}source [0-9a-f]{{12}}(?: and [0-9a-f]{{12}})*, (seeds \d+(?:, \d+)*|fedmammo .+)", last
    )
    assert provenance, last
    if path.suffix == ".txt":
        assert provenance[1] == shown[path.name]
    assert path.name in shown


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_link_leads_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith(("https:", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), target


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pages
def test_lines_are_short(page):
    for line in PAGES[page].splitlines():
        assert len(line) <= 120 or line.lstrip().startswith("|"), line


def test_the_first_page_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 120


def test_the_first_page_has_no_figure_of_its_own():
    text = tables._BLOCK.sub("", PAGES["README.md"])
    prose = re.sub(r"\]\([^)]*\)|`[^`]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for number in re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])(?!\. )", prose):
        assert number in PAGES["docs/results.md"] or f'>={number}"' in pyproject, number


def test_the_page_about_the_code_names_every_room():
    rooms = {
        str(path.parent.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")
    }
    named = {code.rstrip("/") for code in inline(PAGES["docs/code.md"]) if code.endswith("/")}
    assert rooms <= named, sorted(rooms - named)
