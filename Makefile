# What can be typed here: `make help`.

CARGO ?= cargo
# What the demo, the tests and the benchmark need on Debian, as program:package.
NEEDS := mount:mount ip:iproute2 iptables:iptables ipset:ipset nft:nftables conntrack:conntrack unshare:util-linux
# And what the tests need besides.
needs-of-tests: NEEDS += ping:iputils-ping mandoc:mandoc sysctl:procps systemd-analyze:systemd
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
# How long `make fuzz` spends on each reader.
SECONDS := 60
# Everything that touches a network runs in namespaces of its own, so that not even a mistake reaches the machine's.
# An ordinary user becomes root of a user namespace.
IN_LAB := unshare --net --mount $(if $(SUDO),--map-root-user) -- \
	sh -c 'ip link set lo up && mount -t tmpfs -o mode=755 lab /run && exec "$$@"' lab

.DEFAULT_GOAL := help
.PHONY: help build demo test bench fuzz lint fmt check-all clean needs needs-of-tests

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "  make %-14s %s\n", $$1, $$2 }'

build: ## the release binary, target/release/ip-masq-agent
	$(CARGO) build --release --locked

demo: needs ## a LAN, a gateway with the real service, an outside: which source does the far end see?
	$(CARGO) build --quiet --locked --bin ip-masq-agent --example demo
	@$(IN_LAB) target/debug/examples/demo target/debug/ip-masq-agent etc/ip-masq-agent/config.yaml

test: needs-of-tests ## every test, in namespaces of its own
	$(CARGO) test --locked --no-run
	$(IN_LAB) $(CARGO) test --locked --offline --no-fail-fast

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

# install, deb, rpm and the tests of packages.
-include packaging/*.mk
