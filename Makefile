# make demo   from nothing to a score card and a model to chat with
# make test   lint, types and the default tests
# make test-all  the slow proofs too
# make test-borders  the default tests with every border between parts at 2
# make attack 10,000 faults, each of which must end well; half an hour
PYTHON ?= python3
VENV ?= .venv
TORCH = torch==2.13.0
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
PIP = $(VENV)/bin/python -m pip install --disable-pip-version-check -q -c constraints.txt
STAMP = $(VENV)/.installed

.PHONY: demo test test-all test-borders attack lint clean

demo: $(STAMP)
	$(VENV)/bin/localdistill run pantry --workspace demo

test: lint
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal -m "not slow"

test-all: lint
	$(VENV)/bin/python -m pytest -n 3 --dist worksteal

test-borders: $(STAMP)
	SMALL_BORDERS=1 $(VENV)/bin/python -m pytest -n 3 --dist worksteal -m "not slow"

attack: $(STAMP)
	$(VENV)/bin/python -m tests.attack

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

clean:
	rm -rf build dist *.egg-info

# llama-cpp-python is compiled here, so the compiler is asked for before anything is installed.
$(STAMP): pyproject.toml constraints.txt
	@command -v c++ >/dev/null || command -v g++ >/dev/null || { \
	  echo "A C++ compiler is needed to build llama.cpp. Install one and run make again:"; \
	  echo "  Debian, Ubuntu, WSL:  sudo apt install build-essential cmake"; \
	  echo "  Fedora:               sudo dnf install gcc-c++ make cmake"; \
	  echo "  macOS:                xcode-select --install"; exit 1; }
	@test -x $(VENV)/bin/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing torch (the CPU build on Linux without an NVIDIA GPU)"
	@if [ "$$(uname)" = Linux ] && ! command -v nvidia-smi >/dev/null && [ ! -e /proc/driver/nvidia/version ] \
	  && [ ! -e /usr/lib/wsl/lib/libcuda.so ]; then \
	  $(PIP) "$(TORCH)+cpu" 2>/dev/null || $(PIP) "$(TORCH)" --index-url $(TORCH_CPU_INDEX) 2>/dev/null || $(PIP) "$(TORCH)"; \
	else $(PIP) "$(TORCH)"; fi
	@echo "installing localdistill; llama.cpp is compiled the first time, which takes some minutes"
	@$(PIP) -e ".[all,mlx,dev]"
	@touch $@
