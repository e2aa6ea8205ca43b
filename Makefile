# SPDX-License-Identifier: Apache-2.0
# Each target first prepares the environment that it needs in .venv, see scripts/environment.py.

PYTHON ?= python3
ROBOT := $(PYTHON) scripts/environment.py robot
VIEWER := $(PYTHON) scripts/environment.py viewer
ALL := $(PYTHON) scripts/environment.py all
INPUT ?= synthetic
# VIEW=1 and STRICT=1: on unless they are empty or 0.
OPTIONS := $(patsubst %,--view,$(filter-out 0,$(VIEW))) $(patsubst %,--strict,$(filter-out 0,$(STRICT)))

.DEFAULT_GOAL := help
.PHONY: help demo setup test soak lint clean

help:
	@echo "make demo                 find the road in a synthetic drive, in real time over ROS 2"
	@echo "make demo INPUT=PATH      the same in your own folder of pictures, video or bag"
	@echo "make demo VIEW=1          the same, live in rerun's viewer, and with a recording for it"
	@echo "make demo STRICT=1        the same; fails if fewer than 95 of 100 frames are answered"
	@echo "make setup                install what training needs too into .venv"
	@echo "make test                 install what training needs too, then lint and run every test"
	@echo "make soak                 run the long forms of the tests of endurance"
	@echo "make lint                 ruff, mypy and codespell only"
	@echo "make clean                remove what make, the demo, builds and tools have left, and nothing else"
	@echo "make PYTHON=python3.12 …  with another Python (3.10 to 3.14)"

demo:
	@$(if $(filter --view,$(OPTIONS)),$(VIEWER),$(ROBOT)) python -m road_seg_node.demo "$(INPUT)" $(OPTIONS)

setup:
	@$(ALL) true

test: lint
	$(ALL) python -m pytest

soak:
	$(ALL) python -m pytest -s -m soak

lint:
	$(ALL) python -m ruff check
	$(ALL) python -m mypy
	$(ALL) python -m codespell_lib

clean:
	@$(PYTHON) scripts/clean.py
