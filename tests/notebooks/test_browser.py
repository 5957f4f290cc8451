"""The notebooks as a person sees them: a real JupyterLab, a real kernel, and Chromium, driven by Playwright."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import nbformat
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

from woofkit.results import load_runs
from woofkit.study import NOTEBOOKS, NOTEBOOKS_DIR

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine (Debian: apt install chromium)")
TOKEN = "woof"
MINUTE = 60_000  # milliseconds, as Playwright counts
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is there to be looked at
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


@pytest.fixture(scope="module")
def lab(test_study):
    """JupyterLab over the study's folder: the address of its root."""
    home = test_study.folder / "home"
    for plugin, settings in SETTINGS.items():
        package, name = plugin.rsplit("/", 1)
        (home / "settings" / package).mkdir(parents=True, exist_ok=True)
        (home / "settings" / package / f"{name}.jupyterlab-settings").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", f"--IdentityProvider.token={TOKEN}"]
    options += [f"--ServerApp.root_dir={test_study.folder}", "--KernelManager.transport_encryption=auto"]  # as make lab
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")
    places = {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    with (home / "lab.log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | places)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={TOKEN}", server, home / "lab.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(MINUTE)
    yield context.new_page()
    context.close()


def _wait_for(address, server, log, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


class Notebook:
    """A notebook that is open in the browser."""

    def __init__(self, page, lab, path):
        self.page, self.path = page, path
        page.goto(f"{lab}/doc/tree/{path.parent.name}/{path.name}?token={TOKEN}")
        self.cells = page.locator(".jp-Notebook .jp-CodeCell")
        self.cells.first.wait_for(timeout=MINUTE)
        self.wait_until_idle()

    def wait_until_idle(self):
        """Wait until the kernel has answered all that JupyterLab asks at first.

        The page shows "Idle" for a moment before it is connected, and a restart in that moment loses the cells.
        """
        idle = self.page.locator(".jp-StatusBar-TextItem", has_text="(ipykernel) | Idle")
        for _ in range(2):
            idle.wait_for(timeout=MINUTE)
            self.page.wait_for_timeout(1000)

    def restart_and_run_all(self):
        self.page.get_by_role("menuitem", name="Kernel", exact=True).click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Restart Kernel and Run All Cells").click()
        self.page.locator(".jp-Dialog button.jp-mod-accept").click()
        first = self.cells.first.locator(".jp-InputArea-prompt")
        expect(first).to_have_text(re.compile(r"\[\d+\]"), timeout=MINUTE)  # the kernel has got the cells

    def wait_until_done(self, minutes=6, but=0):
        """Wait for a number beside every cell with code in it, `but` for so many."""
        codes = [cell for cell in nbformat.read(self.path, 4).cells if cell.cell_type == "code"]
        due = sum(bool(cell.source.strip()) for cell in codes) - but
        numbered = """due => [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')]
                       .filter(prompt => /\\[\\d+\\]/.test(prompt.textContent)).length >= due"""
        self.page.wait_for_function(numbered, arg=due, timeout=minutes * MINUTE)

    def outputs(self):
        """What the notebook's file holds once it has been saved."""
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        self.page.wait_for_timeout(3000)
        cells = nbformat.read(self.path, 4).cells
        return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]

    def widget(self, words):
        """The widget in which these words stand."""
        return self.page.locator(".woofkit-explorer", has_text=words)


def png():
    """A picture's bytes."""
    memory = io.BytesIO()
    Image.new("RGB", (60, 40), "brown").save(memory, format="png")
    return memory.getvalue()


def choose_file(widget, file):
    """Press the widget's upload button, and choose a file."""
    with widget.page.expect_file_chooser() as chooser:
        widget.get_by_role("button", name="upload a photo").click()
    chooser.value.set_files(file)


def require_no_complaints(outputs):
    assert outputs
    errors = [output for output in outputs if output.output_type == "error"]
    assert not errors, errors
    said = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert not said


def press_on_slider(widget, name, key):
    """Put the focus on a slider by its name, and press a key, as who has no mouse does."""
    slider = widget.locator(".widget-slider", has_text=name)
    slider.locator(".noUi-handle").first.focus()
    widget.page.keyboard.press(key)


def cut_after(path, words):
    """Leave out what stands below the first code cell with these words."""
    notebook = nbformat.read(path, 4)
    codes = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code" and words in cell.source]
    notebook.cells = notebook.cells[: codes[0] + 1]
    nbformat.write(notebook, path)


def run_notebook(page, lab, study, name, until="", minutes=6):
    """Open a copy of the notebook, and run it, whole or as far as the words `until`, without a complaint."""
    path = study.copy(f"lab-{name[:2]}{'-part' if until else ''}", [name]) / f"{name}.ipynb"
    if until:
        cut_after(path, until)
    notebook = Notebook(page, lab, path)
    notebook.restart_and_run_all()
    notebook.wait_until_done(minutes)
    require_no_complaints(notebook.outputs())
    return notebook


def test_notebook_03_runs_and_the_rank_slider_changes_the_number(page, lab, test_study):
    notebook = run_notebook(page, lab, test_study, "03_lora_finetune", until="lora_calculator(plain")
    calculator = notebook.widget("of the model")
    before = calculator.inner_text()
    assert "177,418 of 5,495,626 parameters" in before
    press_on_slider(calculator, "rank", "ArrowRight")
    page.wait_for_function("() => document.body.innerText.includes('191,242 of 5,495,626 parameters')", timeout=MINUTE)
    assert "12 × (13 × (192 + 576) + 576) = 126,720" in calculator.inner_text()


def test_notebook_04_runs_and_the_explorers_block_changes_the_picture(page, lab, test_study):
    notebook = run_notebook(page, lab, test_study, "04_attention_maps", until="attention_explorer(models")
    explorer = notebook.widget("1 = even share").or_(notebook.widget("patches are shown")).first
    picture = explorer.locator("img").last
    before, words = picture.get_attribute("src"), picture.get_attribute("alt")
    assert "block 12" in words
    started = time.monotonic()
    press_on_slider(explorer, "block", "ArrowLeft")
    page.wait_for_function("() => [...document.images].some(image => image.alt.includes('block 11'))", timeout=MINUTE)
    assert time.monotonic() - started < 5  # well under one second on an idle machine
    assert picture.get_attribute("src") != before


EXPLORERS = """
import timm
import torch

from woofkit.data import make_transform
from woofkit.models import data_config
from woofkit.sketch.breeds import BREEDS
from woofkit.config import LoRAConfig
from woofkit.data import load_dataset
from woofkit.widgets import (
    attention_explorer, dataset_browser, draw_your_own_dog, lora_calculator, own_photo_explorer, runs_explorer
)

torch.manual_seed(0)
models = {name: timm.create_model("test_vit", num_classes=10).eval() for name in ("full", "lora")}
transform = make_transform(data_config(models["full"]))
pixels = torch.randint(0, 256, (2, 3, transform.size, transform.size), dtype=torch.uint8)
---
own_photo_explorer(models, transform, BREEDS, True)
---
draw_your_own_dog(models, transform, BREEDS, "Samoyed", {"coat_color": "golden"})
---
attention_explorer(models, pixels, [0, 1], transform, BREEDS)
---
dataset_browser({"val": load_dataset("sketchwoof", split="val", num=30, image_size=64)})
---
lora_calculator(timm.create_model("test_vit", num_classes=10), LoRAConfig.paper())
---
runs_explorer("../runs")
---
import time
from pathlib import Path

end = time.monotonic() + 300
while not Path("looked-at").exists() and time.monotonic() < end:
    time.sleep(0.1)
"""


@pytest.fixture
def explorers(browser, lab, test_study):
    """Every explorer, on a page of 900 px, while the last cell of their notebook runs. The models are random."""
    folder = test_study.folder / "lab-explorers"
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in EXPLORERS.split("---")]
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    path = folder / "explorers.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    context = browser.new_context(viewport={"width": 900, "height": 1000})
    context.set_default_timeout(MINUTE)
    notebook = Notebook(context.new_page(), lab, path)
    notebook.restart_and_run_all()
    notebook.wait_until_done(but=1)
    yield notebook
    context.close()


def test_explorers_answer_on_a_narrow_page_while_a_cell_runs_and_say_what_they_are_without_a_kernel(explorers):
    notebook, page = explorers, explorers.page
    photos = notebook.widget("upload a photo").filter(has_text="have only seen drawings")
    photo = {"name": "mine.png", "mimeType": "image/png", "buffer": png()}
    choose_file(photos, photo)
    photos.get_by_text("LoRA looks at").wait_for()
    assert photos.locator("img[alt='Picture mine.png']").count() == 1
    choose_file(photos, photo | {"name": "mine.heic", "buffer": b"of a phone"})
    photos.get_by_text("export it as JPEG").wait_for()

    dog = notebook.widget("start from")
    assert dog.get_by_text("before the change (grey)").count() == 2
    press_on_slider(dog, "leg length", "ArrowRight")
    dog.get_by_text("leg length 51%").first.wait_for()

    explorer = notebook.widget("show the strongest")
    press_on_slider(explorer, "block", "ArrowLeft")
    page.wait_for_function("() => [...document.images].some(image => image.alt.includes('block 5'))", timeout=MINUTE)
    explorer.locator(".widget-play button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => [...document.images].some(image => image.alt.includes('block 6'))", timeout=MINUTE)

    drawings = notebook.widget("parts of the dog")
    drawings.get_by_role("button", name="next page").click()
    drawings.get_by_text("images 13 to 24 of 30").wait_for()

    calculator, runs = notebook.widget("of the model"), notebook.widget("compare with")
    press_on_slider(calculator, "rank", "ArrowRight")
    calculator.get_by_text(re.compile(r"attn.qkv: \d+ × \(13 ×")).wait_for()

    names = page.evaluate("() => [...document.querySelectorAll('.noUi-handle')].map(h => h.getAttribute('aria-label'))")
    assert all(names), names
    assert {"block", "leg length", "show the strongest"} <= set(names)
    for each in (photos, dog, explorer, drawings, calculator, runs):
        assert each.evaluate("box => box.scrollWidth - box.clientWidth") <= 1
    hints = page.get_by_text("It needs a running kernel: run this cell.")
    assert hints.count() == 6
    assert not any(hint.is_visible() for hint in hints.all())

    assert page.locator(".jp-InputArea-prompt", has_text="[*]").count() == 1  # all this while a cell ran
    (notebook.path.parent / "looked-at").touch()
    notebook.wait_until_done()
    require_no_complaints(notebook.outputs())

    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Shut Down Kernel$")).click()
    page.locator(".jp-StatusBar-TextItem", has_text="No Kernel").wait_for()
    page.reload()
    hints.first.wait_for()
    assert all(hint.is_visible() for hint in hints.all())
    notebook.wait_until_idle()  # a server does not stop while a kernel is starting


def test_stop_in_the_monitor_saves_what_was_learned(page, lab, test_study):
    runs = test_study.folder / "stopped"
    folder = test_study.copy("lab-stop", ["03_lora_finetune"], epochs=500, runs_dir=str(runs))
    path = folder / "03_lora_finetune.ipynb"
    cut_after(path, "learning_curves")
    notebook = Notebook(page, lab, path)
    notebook.restart_and_run_all()
    monitor = notebook.widget("images/s")
    page.get_by_text(re.compile(r"LoRA, epoch [3-9]\d? of 500")).wait_for(timeout=5 * MINUTE)
    first_picture = monitor.locator("img").last.get_attribute("src")
    button = page.get_by_role("button", name="stop, and save what was learned")
    assert button.is_enabled()
    button.click()
    message = page.get_by_text(re.compile(r"lora: test accuracy .* stopped in epoch \d+"))
    message.first.wait_for(timeout=2 * MINUTE)
    notebook.wait_until_done()  # the cells below speak of the stopped model
    assert page.get_by_role("button", name="stop, and save what was learned").is_disabled()
    assert notebook.widget("test accuracy").locator("img").last.get_attribute("src") != first_picture
    require_no_complaints(notebook.outputs())
    kept = load_runs(runs, stopped=True)
    assert list(kept["stopped_epoch"].notna()) == [True]
    assert load_runs(runs).empty


@pytest.mark.long
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_whole_in_jupyterlab(page, lab, test_study, name):
    run_notebook(page, lab, test_study, name, minutes=10)


def test_the_site_opens_from_disk_without_a_network(browser, test_study):
    site = test_study.folder / "runs" / "test" / "site"
    if not (site / "index.html").is_file():
        pytest.skip("no site: tests/notebooks/test_notebooks.py makes it")
    context = browser.new_context(offline=True)
    page, complaints = context.new_page(), []
    page.on("requestfailed", lambda request: complaints.append(request.url[:200]))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.goto((site / "index.html").as_uri())
    for name in NOTEBOOKS:
        page.locator(f'a[href="{name}.html"]').first.click()
        page.wait_for_url(f"**/{name}.html", wait_until="load")
        title = nbformat.read(NOTEBOOKS_DIR / f"{name}.ipynb", 4).cells[0].source.splitlines()[0].removeprefix("# ")
        assert page.locator("h1").first.inner_text().strip().startswith(title)
        broken = "() => [...document.images].filter(image => !image.naturalWidth).length"
        assert page.evaluate(broken) == 0
        page.go_back(wait_until="load")
    page.set_viewport_size({"width": 703, "height": 1032})  # A4 within its margins
    page.emulate_media(media="print")
    cut = (
        "() => [...document.querySelectorAll('.wide, pre, table, img')].filter(e => e.scrollWidth > e.clientWidth + 2)"
    )
    for path in site.glob("*.html"):
        page.goto(path.as_uri())
        assert page.evaluate(f"({cut})().length") == 0, path.name
    page.goto((site / "bets.html").as_uri())
    assert page.locator(".bet").count() > 10
    assert len(re.findall(rb"/Type /Page\b", page.pdf(prefer_css_page_size=True))) == 1  # one sheet of A4
    assert not complaints
    context.close()
