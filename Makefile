# What can be typed here: `make help`.

CARGO ?= cargo
# What the demo, the tests and the benchmark need on Debian, as program:package.
NEEDS := mount:mount ip:iproute2 iptables:iptables ipset:ipset nft:nftables conntrack:conntrack unshare:util-linux
# And what the tests need besides.
needs-of-tests: NEEDS += ping:iputils-ping mandoc:mandoc sysctl:procps systemd-analyze:systemd \
	zsh:zsh fish:fish
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# How long `make fuzz` spends on each reader, and `make soak` altogether when no STEPS are given.
SECONDS := 60
# Everything that touches a network runs in namespaces of its own, so that not even a mistake reaches the machine's.
# An ordinary user becomes root of a user namespace.
IN_LAB := unshare --net --mount $(if $(SUDO),--map-root-user) -- \
	sh -c 'ip link set lo up && mount -t tmpfs -o mode=755 lab /run && exec "$$@"' lab

.DEFAULT_GOAL := help
.PHONY: help build demo test soak no-gap endurance bench fuzz lint fmt check-all clean needs needs-of-tests

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

build: ## the release binary, target/release/ip-masq-agent
	$(CARGO) build --release --locked

demo: needs ## a LAN, a gateway with the real service, an outside: which source does the far end see?
	$(CARGO) build --quiet --locked --bin ip-masq-agent --example demo
	@$(IN_LAB) target/debug/examples/demo target/debug/ip-masq-agent etc/ip-masq-agent/config.yaml

# Tests wait more than they compute.
test: export RUST_TEST_THREADS ?= $(shell expr 4 + $$(nproc))
test: needs-of-tests ## every test, in namespaces of its own
	$(CARGO) test --locked --no-run
	$(IN_LAB) $(CARGO) test --locked --offline --no-fail-fast

# What tests/faults reads from the environment; docs/testing.md says what each is.
soak no-gap endurance: export SECONDS := $(SECONDS)
soak: needs ## random faults, from a fresh seed: SECONDS=60 or STEPS=, SEED=, BACKEND=, REPLAY=
	$(CARGO) test --locked --test faults --no-run
	$(IN_LAB) $(CARGO) test --locked --offline --test faults a_campaign -- --ignored --nocapture

no-gap: needs ## a million flows on each backend and family through starts, reloads, switches and repairs: none has a wrong source
	$(CARGO) test --release --locked --test faults --no-run
	$(IN_LAB) $(CARGO) test --release --locked --offline --test faults of_a_million -- --ignored --nocapture

endurance: needs ## RELOADS=10000 and REPAIRS=10000 on each backend: memory, descriptors and log stay what they were
	$(CARGO) test --release --locked --test faults --no-run
	$(IN_LAB) $(CARGO) test --release --locked --offline --test faults ten_thousand -- --ignored --nocapture

bench: needs ## the numbers of docs/performance.md, measured here; tables, JSON and plot in target/
	$(CARGO) bench --locked --bench gateway --no-run
	$(IN_LAB) $(CARGO) bench --locked --offline --bench gateway

fuzz: ## random input for everything that reads what others wrote, SECONDS=60 each
	tests/fuzz/run $(SECONDS)

lint: ## formatting, clippy, rustdoc and dependencies, warnings being errors
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps
	$(CARGO) deny check licenses bans sources

fmt: ## format the code
	$(CARGO) fmt

check-all: lint test demo ## what the project's CI checks

clean: ## remove what was built
	$(CARGO) clean

needs needs-of-tests: # install what is missing, and only that
	@missing=; for need in $(NEEDS); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$${need%%:*}" >/dev/null || missing="$$missing $${need##*:}"; \
	done; \
	[ -z "$$missing" ] || { echo "installing:$$missing" && $(SUDO) apt-get update --quiet && \
		$(SUDO) apt-get install --yes --quiet --no-install-recommends $$missing; }

needs-of-tests: target/tools/promtool
target/tools/promtool:
	packaging/promtool $@

# install, deb, rpm and the tests of packages.
-include packaging/*.mk
