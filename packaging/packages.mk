# From the tree to packages: make deb, make rpm, make dist, make reproducible.

include $(dir $(lastword $(MAKEFILE_LIST)))version.mk

DIST ?= dist
REPO ?= $(DIST)/repo
# Built from the committed tree, in a copy of it: what is not in git is not in a package.
SOURCE_TARBALL = $(DIST)/ip-masq-agent-$(VERSION).tar.gz
PACKAGE_WORK  ?= target/package
TREE = $(PACKAGE_WORK)/tree/ip-masq-agent-$(VERSION)
# An absolute path, shared by deb and rpm: the program is compiled once.
PACKAGE_CARGO_TARGET ?= $(CURDIR)/target/package/cargo
# The .rpm is for other systems than the one it is made on; Enterprise Linux 9 has this one. The .deb names what it needs.
GLIBC_FLOOR = 2.34

export SOURCE_DATE_EPOCH

.PHONY: deb rpm dist repo reproducible package-binary package-tools

package-tools:
	packaging/require dpkg-buildpackage=dpkg-dev g++=build-essential dh=debhelper fakeroot=fakeroot rpmbuild=rpm objdump=binutils

# The release binary, with no path of the building machine in it.
package-binary:
	packaging/build-release

# Replaced only by a different one, so that what is made of it stays as well.
.PHONY: FORCE
$(SOURCE_TARBALL): FORCE
	mkdir -p $(DIST)
	packaging/archive ip-masq-agent-$(VERSION) $(SOURCE_DATE_EPOCH) >$@.new
	if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# With the time of now: cargo would take files that are all as old as the last release for unchanged.
$(PACKAGE_WORK)/unpacked: $(SOURCE_TARBALL)
	rm -rf $(PACKAGE_WORK)/tree && mkdir -p $(PACKAGE_WORK)/tree
	tar --touch -xzf $(SOURCE_TARBALL) -C $(PACKAGE_WORK)/tree
	touch $@

# Compiled once, for both packages.
.PHONY: binary
binary: package-tools $(PACKAGE_WORK)/unpacked
	CARGO_TARGET_DIR=$(PACKAGE_CARGO_TARGET) $(MAKE) -C $(TREE) -f packaging/packages.mk package-binary

deb: binary ## the Debian package, in dist/
	cd $(TREE) && CARGO_TARGET_DIR=$(PACKAGE_CARGO_TARGET) dpkg-buildpackage --build=binary --no-sign
	cp $(PACKAGE_WORK)/tree/*.deb $(DIST)/
	@echo "made $(DIST)/$$(cd $(PACKAGE_WORK)/tree && ls ip-masq-agent_*.deb); as root: apt install ./$(DIST)/$$(cd $(PACKAGE_WORK)/tree && ls ip-masq-agent_*.deb)"

rpm: binary ## the RPM package, in dist/
	packaging/check-glibc $(GLIBC_FLOOR) $(PACKAGE_CARGO_TARGET)/release/ip-masq-agent
	rm -rf $(PACKAGE_WORK)/rpm && mkdir -p $(PACKAGE_WORK)/rpm
	rpmbuild -bb $(TREE)/rpm/ip-masq-agent.spec --quiet \
		--define '_topdir $(abspath $(PACKAGE_WORK))/rpm' \
		--define '_sourcedir $(abspath $(DIST))' \
		--define 'prebuilt $(PACKAGE_CARGO_TARGET)/release/ip-masq-agent' \
		$(if $(RPM_REVISION),--define 'revision $(RPM_REVISION)')
	cp $(PACKAGE_WORK)/rpm/RPMS/*/*.rpm $(DIST)/
	@echo "made $(DIST)/$$(cd $(PACKAGE_WORK)/rpm/RPMS && basename */*.rpm); as root: dnf install ./$(DIST)/$$(cd $(PACKAGE_WORK)/rpm/RPMS && basename */*.rpm)"

dist: deb rpm ## source tarball, both packages and their checksums, in dist/
	cd $(DIST) && sha256sum ip-masq-agent-$(VERSION).tar.gz ip-masq-agent_$(VERSION)-*.deb ip-masq-agent-$(VERSION)-*.rpm >SHA256SUMS

# What of the packages in dist/ has this version; the repository keeps those of earlier ones.
repo: dist ## a signed apt and a signed dnf repository, in dist/repo: REPO_KEY=, REPO_URL= (docs/install.md)
	REPO_KEY='$(REPO_KEY)' REPO_URL='$(REPO_URL)' packaging/repository $(REPO) \
		$(DIST)/ip-masq-agent_$(VERSION)-*.deb $(DIST)/ip-masq-agent-$(VERSION)-*.rpm
	@echo "made $(REPO)/: serve it over HTTP; the 'From a repository' part of docs/install.md says what hosts need"

reproducible: ## build everything twice and compare
	packaging/build-twice
