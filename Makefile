# The commands of this project. `make demo` and `make test` install what is missing through `make setup`.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# A file of pip's that says which versions of the libraries are taken (tests/debian/).
CONSTRAINTS ?=
SANDBOX := $(BIN)/python -m ha_agent.lab.sandbox --
TEST_LIMIT_S ?= 2400
WORKERS ?= auto
SECONDS ?= 600
SEED ?= 1
COUNT ?= 1000000
ROUNDS ?= 5
SUITE ?= bookworm

# What the spelling check reads: everything that a person wrote.
PROSE := README.md SECURITY.md CONTRIBUTING.md CHANGELOG.md Makefile pyproject.toml docs ha_agent tests tools bench debian systemd keepalived share examples

# Everything that the tools leave lies in build/.
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/pycache
# What Python compiles lies below build/ alone, and a user who keeps his trees free of it need not wait for it each time.
unexport PYTHONDONTWRITEBYTECODE
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/build/hypothesis

# The lab's nodes run the code from here and leave byte code beside it; it goes at the end, also after Ctrl-C.
TIDY := trap 'find ha_agent bench tests -name __pycache__ -prune -exec rm -rf {} +' EXIT; trap : INT TERM;

# A directory in memory where there is one: on a disk the unit tests wait for it two thirds of their time.
SCRATCH := mktemp -d -p /dev/shm 2>/dev/null || mktemp -d

.PHONY: screenshots picture help setup demo test test-debian check bench bench-compare chaos votes fuzz deb test-machines docs manuals clean root

help:
	@echo "make demo    the main job on a real pair in namespaces, with a measured summary (root)"
	@echo "make test    all tests, several at once, in a place of their own with nothing but a loopback network (root); TESTS=... some"
	@echo "make test-debian  the same with the versions of the libraries that Debian 12 has; SUITE=trixie: that Debian 13 has (root)"
	@echo "make check   style, types, spelling, unit tests (no root)"
	@echo "make bench   side by side with what one would use instead (root)"
	@echo "make bench-compare REF=a-commit: edit, takeover and release here and there, in turns (root)"
	@echo "make chaos   SECONDS=600 SEED=n: a random schedule of faults on a real pair, and a check of every promise (root);"
	@echo "             WITNESS=ssh or etcd: of a pair with a witness, every partition among the faults"
	@echo "make votes   SECONDS=600 SEED=n: the rules of the votes, at random, with every fault (docs/votes.md)"
	@echo "make fuzz    COUNT=1000000 SECONDS=n SEED=n: random inputs for all that reads what strangers wrote (root: as the agent does it)"
	@echo "make deb     the Debian package, in build/ (root, or debhelper and lintian installed)"
	@echo "make test-machines  the package on two booted machines, from its installation to its removal (root);"
	@echo "             SUITE=trixie: Debian 13, SUITE=mixed: node-a has 12 and node-b 13"
	@echo "make docs    write docs/faults.md, the tables of docs/alerts.md, docs/lint.md, docs/architecture.md and docs/operations.md"
	@echo "make screenshots  the pictures of docs/dashboard.md, taken by the tests in a real browser, and make picture (root)"
	@echo "make picture the moving picture of the README: make demo, recorded (root)"
	@echo "make manuals write share/ (man pages, completion for bash, zsh and fish) from the command line's grammar"
	@echo "make setup   what these need: .venv/ and build/; clean removes both"

setup: $(VENV)/ready build/sysroot/.packages build/versions/ready build/axe/ready

$(VENV)/ready: pyproject.toml tools/setup-venv $(CONSTRAINTS)
	@tools/setup-venv $(PYTHON) $(VENV) $(CONSTRAINTS)
	@touch $@

build/sysroot/.packages: ha_agent/lab/packages.py | $(VENV)/ready
	@mkdir -p build
	@$(BIN)/python -m ha_agent.lab.packages tests --into build/sysroot
	@touch $@

# The watchdogs of Debian 12 and 13, beside the newest, which .venv has: the tests try all of them.
build/versions/ready: | $(VENV)/ready
	@for v in 2.2.1 6.0.0; do \
		$(BIN)/python -m pip install -q --no-deps --upgrade --target build/versions/watchdog-$$v watchdog==$$v || exit 1; done
	@touch $@

# axe-core, the auditor of pages, which one of its Python bindings carries: of that the script alone is used, by the browser's tests.
build/axe/ready: | $(VENV)/ready
	@$(BIN)/python -m pip install -q --no-deps --upgrade --target build/axe axe-playwright-python==0.1.8
	@touch $@

root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root (namespaces with real daemons in them): run it again with sudo" >&2; exit 2; }

demo: root setup
	@$(TIDY) $(BIN)/python -m ha_agent.lab.demo

test: root setup
	@$(TIDY) timeout --foreground --kill-after=30 $(TEST_LIMIT_S) $(SANDBOX) $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TESTS)

# The environment of the other libraries lies in build/ and is made once.
test-debian: root
	@$(MAKE) --no-print-directory test VENV=build/venv-$(SUITE) CONSTRAINTS=tests/debian/$(SUITE).txt TESTS="$(TESTS)"

check: $(VENV)/ready
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/codespell $(PROSE)
	@t=$$($(SCRATCH)); trap 'rm -rf "$$t"' EXIT; trap : INT TERM; HA_AGENT_HYPOTHESIS=quick TMPDIR=$$t \
		$(BIN)/python -m pytest -q -n $$(($$(nproc) + 1)) --dist worksteal --basetemp=$$t/t tests/unit

bench: root setup
	@$(BIN)/python -m ha_agent.lab.packages bench --into build/sysroot
	@$(TIDY) $(SANDBOX) $(BIN)/python -m bench $(BENCH)

bench-compare: root setup
	@[ -n "$(REF)" ] || { echo "bench-compare: with what? make bench-compare REF=a-commit [ROUNDS=5]" >&2; exit 2; }
	@$(TIDY) $(BIN)/python -m bench.compare $(REF) --rounds $(ROUNDS)

docs: $(VENV)/ready
	@$(BIN)/python -m tests.faults_doc
	@$(BIN)/python -m tests.alerts_doc
	@$(BIN)/python -m tests.rules_doc
	@$(BIN)/python -m tests.glossary_doc
	@$(BIN)/python -m tests.lint_doc

manuals: $(VENV)/ready
	@$(BIN)/python -m pip install -q shtab argparse-manpage
	@PYTHONPATH=. $(BIN)/python tools/make-manuals

deb:
	@tools/make-deb

test-machines: root setup
	@$(TIDY) SUITE=$(SUITE) tools/test-machines $(TESTS)

chaos: root setup
	@$(TIDY) $(SANDBOX) $(BIN)/python -m tests.chaos --seconds $(SECONDS) --seed $(SEED) --witness "$(WITNESS)"

votes: $(VENV)/ready
	@$(BIN)/python -m tests.votes_model $(SECONDS) $(SEED)

fuzz: $(VENV)/ready
	@$(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED) $(if $(filter command environment,$(firstword $(origin SECONDS))),--seconds $(SECONDS))

clean:
	rm -rf .venv build

# The moving picture of the README: what the demo prints, with its times; pauses are cut to a second.
picture: root setup
	@[ -x build/picture/bin/termtosvg ] || { $(PYTHON) -m venv build/picture && \
		build/picture/bin/pip install --quiet --disable-pip-version-check 'termtosvg==1.1.0' 'setuptools<81'; }
	@$(TIDY) tools/record-terminal build/demo.cast 116x34 "make demo" -- $(BIN)/python -m ha_agent.lab.demo
	@build/picture/bin/termtosvg render build/demo.cast docs/images/demo.svg -t gjm8 -m 60 -M 1000 -D 6000

screenshots: root setup picture
	@$(TIDY) HA_AGENT_SCREENSHOTS=1 $(SANDBOX) $(BIN)/python -m pytest tests/cluster/test_web.py
