# make study            run the notebooks (PROFILE=demo; PARAMS="lr=1e-4 epochs=3" overrides parameters)
# make test             ruff, pytest, and the notebooks with shrunk parameters, in a browser too where there is Chromium
# make test-long        the same, with all notebooks in the browser
# make lab              open JupyterLab on a working copy of the notebooks, work/, which git ignores
# make student          write the notebooks without the solutions, to work/student (FOLDER=...)
# make teacher          write the notebooks with the solutions filled in, to work/teacher (FOLDER=...)
# make projector        write the notebooks with the code folded away, to show in class, to work/projector (FOLDER=...)
# make site             make web pages of a finished study (PROFILE=demo): they open from disk, without Jupyter or network
# make readme           put the tables and figures of a finished study (PROFILE=demo) into README.md, docs/ and figures/
# make backbone         pretrain the bundled backbone anew
# make attention        measure where a study's models look, and judge the claims (PROFILE=demo; ATTENTION="--dogs 400")
# make sweep            train what a sweep names (SWEEP=rigor-small; sweeps/ has others), one run after the other
#                       (CLUSTER=slurm: many at once, on a cluster; docs/clusters.md)
# make fuzz             break everything on purpose for an hour, and count what is lost (FUZZ="--minutes 10" for less)
# make bench            measure our training beside what others use, on this machine (BENCH="--rounds 9" adds options)
# Every target first makes .venv and installs requirements.txt, once. Another Python: make PYTHON=python3.12 study
# On Linux without a GPU, make TORCH=cpu study installs PyTorch's CPU build, a third of the size.

PYTHON  ?= python3
TORCH   ?=
PROFILE ?= demo
PARAMS  ?=
BENCH   ?=
FUZZ    ?=
ATTENTION ?=
SWEEP   ?= rigor-small
CLUSTER ?=
FOLDER  ?=

# An index beside the usual one; of equal versions pip takes the build with the longer name, 2.14.1+cpu.
TORCH_INDEX ?= https://download.pytorch.org/whl/$(TORCH)
WHEELS      := $(if $(TORCH),--extra-index-url $(TORCH_INDEX))

VENV      := .venv
VENV_PY   := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install study lab student teacher projector attention sweep site readme backbone bench fuzz
.PHONY: test test-laws test-pages test-long

help:
	@sed -n '/^# /s/^# //p' Makefile

install: $(INSTALLED)

# The stamp is written last, so an installation that broke off is taken up again.
# pip would compile on one core; compileall takes all, and leaves out what hardly anything imports. Some packages bring
# templates that are no Python, for which it fails.
$(INSTALLED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "woofkit needs Python 3.11 or newer; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	test -x $(VENV_PY) || $(PYTHON) -m venv $(VENV)
	$(VENV_PY) -m pip install --disable-pip-version-check --no-compile $(WHEELS) -r requirements.txt
	@$(VENV_PY) -m compileall -qq -j 0 -x '/(tests?|transformers)/' $(VENV)/lib || true
	@touch $@

# The shell reads PARAMS, so that quotes hold words together: PARAMS='data_dir="/my pictures" epochs=3'
GIVEN = set -- $(PARAMS); for each do set -- "$$@" -p "$$each"; shift; done;

study: $(INSTALLED)
	@$(GIVEN) $(VENV_PY) -m woofkit run --profile $(PROFILE) "$$@"

# Two processes of one thread each take two thirds of the time of one process of two: most models here are tiny.
PAGED := tests/notebooks/test_notebooks.py tests/notebooks/test_browser.py
LAWS  := OMP_NUM_THREADS=1 $(VENV_PY) -m pytest tests $(addprefix --ignore ,$(PAGED)) -n 2 --dist worksteal -p no:nbmake
PAGES := OMP_NUM_THREADS=1 $(VENV_PY) -m pytest $(PAGED) -s

# Both at once: a browser and a server wait much, and where notebooks want the same model, one waits for the other.
test: $(INSTALLED)
	$(VENV_PY) -m ruff check .
	$(VENV_PY) -m ruff format --check .
	$(MAKE) -j 2 test-laws test-pages

test-laws: $(INSTALLED)
	$(LAWS)

test-pages: $(INSTALLED)
	$(PAGES)

test-long: $(INSTALLED)
	$(VENV_PY) -m ruff check .
	$(LAWS) -m "long or not long"
	$(PAGES) -m "long or not long"

# Answers, outputs and edited parameters go into the copy. The project is the root, so that runs/ and docs/ open too.
# Encrypted, as others on the machine could listen; without it, each kernel warns of that.
lab: $(INSTALLED)
	$(VENV_PY) -m tools.copies lab
	$(VENV_PY) -m jupyterlab --notebook-dir . --LabApp.default_url=/lab/tree/work --KernelManager.transport_encryption=auto

student teacher projector: $(INSTALLED)
	$(VENV_PY) -m tools.copies $@ $(FOLDER)

attention: $(INSTALLED)
	$(VENV_PY) -m woofkit attention --profile $(PROFILE) $(ATTENTION)

sweep: $(INSTALLED)
	@$(GIVEN) $(VENV_PY) -m woofkit sweep $(SWEEP) "$$@" $(addprefix --cluster ,$(CLUSTER))

site: $(INSTALLED)
	$(VENV_PY) -m tools.site --profile $(PROFILE)

readme: $(INSTALLED)
	$(VENV_PY) -m tools.readme --profile $(PROFILE)

backbone: $(INSTALLED)
	$(VENV_PY) -m tools.backbone

bench: $(INSTALLED)
	$(VENV_PY) -m tools.bench $(BENCH)

fuzz: $(INSTALLED)
	$(VENV_PY) -m tools.fuzz $(FUZZ)
