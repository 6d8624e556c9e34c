# The packages on real systemd, in containers.

.PHONY: test-machine
test-machine: dist ## the packages on real systemd, in containers of Debian 12 and 13
	tests/machine/run
