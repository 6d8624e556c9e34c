# From the tree to packages: make deb, make rpm, make dist, make reproducible.

include $(dir $(lastword $(MAKEFILE_LIST)))version.mk

DIST ?= dist
# Built from the committed tree, in a copy of it: what is not in git is not in a package.
SOURCE_TARBALL = $(DIST)/ip-masq-agent-$(VERSION).tar.gz
PACKAGE_WORK  ?= target/package
# An absolute path, shared by deb and rpm: the program is compiled once.
PACKAGE_CARGO_TARGET ?= $(CURDIR)/target/package/cargo
# Enterprise Linux 9 and Debian 12 have at least this one.
GLIBC_FLOOR = 2.34

export SOURCE_DATE_EPOCH

.PHONY: deb rpm dist reproducible package-binary package-tools

package-tools:
	packaging/require dpkg-buildpackage=dpkg-dev dh=debhelper fakeroot=fakeroot rpmbuild=rpm objdump=binutils

# The release binary, with no path of the building machine in it.
package-binary:
	packaging/build-release
	packaging/check-glibc $(GLIBC_FLOOR) $(CARGO_TARGET_DIR)/release/ip-masq-agent

.PHONY: source
source:
	mkdir -p $(DIST)
	git archive --format=tar --prefix=ip-masq-agent-$(VERSION)/ --mtime=@$(SOURCE_DATE_EPOCH) HEAD | gzip -n9 >$(SOURCE_TARBALL)

deb: package-tools source ## the Debian package, in dist/
	rm -rf $(PACKAGE_WORK)/deb && mkdir -p $(PACKAGE_WORK)/deb
	tar -xzf $(SOURCE_TARBALL) -C $(PACKAGE_WORK)/deb
	cd $(PACKAGE_WORK)/deb/ip-masq-agent-$(VERSION) && \
		CARGO_TARGET_DIR=$(PACKAGE_CARGO_TARGET) dpkg-buildpackage --build=binary --no-sign
	cp $(PACKAGE_WORK)/deb/*.deb $(DIST)/

rpm: package-tools source ## the RPM package, in dist/
	rm -rf $(PACKAGE_WORK)/rpm && mkdir -p $(PACKAGE_WORK)/rpm
	CARGO_TARGET_DIR=$(PACKAGE_CARGO_TARGET) rpmbuild -bb rpm/ip-masq-agent.spec --quiet \
		--define '_topdir $(abspath $(PACKAGE_WORK))/rpm' \
		--define '_sourcedir $(abspath $(DIST))'
	cp $(PACKAGE_WORK)/rpm/RPMS/*/*.rpm $(DIST)/

dist: deb rpm ## source tarball, both packages and their checksums, in dist/
	cd $(DIST) && sha256sum ip-masq-agent-$(VERSION).tar.gz ip-masq-agent_$(VERSION)-*.deb ip-masq-agent-$(VERSION)-*.rpm >SHA256SUMS

# Builds everything twice, in different directories and with nothing shared, and compares.
reproducible: ## build everything twice and compare
	packaging/build-twice
