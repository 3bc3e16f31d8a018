# make setup | run | test | lint | bench: everything in a virtual environment of its own, .venv
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup run test lint bench clean

setup: $(READY)

# PyPI's torch for Linux brings 3 GB of CUDA; the one for the CPU alone is in PyTorch's own index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pccbench needs Python 3.10 or newer")'
	$(PYTHON) -m venv .venv
	@[ "$$(uname)" != Linux ] || $(PIP) --retries 1 --no-deps --index-url $(TORCH_INDEX) torch
	@$(BIN)/python tests/without_cuda.py || { \
	  echo 'torch without CUDA was not found at $(TORCH_INDEX): make setup TORCH_INDEX=URL names another index'; exit 1; }
	$(PIP) -e '.[dev]'
	@# open3d estimates normals; it has wheels for some systems only and needs libraries of the system
	@if ! $(PIP) --only-binary open3d open3d; then \
	  echo 'open3d has no wheel for this system: scipy estimates normals, and rows say so'; \
	elif ! $(BIN)/python -c 'import open3d' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq libusb-1.0-0 libgomp1 libgl1 libx11-6; \
	  else \
	    echo 'open3d does not load: install libusb-1.0-0 libgomp1 libgl1 libx11-6 (Debian names)'; \
	  fi; \
	fi
	@touch $@

# The main job on a dense and a sparse cloud of the embedded data set; ends with the path of the report.
run: setup
	$(BIN)/bench run --codecs all --dataset synthetic --clouds gown,shrub --out runs/synthetic

test: setup
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# the root is the package: the type checker wants a folder of its name
	@mkdir -p .typecheck && ln -sfn .. .typecheck/pccbench
	cd .typecheck && ../$(BIN)/mypy --config-file ../pyproject.toml \
	  $(addprefix -p pccbench.,bench codecs metrics reports)

# The first run saves the baseline of this machine, later ones compare with it and fail where a benchmark took more than
# LIMIT percent longer, also when measured again, or is gone; `make bench FORGET=1` takes what is gone out of the
# baseline.  `rm -r .benchmarks` forgets all of it.
LIMIT ?= 25
bench: setup
	@mkdir -p .benchmarks
	$(BIN)/python -m pytest tests/performance -p no:cacheprovider --benchmark-group-by=group \
	  --benchmark-columns=min,median,iqr,rounds --benchmark-json=.benchmarks/latest.json
	@if [ -f .benchmarks/baseline.json ]; then \
	  $(BIN)/python tests/performance/regression.py .benchmarks/baseline.json .benchmarks/latest.json --limit $(LIMIT) --again 2 \
	    $(if $(FORGET),--forget-gone); \
	else \
	  mv .benchmarks/latest.json .benchmarks/baseline.json; \
	  echo 'Saved as .benchmarks/baseline.json: the next run compares with it'; \
	fi

clean:
	rm -rf .venv .typecheck build *.egg-info
