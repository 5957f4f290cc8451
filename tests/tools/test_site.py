"""`make site`: pages that need nothing but themselves, all of them or none. No notebook is executed here."""

import contextlib
import io
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from ruamel.yaml import YAML

from helpers import lacking
from tools.site import building
from tools.site.__main__ import main
from tools.site.bets import questions
from tools.site.building import write_site
from tools.site.checks import check_self_contained, portable
from tools.site.notebooks import NOTE, Executed, notebook_parts, read_executed
from tools.site.pages import Part, make_page
from woofkit.claims.hypotheses import HYPOTHESES
from woofkit.config import PROJECT_ROOT, ConfigError
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
VIEW = "application/vnd.jupyter.widget-view+json"


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
    done = {"input_path": f"{PROJECT_ROOT}/x.ipynb", "end_time": "2026-11-24T10:00:00+00:00", "duration": 72.4}
    notebook.metadata.papermill = done
    return notebook


def put(study, name, cells=()):
    nbformat.write(executed(name, cells), study / "notebooks" / f"{name}.ipynb")


def write_study(runs):
    """A finished study of profile "demo"."""
    folder = runs / "demo"
    (folder / "notebooks").mkdir(parents=True)
    for name in NOTEBOOKS:
        put(folder, name)
    (folder / "results.md").write_text("| method | accuracy |\n|---|---:|\n| LoRA | 85.8% |\n")
    return folder


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "runs")


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """A study whose site the command has made, once for all tests that only read it: (study, status, what it said)."""
    study, said = write_study(tmp_path_factory.mktemp("runs")), io.StringIO()
    with contextlib.redirect_stdout(said):
        status = main(["--profile", "demo", "--runs-dir", str(study.parent)])
    return study, status, said.getvalue()


@pytest.fixture(scope="module")
def pages(command):
    return site(command[0])


@pytest.fixture
def built(command, study):
    """A study of the test's own that has its site already."""
    shutil.copytree(command[0] / "site", study / "site")
    return study


def build(study):
    """Make the site; return its files' texts by name."""
    index = write_site(study.name, str(study.parent))
    assert index == study / "site" / "index.html"
    return site(study)


def site(study):
    return {path.name: path.read_text(encoding="utf-8") for path in (study / "site").iterdir()}


def page_of(*cells):
    """The page of a notebook with these cells."""
    return make_page("x", notebook_parts(Executed("x", "T", cells, "", "")), NOTEBOOKS, {})


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


def test_every_page_holds_all_it_shows(pages):
    assert set(pages) == {"index.html", "glossary.html", "bets.html", *(f"{name}.html" for name in NOTEBOOKS)}
    for page in pages.values():
        for tag, name, value in References(page).found:
            assert tag not in ("script", "iframe", "link", "object")
            if name in ("src", "srcset", "data", "poster"):
                assert value.startswith("data:")
            if name == "href" and not value.startswith(("https://", "#")):
                assert value.split("#")[0] in pages
        assert not re.search(r"url\((?!data:)|@import", page)
        assert "default-src 'none'" in page


def test_a_page_shows_formulas_code_figures_widgets_and_the_way_on(pages):
    page = pages["03_lora_finetune.html"]
    assert not lacking(
        page,
        '<math display="block" xmlns="http://www.w3.org/1998/Math/MathML"><semantics><mrow><mi>h</mi>',
        "<mfrac>",
        'lr <span class="op">=</span> <span class="fl">0.1</span>',  # coloured by pandoc
        "Parameters of this run",
        "<summary>Solution</summary>",
        "<title>03 · What is lora_finetune?</title>",
        'href="02_full_finetune.html#What-is-it?"',
        'rel="prev" href="02_full_finetune.html"',
        'rel="next" href="04_attention_maps.html"',
        'href="https://arxiv.org/abs/1"',
        '<h2 id="How-many-of-each?">',
    )
    assert page.count('class="code kept"') == 2
    assert page.count(NOTE) == 1
    assert len(lacking(page, "$", "Dropdown()", "README.md")) == 3
    assert re.search('<a href="#How-many-of-each[?]"[^>]*>How many of each[?]</a>', page)
    assert "in 1:12 minutes" in page


def test_every_picture_has_words(pages):
    for name, page in pages.items():
        alts = References(page).alts
        if name in ("glossary.html", "bets.html"):  # they have none
            continue
        assert alts
        assert all(alts)
        if name != "index.html":
            assert alts == ["Figure: How many of each?", "Figure 2: How many of each?"]


def test_the_contents_name_the_study_its_results_and_each_notebook(pages):
    page = pages["index.html"]
    assert f">{PROJECT_ROOT.joinpath('README.md').read_text().splitlines()[0][2:]}</h1>" in page
    assert "85.8%" in page
    assert "Profile demo, run on 2026-11-24" in page
    for name in NOTEBOOKS:
        assert f'<a href="{name}.html">{name[:2]} · What is <em>{name[3:]}</em>?</a></h3>' in page
    assert page.count("After it you can") == len(NOTEBOOKS)
    assert page.count('src="data:image/png;base64,') == len(NOTEBOOKS)
    assert "<math" in page


def test_the_contents_say_what_was_found_and_lead_to_the_glossary(study):
    table = new_output("display_data", {"text/markdown": "| if you need | take |\n|---|---|\n| small files | LoRA |"})
    put(study, NOTEBOOKS[-1], [new_markdown_cell("## The answer\nWhich?"), new_code_cell("x", outputs=[table])])
    pages = build(study)
    page = pages["index.html"]
    places = [page.index(f">{words}</h2>") for words in ("What we found", "Which method should you use?", "This run")]
    assert places == sorted(places)
    assert "<strong>Accuracy,</strong>" in page
    assert places[1] < page.index("<td>small files</td>") < places[2]
    assert 'href="glossary.html"' in page
    assert 'id="The-paper"' in pages["glossary.html"]


BETS = """## Will it rain?
**Is $x$ *larger* than 1?** Think.

<details><summary><b>Answer</b></summary>

No.
</details>

**Does the figure say so?** Look.

**What would *you* say?**
"""


def test_the_sheet_of_bets_has_what_is_answered_below_and_what_a_reader_is_asked(study):
    put(study, NOTEBOOKS[1], [new_markdown_cell(BETS), new_markdown_cell(f"## Going further\n{BETS}")])
    pages = build(study)
    sheet = pages["bets.html"]
    assert 'href="bets.html"' in pages["index.html"]
    assert sheet.count('class="bet"') == sheet.count('class="line"') == 2
    assert re.search(r"<em>01, Will it rain\?</em><br>?\s*/?>?\s*Is <math", sheet)
    assert "than 1?" in sheet
    assert "What would <em>you</em> say?" in sheet
    assert "Does the figure say so?" not in sheet
    for each in HYPOTHESES:
        assert f"<strong>{each.id}</strong>" in sheet


def test_every_folded_question_of_the_notebooks_core_story_is_on_the_sheet():
    for name in NOTEBOOKS:
        executed = read_executed(NOTEBOOKS_DIR / f"{name}.ipynb")
        words = "\n".join(cell.source for cell in executed.cells if cell.cell_type == "markdown")
        core = re.split("^## Going further", words, flags=re.MULTILINE)[0]
        assert len(questions(executed)) >= core.count("<summary><b>Answer")


def test_a_link_to_a_word_leads_to_its_place_in_the_glossary(study):
    put(study, NOTEBOOKS[0], [new_markdown_cell("[claims](../docs/glossary.md#the-paper)")])
    assert 'href="glossary.html#The-paper"' in build(study)[f"{NOTEBOOKS[0]}.html"]


def test_no_page_tells_where_it_was_made(study):
    put(study, NOTEBOOKS[0], [new_code_cell("x", outputs=[new_output("stream", text=f"in {study}/full\n")])])
    pages = build(study)
    for page in pages.values():
        for place in (PROJECT_ROOT, study.parent, Path.home()):
            assert not re.search(rf"(?<![\w+/]){re.escape(str(place))}/", page)
        assert "input_path" not in page
    assert "in runs/demo/full" in pages[f"{NOTEBOOKS[0]}.html"]
    assert 'base64,x/root/y"' in portable('src="data:;base64,x/root/y"', Path("/root"))


# --- refusals ---


def test_an_unfinished_study_names_the_command(study, capsys):
    (study / "notebooks" / "04_attention_maps.ipynb").unlink()
    assert main(["--runs-dir", str(study.parent)]) == 2
    said = capsys.readouterr().err
    assert "04_attention_maps.ipynb is missing; run: make study PROFILE=demo" in said
    assert not (study / "site").exists()


def test_the_command_prints_where_the_site_is(command):
    study, status, said = command
    assert status == 0
    assert said.strip() == str(study / "site" / "index.html")


def test_what_a_page_cannot_hold_is_refused_and_the_old_site_stays(built):
    before = site(built)
    for words, message in (
        ("so $\\new x$", "02_full_finetune, cell 8: the formula .*new x.* cannot be drawn: unexpected"),
        ("![dog](dog.png)", r"02_full_finetune.html loads 'dog.png' \(<img src>\)"),
        ("<script src='x.js'></script>", "02_full_finetune.html has a <script>; loads 'x.js'"),
    ):
        put(built, NOTEBOOKS[2], [new_markdown_cell(words)])
        with pytest.raises(ConfigError, match=message):
            build(built)
        assert site(built) == before


def test_a_broken_or_untitled_notebook_is_named(study):
    (study / "notebooks" / "05_comparison.ipynb").write_text("{}")
    with pytest.raises(ConfigError, match=r"05_comparison.ipynb is no notebook \(.*\); run 05_comparison again"):
        build(study)
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), study / "notebooks" / "05_comparison.ipynb")
    with pytest.raises(ConfigError, match="05_comparison.ipynb has no title"):
        build(study)


def test_a_readme_without_words_is_named(study, monkeypatch):
    monkeypatch.setattr(building, "README", study / "README.md")
    with pytest.raises(ConfigError, match="README.md must begin with '# TITLE'"):
        build(study)


# --- all or nothing ---


@pytest.mark.parametrize("call", [1, 2])
def test_an_interrupted_build_leaves_the_old_site_whole(built, monkeypatch, call):
    """Whichever of the two renames is interrupted: the old folder's, or the new one's into its place."""
    before = site(built)
    put(built, NOTEBOOKS[0], [new_markdown_cell("more")])
    calls = []

    def interrupted(source, target):
        calls.append(source)
        if len(calls) == call:
            raise KeyboardInterrupt
        return replace(source, target)

    replace = os.replace
    monkeypatch.setattr(building.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(built)
    assert site(built) == before
    assert sorted(path.name for path in built.iterdir()) == ["notebooks", "results.md", "site"]


def test_a_second_build_replaces_the_first_and_leaves_nothing_beside(built):
    (built / "site" / "stale.html").write_text("old")
    assert "stale.html" not in build(built)
    assert sorted(os.listdir(built)) == ["notebooks", "results.md", "site"]


# --- formulas ---


def render(*sources):
    """A page of these words, a cell each."""
    return make_page("x", [Part("markdown", source, f"cell {n}") for n, source in enumerate(sources, 1)], NOTEBOOKS, {})


def body(page):
    return page.partition('<main id="content" class="contents">')[2]


def test_every_formula_of_the_notebooks_can_be_drawn():
    for name in NOTEBOOKS:
        parts = notebook_parts(read_executed(NOTEBOOKS_DIR / f"{name}.ipynb"))
        make_page(name, [part for part in parts if part.kind == "markdown"], NOTEBOOKS, {})


@pytest.mark.parametrize(
    ("words", "drawn"),
    [
        (r"$\frac{a}{b}$", "<mfrac><mi>a</mi><mi>b</mi></mfrac>"),
        (r"$$\begin{aligned} a &= 1 \\ b &= 2 \end{aligned}$$", "<mtable>"),
        (r"$p \ln p$", '<mi>p</mi>SPACE<mrow><mi mathvariant="normal">ln</mi><mo>&#8289;</mo></mrow>SPACE<mi>p</mi>'),
        (r"$\exp(x)$", '<mo>&#8289;</mo></mrow><mo stretchy="false"'),
        ("$a < b$", "<mo>&lt;</mo>"),
        (r"costs \$5 or \$6, `$ x $` in code", "costs $5 or $6"),
    ],
)
def test_a_formula_is_drawn_part_by_part(words, drawn):
    assert drawn.replace("SPACE", '<mspace width="0.167em"></mspace>') in body(render(words))


def test_a_formula_that_cannot_be_drawn_is_named_with_its_place():
    for formula, message in (
        (r"$\foo x$", r"unexpected control sequence \\foo"),
        (r"$\frac{1}$", "unexpected eof"),
        (r"$\frac{1$", "no space may follow its first [$], and every { needs a }"),
        ("$ x $", "no space may follow its first [$]"),
    ):
        with pytest.raises(ConfigError, match=rf"cell 2: the formula .* cannot be drawn: {message}"):
            render("# T\n\n$x$", f"so {formula} and *so on*", "$y$")


# --- words, outputs and figures ---


def test_headings_of_the_same_words_keep_apart():
    page = render("# T\n\n## Again\n\n## Again")
    assert re.findall(r'<h2 id="(.*?)">', page) == ["Again", "Again-2"]


def test_what_a_cell_leaves_open_ends_with_it():
    page = body(render("| a |\n|---|\n| 1 |\n| last |", "```\nopen", "## Next"))
    assert "<td>last</td>" in page
    assert '<h2 id="Next">' in page


def test_links_lead_to_pages_to_the_web_or_nowhere():
    page = body(render("[a](./02_full_finetune.ipynb) [b](06_more.ipynb) [c](../x/02_full_finetune.ipynb) [d](//e.f)"))
    assert re.findall(r'href="(.*?)"', page) == ["02_full_finetune.html"]
    assert "b c d" in page


def test_words_keep_pasted_pictures_and_environments():
    source = "![](attachment:a.png)\n\n\\begin{align} x &= 1 \\end{align}\n\n`\\begin{x} \\end{x}`"
    page = page_of(new_markdown_cell("# T"), new_markdown_cell(source, attachments={"a.png": {"image/png": PNG}}))
    assert f'<img src="data:image/png;base64,{PNG}" alt="Figure: T"' in page
    assert "<mtable>" in page
    assert r"<code>\begin{x} \end{x}</code>" in page


TABLE = pd.DataFrame({"accuracy": [0.9]}, index=["LoRA"])._repr_html_()


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (new_output("stream", text="a < b\n"), '<pre class="printed">a &lt; b\n</pre>'),
        (new_output("stream", text="1%\r50%\rdone\n"), '<pre class="printed">done\n</pre>'),
        (new_output("stream", name="stderr", text="\x1b[31ma < b\x1b[0m"), '<pre class="stderr">a &lt; b</pre>'),
        (new_output("error", ename="E", evalue="e", traceback=["E:", "\x1b[31me"]), '<pre class="stderr">E:\ne</pre>'),
        (new_output("display_data", {VIEW: {}, "text/plain": "VBox()"}), NOTE),
        (new_output("display_data", {"text/html": '<p class="woofkit-hint">[x]</p>'}), "-->\n</main>"),
        (new_output("display_data", {VIEW: {}, "text/plain": "train: 0%|   | 0/9"}), "-->\n</main>"),
        (new_output("execute_result", {"text/html": TABLE, "text/plain": "x"}), "<th>LoRA</th>\n      <td>0.9</td>"),
        (new_output("execute_result", {"text/markdown": "**b** $x$", "text/plain": "x"}), "<strong>b</strong> <math"),
        (new_output("execute_result", {"text/latex": "$x$", "text/plain": "x"}), "<math"),
        (new_output("display_data", {"image/svg+xml": "<svg/>"}), 'src="data:image/svg+xml;base64,PHN2Zy8+"'),
        (new_output("execute_result", {"text/plain": "a < b"}), '<pre class="printed">a &lt; b</pre>'),
    ],
)
def test_an_output_is_shown_in_its_richest_form(output, shown):
    assert shown in body(page_of(new_markdown_cell("# T"), new_code_cell("", outputs=[output])))


def test_a_given_alternative_text_wins_over_the_heading():
    given = [{"image/png": {"alt": "a dog"}}, {"alt": 'a "cat"'}, {}]
    outputs = [new_output("display_data", {"image/png": PNG}, metadata=metadata) for metadata in given]
    outputs.append(new_output("display_data", {"text/html": "<img src='data:,a'><img alt='b' src='data:,c'>"}))
    page = page_of(new_markdown_cell('# T\n\n## *Who* is "`it`"?'), new_code_cell("x", outputs=outputs))
    assert References(page).alts == ["a dog", 'a "cat"', 'Figure 3: Who is "it"?', 'Figure 4: Who is "it"?', "b"]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ('<link rel="stylesheet" href="https://a.b/c.css">', r"loads 'https://a.b/c.css' \(<link href>\)"),
        ("<style>@import 'a.css';</style>", "loads what its style names"),
        ('<p style="background: url(a.png)">', "loads what its style names"),
        ('<p onclick="go()">', "runs a script"),
        ('<a href="gone.html">', "links to 'gone.html': allowed are places of the page, pages of the site, http, "),
        ('<a href="#gone">', "links to '#gone': allowed are places of the page"),
        ('<a href="javascript:go()">', r"links to 'javascript:go\(\)': allowed are places"),
    ],
)
def test_what_reaches_out_of_a_page_is_named(page, message):
    with pytest.raises(ConfigError, match=f"x.html {message}"):
        check_self_contained("x.html", page, ["index.html"])


def test_links_within_the_site_and_to_the_web_are_fine():
    page = '<h2 id="a b">h</h2><a href="#a%20b"></a><a href="index.html#x"></a><a href="https://a.b"></a>'
    check_self_contained("x.html", page, ["index.html"])


# --- publishing ---


def test_the_workflow_publishes_the_folder_that_make_writes():
    workflow = YAML(typ="safe").load(PROJECT_ROOT / ".github" / "workflows" / "pages.yml")
    build, deploy = (workflow["jobs"][name] for name in ("build", "deploy"))
    [command] = [step["run"] for step in build["steps"] if "run" in step]
    assert command.split() == ["make", "TORCH=cpu", "study", "site"]
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^PROFILE \?= demo$", makefile, flags=re.MULTILINE)
    assert all(re.search(rf"^{target}: ", makefile, flags=re.MULTILINE) for target in command.split()[2:])
    assert build["steps"][-1]["with"]["path"] == f"runs/demo/{building.SITE}"
    assert deploy["needs"] == "build"
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    used = [step["uses"] for job in (build, deploy) for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)
