# The packages on real systemd: in containers, in a virtual machine, in three.

.PHONY: test-machine test-vm test-fast-path vagrant-test
test-machine: dist ## the packages on real systemd, in containers of Debian 12 and 13
	tests/machine/run

test-vm: deb ## the .deb on a stock kernel: modules, and the administrator's own ssh session
	tests/vm/run

test-fast-path: build ## flowtables, bridges and IPsec on Debian's kernels, with what a packet costs
	tests/vm/fast-path/run

vagrant-test: $(if $(filter rpm,$(LAB_FAMILY)),rpm,deb) ## client, gateway and server as virtual machines; LAB_FAMILY=rpm
	tests/vagrant/run
