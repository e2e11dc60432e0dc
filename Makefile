# The few words that a person types. `make` alone prints them.

INPUT  ?= examples/astronaut.mp4
PREFIX ?= /usr/local
# How long `make soak` watches.
SECONDS ?= 1800
CARGO  ?= cargo
# Where cargo puts the binaries; follows CARGO_TARGET_DIR.
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
KREA   := $(TARGET)/release/krea

.PHONY: help demo build plugin test soak lint bench bench-live bench-wan completions install clean

help:
	@echo "make demo              remove the background of the clip in examples/, into demo.mp4"
	@echo "make demo INPUT=my.mp4 ... of your own clip"
	@echo "make plugin            build what repaints video as a prompt says, with libtorch"
	@echo "make test              run all tests"
	@echo "make soak              watch the memory of a live run for half an hour (SECONDS=180 for three minutes)"
	@echo "make lint              formatting, clippy and, where cargo-deny is installed, licences"
	@echo "make bench             measure krea beside its peers, as ratios"
	@echo "make bench-live        measure what a live run promises: frames, latency, coming back"
	@echo "make bench-wan         measure krea-wan beside diffusers, as ratios"
	@echo "make completions       write completions/ anew, after a change of the command line"
	@echo "make install           build and install under PREFIX ($(PREFIX)); DESTDIR is honoured"
	@echo "make clean             delete what was built; .deps stays"

demo: build
	$(KREA) run "$(INPUT)" --remove-bg -o demo.mp4 -y
	@echo "The result is demo.mp4, in $(CURDIR)"

build:
	@.ci/deps build ort
	$(CARGO) build --release

# What repaints; krea finds it beside itself.
plugin:
	@.ci/deps build torch
	$(CARGO) build --release -p krea-wan

# Both packages in one call: cargo then builds what they share once, with one set of features. The plugin is a library that
# only `cargo build` puts where krea looks for it.
test:
	@.ci/deps build ort torch test
	$(CARGO) build --workspace
	$(CARGO) test --workspace

# Optimised, as a run of that length would be.
soak:
	@.ci/deps build ort
	KREA_SOAK_SECONDS=$(SECONDS) $(CARGO) test --release --test soak -- --ignored --nocapture

lint:
	@.ci/deps build ort torch
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check bans licenses sources; \
	else echo "cargo-deny is not installed: licences are not checked"; fi

bench: build
	@.ci/deps test
	python3 benches/table.py --krea $(KREA)
	$(CARGO) bench --bench generation

bench-live: build
	@.ci/deps test
	python3 benches/live.py --krea $(KREA)

bench-wan:
	@.ci/deps build torch
	benches/wan.sh

# The files in completions/ are what the program prints; a test fails when they are not.
completions: build
	$(KREA) completions bash > completions/krea.bash
	$(KREA) completions zsh > completions/_krea
	$(KREA) completions fish > completions/krea.fish

install: build
	install -D -m 755 $(KREA) $(DESTDIR)$(PREFIX)/bin/krea
	@if [ -e $(TARGET)/release/libkrea_wan.so ]; then \
	  install -v -D -m 755 $(TARGET)/release/libkrea_wan.so $(DESTDIR)$(PREFIX)/lib/krea/libkrea_wan.so; fi
	install -D -m 644 completions/krea.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/krea
	install -D -m 644 completions/_krea $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_krea
	install -D -m 644 completions/krea.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/krea.fish
	mkdir -p $(DESTDIR)$(PREFIX)/share/man/man1
	$(KREA) man --dir $(DESTDIR)$(PREFIX)/share/man/man1

clean:
	$(CARGO) clean
