# Each target makes its own environment in .venv on first use, and again when the versions change.

PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
INSTALLED := .venv/.installed
LABEL_BIN := .venv-label/bin
LABEL_INSTALLED := .venv-label/.installed
NNUNET_INSTALLED := .venv-nnunet/.installed
LABEL_APP := tools/ship/label_app
HEAD := /usr/share/mricron/templates/ch2.nii.gz
BENCH := $(BIN)/python -m tools bench --shape 1,1,96,96,96 --markdown docs/benchmarks.md
ATTENTION_UNET := bundles/hippocampus_mr_attention_unet_segmentation
MONAI_ATTENTION_UNET := {"_target_": "monai.networks.nets.AttentionUnet", "spatial_dims": 3, "in_channels": 1, \
	"out_channels": 3, "channels": [16, 32, 64], "strides": [2, 2]}
TRANSUNET := bundles/hippocampus_mr_transunet_segmentation
# UNETR has 12 layers, and an MLP of four times its width by default; these two come nearest to the bundle's parameters.
MONAI_UNETR := {"_target_": "monai.networks.nets.UNETR", "in_channels": 1, "out_channels": 3, "img_size": 96, \
	"feature_size": 8, "hidden_size": 132, "mlp_dim": 528, "num_heads": 12}
MONAI_SWIN_UNETR := {"_target_": "monai.networks.nets.SwinUNETR", "in_channels": 1, "out_channels": 3, "feature_size": 12}
MEDICAL_TRANSFORMER := bundles/hippocampus_mr_medical_transformer_segmentation

# one module of each kind, of which the others are made alike
QUICK := tests/test_docstrings.py tests/attention/test_cbam.py tests/blocks/test_attention_gate.py tests/nets/test_attention_unet.py \
	tests/workflow/data/test_cases.py tests/workflow/transforms tests/adapt/test_choices.py tests/tools/recipes/test_knobs.py
CHANGED = { git diff --name-only --diff-filter=d HEAD; git ls-files --others --exclude-standard; } | grep '\.py$$'

.PHONY: help demo test quick test-page test-label test-reliability test-gpu test-versions test-oldest test-newest fuzz venv-label venv-nnunet lint docs bench clean

help:
	@echo "make demo    train, evaluate and look at a segmentation of real MR: a few minutes on a CPU"
	@echo "make test    every test, with the coverage of custom_networks"
	@echo "make quick   in about a minute: style of the changed files, examples of the docstrings, tests of one module of each kind"
	@echo "make test-page     the tests of the report page in a real browser, chromium"
	@echo "make test-label    the tests of the live MONAI Label server, in an environment of its own, .venv-label"
	@echo "make test-versions  a training and an inference with the oldest and with the newest versions that pyproject.toml allows"
	@echo "make test-reliability   trainings that are killed, run out of disk, lose a process or meet another in their folder"
	@echo "make test-gpu    what only a GPU can tell, at most eight minutes, into eval/gpu.json; without one a sentence says so"
	@echo "make fuzz    ten thousand damaged files of each image format, each of which must end in a mask or in one sentence,"
	@echo "             and two hundred poses of a head, of which none may be missed without a word: half an hour"
	@echo "make lint    style, types, import contracts, spelling, rendered configs and pages"
	@echo "make docs    the documentation as a site in site/"
	@echo "make bench   time and memory of the networks, into docs/benchmarks.md, and of every attention module, into docs/reference"
	@echo "make clean   remove what these commands wrote, except .venv, .venv-*, data and runs (trainings that go on where they stopped)"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: constraints.txt needs Python 3.11 or newer; \
	name one, for example: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev,docs]"
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python -m tools demo

test: $(INSTALLED)
	OMP_NUM_THREADS=1 TORCH_FAKE_TENSOR_DISPATCH_CACHE=0 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder \
		--max-worker-restart 0 -m "not slow" $(addprefix --ignore=tests/,label page reliability versions) \
		--cov=custom_networks --cov-report=term --cov-fail-under=95

quick: $(INSTALLED)
	@if files=$$($(CHANGED)); then $(BIN)/ruff check $$files && $(BIN)/ruff format --check $$files; fi
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(QUICK)

$(LABEL_INSTALLED): $(LABEL_APP)/requirements.txt $(LABEL_APP)/requirements-nodeps.txt
	$(PYTHON) -m venv .venv-label
	$(LABEL_BIN)/python -m pip install --disable-pip-version-check -r $(LABEL_APP)/requirements.txt
	$(LABEL_BIN)/python -m pip install --disable-pip-version-check --no-deps -r $(LABEL_APP)/requirements-nodeps.txt
	@touch $@

venv-label: $(LABEL_INSTALLED)

test-label: $(LABEL_INSTALLED)
	$(LABEL_BIN)/python -m pip install --disable-pip-version-check --quiet $(shell grep -E '^pytest(-timeout)?==' constraints.txt)
	OMP_NUM_THREADS=$(JOBS) $(LABEL_BIN)/python -m pytest -p no:cacheprovider tests/label

# Beside which the loader is measured; the same torch, so that the samples are compared and not their libraries.
$(NNUNET_INSTALLED): constraints.txt
	$(PYTHON) -m venv .venv-nnunet
	.venv-nnunet/bin/python -m pip install --disable-pip-version-check -c constraints.txt nnunetv2==2.8.1 batchgeneratorsv2==0.3.6
	@touch $@

venv-nnunet: $(NNUNET_INSTALLED)

# Made anew each time, since what is newest changes; old versions warn of what no longer is.
test-oldest: CONSTRAINTS := -c constraints-oldest.txt
test-oldest test-newest: test-%:
	rm -rf .venv-$*
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --disable-pip-version-check --quiet $(CONSTRAINTS) . \
		$(shell grep -E '^pytest(-timeout)?==' constraints.txt)
	OMP_NUM_THREADS=$(JOBS) .venv-$*/bin/python -m pytest -q -s -W default -p no:cacheprovider tests/versions

test-versions: test-oldest test-newest

test-page: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/page

test-reliability: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/reliability

test-gpu: $(INSTALLED)
	$(BIN)/python -m tests.gpu.check_gpu

fuzz: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -s -n $(JOBS) tests/fuzz/fuzz_files.py tests/fuzz/fuzz_poses.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/python -m tools bundles render --check
	$(BIN)/python -m tools reference --check
	$(BIN)/python -m tools pages --check
	$(BIN)/python -m tools plans --check
	$(BIN)/python -m tools study results --check

docs: $(INSTALLED)
	$(BIN)/zensical build --clean --strict

bench: $(INSTALLED) $(NNUNET_INSTALLED)
	$(BENCH) --section attention_unet --output docs/benchmarks/attention_unet.json $(ATTENTION_UNET) '$(MONAI_ATTENTION_UNET)'
	$(BENCH) --section transunet --output docs/benchmarks/transunet.json $(TRANSUNET) '$(MONAI_UNETR)' '$(MONAI_SWIN_UNETR)'
	$(BENCH) --section medical_transformer --output docs/benchmarks/medical_transformer.json $(MEDICAL_TRANSFORMER)
	$(BIN)/python -m tools bench attention
	$(BIN)/python -m tools bench axial
	$(BIN)/python -m tools bench engines --markdown docs/benchmarks.md
	$(BIN)/python -m tools bench loader
	$(BIN)/python -m tools bench predict $(notdir $(wildcard bundles/*_segmentation))
	test ! -e $(HEAD) || $(BIN)/python -m tools bench heads $(HEAD) $(notdir $(wildcard bundles/*_segmentation))
	$(BIN)/python -m tools bench windows $(wildcard bundles/*_segmentation)

clean:
	rm -rf .fuzz build dist demo_output eval site htmlcov .cache .coverage .coverage.* .hypothesis .import_linter_cache \
		.mypy_cache .pytest_cache .ruff_cache
	find . -path './.venv*' -prune -o -type d -name __pycache__ -exec rm -rf {} +
