# Every target makes .venv when it is missing, and is safe to call again.
PYTHON ?= python3
PRESET ?= teach
OMP_NUM_THREADS ?= 1

BIN = .venv/bin
READY = .venv/ready
NOTEBOOKS = $(BIN)/python tools/run_notebooks.py

.PHONY: help setup notebooks site test lab data reproduce outputs browser wheel bench soak clean

help:  ## print this list
	@sed -n 's/^\([a-z]*\):.*##/make \1 #/p' Makefile | awk -F ' # ' '{ printf "  %-16s %s\n", $$1, $$2 }'

setup: $(READY)  ## make .venv with the tested versions and this package in it

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -e ".[lab,test]" -c constraints.txt
	touch $(READY)

notebooks: $(READY)  ## execute all notebooks and build the site from them (ADVCL_PRESET, default teach)
	$(NOTEBOOKS)

site: $(READY)  ## build the site under build/site from the outputs that the notebooks keep
	$(BIN)/python tools/build_site.py

test: $(READY)  ## ruff, pytest, and every notebook on the smoke preset
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python tools/run_tests.py

lab: $(READY)  ## open JupyterLab at the first notebook
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

data: $(READY)  ## download CIFAR-10 and CIFAR-100 into $ADVCL_DATA, or else data/
	$(BIN)/python -c 'import advcl_nb as adv; \
	[print(name, adv.load_images(name, "train", download=True)) for name in ("cifar10", "cifar100")]'

reproduce: $(READY)  ## make what is missing of the cards and encoders of PRESET (teach, cifar or budget), with a plan first
	$(BIN)/python tools/reproduce.py $(PRESET)

outputs: $(READY)  ## execute the notebooks with teach and keep the outputs in them, ready to commit
	ADVCL_PRESET=teach $(NOTEBOOKS) --write
	$(BIN)/python tools/pictures.py

browser: $(READY)  ## every notebook and explorer in JupyterLab and a headless Chromium, pictures to build/browser
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python -m pytest -m browser -n 2 -rs tests/browser

wheel: $(READY)  ## build the wheel and run notebooks 00 and 01 with it, away from the clone
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python -m pytest -m "wheel and not soak" tests/test_wheel.py

bench: $(READY)  ## time the training engine beside the release's schedule, on all cores (a quarter of an hour)
	$(BIN)/python benchmarks/bench.py

soak: $(READY)  ## the slow proofs that make test leaves out
	OMP_NUM_THREADS=$(OMP_NUM_THREADS) $(BIN)/python -m pytest -m soak

clean:  ## remove pages and caches; .venv, runs and data stay
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name .venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
