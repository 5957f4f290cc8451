"""`make report`: pages that need nothing but themselves, all of them or none. No notebook is executed here."""

import base64
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.site import building, contents
from tools.site.building import write_site
from tools.site.figures import describe_figures, with_alt
from tools.site.formulas import to_mathml
from tools.site.portable import portable
from tools.site.self_contained import check_self_contained
from tools.site.static_widgets import NOTE, widget_html
from tools.site.words import PageRenderer
from woofkit.__main__ import main
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
VIEW = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"


def model(kind, **state):
    buffers = state.pop("buffers", [])
    return {"model_name": f"{kind}Model", "state": {"_model_name": f"{kind}Model", **state}, "buffers": buffers}


def dropdown(chosen=1, **state):
    return model("Dropdown", description="breed", _options_labels=["beagle", "dingo"], index=chosen, **state)


def executed(name, cells=()):
    """A notebook as papermill leaves it: a title, parameters, a figure, a widget, and paths of the machine."""
    title = f"# {name[:2]} · What is *{name[3:]}*?\n\nFirst words.\n\n**After it you can**\n- tell $r$ from $W_l$;\n"
    figure = new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"})
    widget = new_output("display_data", {VIEW: {"model_id": "w"}, "text/plain": "Dropdown()"})
    links = "[next](02_full_finetune.ipynb#What-is-it?), [paper](https://arxiv.org/abs/1), [file](../README.md)"
    notebook = new_notebook(
        cells=[
            new_markdown_cell(title),
            new_code_cell("lr = 0.1", metadata={"tags": ["parameters"]}),
            new_code_cell(f'runs_dir = "{PROJECT_ROOT}/runs"', metadata={"tags": ["injected-parameters"]}),
            new_markdown_cell("## How many of each?\n\n$$h = \\frac{\\alpha}{r} B A x$$"),
            new_code_cell("draw()", outputs=[figure, figure]),
            new_code_cell("explore()", outputs=[widget]),
            new_markdown_cell(f"## What is it?\n\n{links}\n\n<details><summary>Solution</summary>\n\n`42`\n</details>"),
            *cells,
        ]
    )
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.papermill = {
        "input_path": f"{PROJECT_ROOT}/x.ipynb",
        "end_time": "2026-11-24T10:00:00+00:00",
        "duration": 72.4,
    }
    notebook.metadata.widgets = {WIDGETS: {"state": {"w": dropdown()}, "version_major": 2, "version_minor": 0}}
    return notebook


def put(study, name, cells=()):
    nbformat.write(executed(name, cells), study / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def study(tmp_path):
    """A finished study of profile "demo"."""
    folder = tmp_path / "runs" / "demo"
    for name in ("notebooks", "figures"):
        (folder / name).mkdir(parents=True)
    for name in NOTEBOOKS:
        put(folder, name)
    (folder / "results.md").write_text("| method | accuracy |\n|---|---:|\n| LoRA | 85.8 % |\n")
    (folder / "figures" / "05_accuracy.png").write_bytes(base64.b64decode(PNG))
    return folder


def build(study):
    return write_site(study.name, str(study.parent))


class References(HTMLParser):
    """All that a page names in an attribute, by tag and attribute, and its pictures' texts."""

    def __init__(self, page):
        super().__init__()
        self.found, self.alts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found += [(tag, name, value or "") for name, value in attrs]
        if tag == "img":
            self.alts.append(dict(attrs).get("alt"))


# --- the site ---


def test_every_page_holds_all_it_shows(study):
    index = build(study)
    pages = {path.name: path.read_text(encoding="utf-8") for path in index.parent.iterdir()}
    assert set(pages) == {"index.html", *(f"{name}.html" for name in NOTEBOOKS)}
    for page in pages.values():
        for tag, name, value in References(page).found:
            assert tag not in ("script", "iframe", "link", "object")
            if name in ("src", "srcset", "data", "poster"):
                assert value.startswith("data:")
            if name == "href" and not value.startswith(("https://", "#")):
                assert value.split("#")[0] in pages
        assert not re.search(r"url\((?!data:)|@import", page)
        assert "default-src 'none'" in page


def test_a_page_shows_formulas_code_figures_widgets_and_the_way_on(study):
    page = (build(study).parent / "03_lora_finetune.html").read_text(encoding="utf-8")
    assert '<math alttext="h = \\frac{\\alpha}{r} B A x" display="block">' in page
    assert "<mfrac>" in page
    assert "$" not in re.sub(r'alttext="[^"]*"', "", page)
    assert re.search(r'<span class="[^"]+">lr</span>', page)  # coloured by pygments, whose style is in the page
    assert ".highlight .k" in page
    assert "Parameters of this run" in page
    assert page.count('class="cell kept"') == 2
    assert "breed" in page
    assert "dingo" in page
    assert NOTE in page
    assert "Dropdown()" not in page
    assert "<summary>Solution</summary>" in page
    assert 'href="02_full_finetune.html#What-is-it?"' in page
    assert 'rel="prev" href="02_full_finetune.html"' in page
    assert 'rel="next" href="04_attention_maps.html"' in page
    assert 'href="https://arxiv.org/abs/1"' in page
    assert "README.md" not in page
    assert '<h2 id="How-many-of-each?">' in page
    assert '<a href="#How-many-of-each%3F">How many of each?</a>' in page
    assert "in 1:12 minutes" in page


def test_every_picture_has_words(study):
    index = build(study)
    for path in index.parent.iterdir():
        alts = References(path.read_text(encoding="utf-8")).alts
        assert alts
        assert all(alts)
        if path != index:
            assert alts == ["Figure: How many of each?", "Figure 2: How many of each?"]


def test_the_contents_name_the_study_its_results_and_each_notebook(study):
    page = build(study).read_text(encoding="utf-8")
    assert f"<h1>{PROJECT_ROOT.joinpath('README.md').read_text().splitlines()[0][2:]}</h1>" in page
    assert "85.8 %" in page
    assert "Profile demo, run on 2026-11-24" in page
    for name in NOTEBOOKS:
        assert f'<h3><a href="{name}.html">{name[:2]} · What is {name[3:]}?</a></h3>' in page
    assert page.count("After it you can") == 5
    assert page.count('src="data:image/png;base64,') == 5
    assert "<math" in page


def test_no_page_tells_where_it_was_made(study):
    put(study, NOTEBOOKS[0], [new_code_cell("x", outputs=[new_output("stream", text=f"in {study}/full\n")])])
    for path in build(study).parent.iterdir():
        page = path.read_text(encoding="utf-8")
        for place in (PROJECT_ROOT, study.parent, Path.home()):
            assert not re.search(rf"(?<![\w+/]){re.escape(str(place))}/", page)
        assert "input_path" not in page
    assert "in runs/demo/full" in (study / "report" / "01_data_exploration.html").read_text(encoding="utf-8")
    assert 'base64,x/root/y"' in portable('src="data:;base64,x/root/y"', Path("/root"))


def test_what_went_to_stderr_is_marked(study):
    put(study, NOTEBOOKS[0], [new_code_cell("x", outputs=[new_output("stream", name="stderr", text="a < b\n")])])
    page = (build(study).parent / "01_data_exploration.html").read_text(encoding="utf-8")
    assert '<pre class="stderr">a &lt; b' in page
    assert '<pre class="stderr">' not in (study / "report" / "02_full_finetune.html").read_text(encoding="utf-8")


# --- refusals ---


def test_an_unfinished_study_names_the_command(study, capsys):
    (study / "notebooks" / "04_attention_maps.ipynb").unlink()
    assert main(["report", "--runs-dir", str(study.parent)]) == 2
    said = capsys.readouterr().err
    assert "04_attention_maps.ipynb is missing; run: make study PROFILE=demo" in said
    assert not (study / "report").exists()


def test_the_command_prints_where_the_site_is(study, capsys):
    assert main(["report", "--profile", "demo", "--runs-dir", str(study.parent)]) == 0
    assert capsys.readouterr().out.strip() == str(study / "report" / "index.html")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (new_markdown_cell("so $\\new x$"), r"02_full_finetune, cell 8: the formula .* cannot be drawn: unknown"),
        (new_markdown_cell("![dog](dog.png)"), r"02_full_finetune.html loads 'dog.png' \(<img src>\)"),
        (new_markdown_cell('<img src="http://a.b/c.png">'), "02_full_finetune.html loads 'http://a.b/c.png'"),
        (
            new_code_cell("x", outputs=[new_output("display_data", {"text/html": "<script src='x.js'></script>"})]),
            "02_full_finetune.html has a <script>; loads 'x.js'",
        ),
    ],
)
def test_what_a_page_cannot_hold_is_refused_and_the_old_site_stays(study, cell, message):
    build(study)
    before = {path.name: path.read_bytes() for path in (study / "report").iterdir()}
    put(study, NOTEBOOKS[1], [cell])
    with pytest.raises(ConfigError, match=message):
        build(study)
    assert {path.name: path.read_bytes() for path in (study / "report").iterdir()} == before


def test_a_broken_or_untitled_notebook_is_named(study):
    (study / "notebooks" / "05_comparison.ipynb").write_text("{}")
    with pytest.raises(ConfigError, match=r"05_comparison.ipynb is no notebook \(.*\); run 05_comparison again"):
        build(study)
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), study / "notebooks" / "05_comparison.ipynb")
    with pytest.raises(ConfigError, match="05_comparison.ipynb has no title"):
        build(study)


def test_a_readme_without_words_is_named(study, monkeypatch):
    monkeypatch.setattr(contents, "README", study / "README.md")
    with pytest.raises(ConfigError, match="README.md must begin with '# TITLE'"):
        build(study)


# --- all or nothing ---


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_build_leaves_the_old_site_whole(study, monkeypatch, call):
    """Whichever of the two renames is interrupted: the old folder's, or the new one's into its place."""
    build(study)
    before = {path.name: path.read_bytes() for path in (study / "report").iterdir()}
    put(study, NOTEBOOKS[0], [new_markdown_cell("more")])
    calls = []

    def interrupted(source, target):
        calls.append(source)
        if len(calls) == call:
            raise KeyboardInterrupt
        return replace(source, target)

    replace = os.replace
    monkeypatch.setattr(building.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(study)
    assert {path.name: path.read_bytes() for path in (study / "report").iterdir()} == before
    assert sorted(path.name for path in study.iterdir()) == ["figures", "notebooks", "report", "results.md"]


def test_a_second_build_replaces_the_first_and_leaves_nothing_beside(study):
    build(study)
    (study / "report" / "stale.html").write_text("old")
    build(study)
    assert "stale.html" not in os.listdir(study / "report")
    assert sorted(os.listdir(study)) == ["figures", "notebooks", "report", "results.md"]


# --- formulas ---


def test_every_formula_of_the_notebooks_can_be_drawn():
    for name in NOTEBOOKS:
        words = PageRenderer(name)
        for cell in nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", as_version=4).cells:
            if cell.cell_type == "markdown":
                assert "$" not in re.sub(r'alttext="[^"]*"|<code.*?</code>', "", words.render(cell.source))


def test_a_formula_is_drawn_part_by_part():
    assert to_mathml(r"\frac{a}{b}") == (
        '<math display="inline" alttext="\\frac{a}{b}"><mrow><mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow>'
        "</mfrac></mrow></math>"
    )
    assert '<mi mathvariant="normal">softmax</mi>' in to_mathml(r"\mathrm{softmax}(x)")
    assert "<mo>:</mo>" in to_mathml("A: x")
    assert 'p</mi><mspace width="0.167em" /><mi>ln</mi><mspace width="0.167em" /><mi>p</mi>' in to_mathml(r"p \ln p")
    assert '<mo stretchy="false">(</mo><mo form="prefix">−</mo><mi>x</mi>' in to_mathml("(-x)")
    assert "prefix" not in to_mathml("(a)-x")
    assert "negativethin" not in to_mathml(r"a\!b")
    assert "&lt;" in to_mathml("a < b")


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (r"\foo x", r"unknown command \\foo"),
        (r"\frac{1", "braces { } do not match"),
        (r"\frac{1}", "an argument is missing: mfrac has 1, not 2"),
        (r"a & b", "ParseError"),
        ("a_1_2", "DoubleSubscriptsError"),
    ],
)
def test_a_formula_that_cannot_be_drawn_says_why(formula, message):
    with pytest.raises(ValueError, match=message):
        to_mathml(formula)


# --- words and figures ---


def test_headings_of_the_same_words_keep_apart():
    words = PageRenderer()
    words.render("## Again\n\n## Again")
    assert [heading.anchor for heading in words.headings] == ["Again", "Again-2"]


def test_a_given_alternative_text_wins_over_the_heading():
    data = {"image/png": PNG}
    given = [{"image/png": {"alt": "a dog"}}, {"alt": "a cat"}, {}]
    outputs = [new_output("display_data", data, metadata=metadata) for metadata in given]
    cells = [new_markdown_cell("# T\n\n## *Who* is `it`?"), new_code_cell("x", outputs=outputs)]
    describe_figures(new_notebook(cells=cells))
    assert [output.metadata.alt for output in outputs] == ["a dog", "a cat", "Figure 3: Who is it?"]
    assert with_alt('<img src="a"><img alt="b" src="c">', '"q"') == (
        '<img alt="&quot;q&quot;" src="a"><img alt="b" src="c">'
    )


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ('<link rel="stylesheet" href="https://a.b/c.css">', r"loads 'https://a.b/c.css' \(<link href>\)"),
        ("<style>@import 'a.css';</style>", "loads what its style names"),
        ('<p style="background: url(a.png)">', "loads what its style names"),
        ('<p onclick="go()">', "runs a script"),
        ('<a href="gone.html">', "links to 'gone.html', which is not in the report"),
        ('<a href="#gone">', "links to '#gone', a place that it does not have"),
        ('<a href="javascript:go()">', r"links to 'javascript:go\(\)': allowed are pages of the report, http,"),
    ],
)
def test_what_reaches_out_of_a_page_is_named(page, message):
    with pytest.raises(ConfigError, match=f"x.html {message}"):
        check_self_contained("x.html", page, ["index.html"])


def test_links_within_the_site_and_to_the_web_are_fine():
    page = '<h2 id="a b">h</h2><a href="#a%20b"></a><a href="index.html#x"></a><a href="https://a.b"></a>'
    check_self_contained("x.html", page, ["index.html"])


# --- widgets ---


@pytest.mark.parametrize(
    ("widget", "shown"),
    [
        (dropdown(), ["breed", "dingo"]),
        (dropdown(None), ["breed", "none"]),
        (model("SelectMultiple", description="b", _options_labels=["x", "y", "z"], index=[0, 2]), ["x, z"]),
        (model("SelectionRangeSlider", _options_labels=["x", "y", "z"], index=[0, 2]), ["x to z"]),
        (model("IntSlider", description="block", value=12, readout_format="d"), ["block", "12"]),
        (model("FloatSlider", description="lr", value=0.12345, readout_format=".2f"), ["lr", "0.12"]),
        (model("FloatRangeSlider", value=[0.1, 0.9], readout_format=".1f"), ["0.1 to 0.9"]),
        (model("FloatText", description="x", value=None), ["none"]),
        (model("Checkbox", description="mask", value=True), ["mask", "yes"]),
        (model("Text", description="path", value="<dog>"), ["path", "&lt;dog&gt;"]),
        (model("Button", description="next"), ["<button", "disabled", "next"]),
        (model("HTML", value="<b>bold</b>"), ["<b>bold</b>"]),
        (model("Label", value="a < b"), ["a &lt; b"]),
        (
            model("Image", format="png", value=None, buffers=[{"path": ["value"], "encoding": "base64", "data": PNG}]),
            [f'<img src="data:image/png;base64,{PNG}">'],
        ),
        (model("IntProgress", description="epoch", min=0, max=5, value=3), ['<progress max="5" value="3"', "epoch"]),
        (model("Output", outputs=[{"output_type": "stream", "text": "a < b"}]), ["<pre>a &lt; b</pre>"]),
        (model("Output", outputs=[{"output_type": "display_data", "data": {"image/png": PNG}}]), ["data:image/png"]),
    ],
)
def test_a_widget_shows_its_name_and_value(widget, shown):
    view = widget_html("w", {"w": widget})
    for words in shown:
        assert words in view
    assert "<input" not in view
    assert "<select" not in view


def test_boxes_hold_their_children_in_order_and_keep_their_classes():
    state = {
        "box": model("VBox", children=["IPY_MODEL_a", "IPY_MODEL_row"], _dom_classes=["mine"], layout="IPY_MODEL_l"),
        "row": model("HBox", children=["IPY_MODEL_b"]),
        "l": model("Layout", justify_content="center", display=None),
        "a": model("HTML", value="first"),
        "b": model("Label", value="second"),
    }
    view = widget_html("box", state)
    assert '<div class="widget-box widget-vbox mine" style="justify-content: center">' in view
    assert view.index("first") < view.index("widget-hbox") < view.index("second")
    assert NOTE not in view  # words and pictures have no controls to miss


@pytest.mark.parametrize("hidden", [{"display": "none"}, {"visibility": "hidden"}])
def test_what_is_hidden_stays_hidden(hidden):
    box = model("VBox", children=["IPY_MODEL_a", "IPY_MODEL_b"])
    state = {"box": box, "a": dropdown(layout="IPY_MODEL_l"), "b": model("Label", value="seen")}
    view = widget_html("box", state | {"l": model("Layout", **hidden)})
    assert "seen" in view
    assert "dingo" not in view
    assert widget_html("a", state | {"l": model("Layout", **hidden)}) == ""


def test_tabs_show_every_page_and_a_stack_the_open_one():
    children = ["IPY_MODEL_a", "IPY_MODEL_b"]
    leaves = {"a": model("Label", value="one"), "b": model("Label", value="two")}
    tabs = widget_html("t", leaves | {"t": model("Tab", children=children, titles=["A", "B"], selected_index=0)})
    assert [word for word in ("A", "one", "B", "two") if f">{word}<" in tabs] == ["A", "one", "B", "two"]
    old = widget_html("t", leaves | {"t": model("Accordion", children=children, _titles={"0": "A"})})
    assert ">A<" in old
    assert "two" in old
    stack = widget_html("t", leaves | {"t": model("Stack", children=children, selected_index=1)})
    assert "two" in stack
    assert "one" not in stack


def test_an_unknown_widget_and_a_password_show_nothing():
    assert widget_html("w", {"w": model("Globe", value="secret")}).count("secret") == 0
    assert "<!-- no static view of GlobeModel -->" in widget_html("w", {"w": model("Globe")})
    assert "secret" not in widget_html("w", {"w": model("Password", value="secret")})
    assert widget_html("gone", {}) == ""
