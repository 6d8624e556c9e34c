# The only list of installed files: 'make install', the .deb and the .rpm all come here.
# Works by itself too: make -f packaging/install.mk install DESTDIR=/tmp/tree

PREFIX     ?= /usr
SYSCONFDIR ?= /etc
SBINDIR    ?= $(PREFIX)/sbin
DATADIR    ?= $(PREFIX)/share
UNITDIR    ?= $(PREFIX)/lib/systemd/system
# Where Debian's zsh looks: for what a package brings, and for what the administrator does.
ZSHDIR     ?= $(DATADIR)/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
PRESETDIR  ?= $(PREFIX)/lib/systemd/system-preset
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
DOCDIR     ?= $(DATADIR)/doc/ip-masq-agent
# Empty where the distribution has the licence text already.
LICENSEDIR ?= $(DATADIR)/licenses/ip-masq-agent
BINARY     ?= target/release/ip-masq-agent

INSTALL ?= install
# With the links between them: each is where it is in the source.
DOCS = README.md CONTRIBUTING.md SECURITY.md $(wildcard docs/*.md docs/*.svg docs/decisions/*.md)
# The role for Ansible, with the playbooks beside it.
ANSIBLE = $(wildcard packaging/ansible/*.yml packaging/ansible/roles/*/*/*)
UNITS = ip-masq-agent.service ip-masq-agent-metrics.service ip-masq-agent-metrics.timer

put  = $(INSTALL) -D -m 0644 $(1) $(DESTDIR)$(2)

.PHONY: install
install: $(BINARY) ## the installed tree, below DESTDIR
	$(INSTALL) -D -m 0755 $(BINARY) $(DESTDIR)$(SBINDIR)/ip-masq-agent
	$(INSTALL) -d -m 0755 $(DESTDIR)$(UNITDIR)
	for unit in $(UNITS); do \
		sed 's#/usr/sbin/ip-masq-agent#$(SBINDIR)/ip-masq-agent#' systemd/$$unit >$(DESTDIR)$(UNITDIR)/$$unit && \
			chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit || exit; \
	done
	$(call put,systemd/80-ip-masq-agent.preset,$(PRESETDIR)/80-ip-masq-agent.preset)
	$(call put,packaging/catalog/ip-masq-agent.catalog,$(CATALOGDIR)/ip-masq-agent.catalog)
	$(INSTALL) -d -m 0755 $(DESTDIR)$(SYSCONFDIR)/ip-masq-agent/config.d
# An administrator's file stays what it is. It is short, so that no new version has another one; the reference is with the
# documentation.
	[ -e $(DESTDIR)$(SYSCONFDIR)/ip-masq-agent/config.yaml ] || \
		$(call put,packaging/config.yaml,$(SYSCONFDIR)/ip-masq-agent/config.yaml)
	$(call put,etc/ip-masq-agent/config.yaml,$(DOCDIR)/config.yaml)
# The unit's StateDirectory=. systemd makes it at the first start, but not where /var is full or read-only.
	$(INSTALL) -d -m 0755 $(DESTDIR)/var/lib/ip-masq-agent
	$(call put,packaging/man/ip-masq-agent.8,$(DATADIR)/man/man8/ip-masq-agent.8)
	$(call put,packaging/man/ip-masq-agent.yaml.5,$(DATADIR)/man/man5/ip-masq-agent.yaml.5)
	$(call put,packaging/completions/ip-masq-agent.bash,$(DATADIR)/bash-completion/completions/ip-masq-agent)
	$(call put,packaging/completions/_ip-masq-agent,$(ZSHDIR)/_ip-masq-agent)
	$(call put,packaging/completions/ip-masq-agent.fish,$(DATADIR)/fish/vendor_completions.d/ip-masq-agent.fish)
	for file in $(DOCS); do $(INSTALL) -D -m 0644 $$file $(DESTDIR)$(DOCDIR)/$$file || exit; done
	$(call put,systemd/examples/10-local.conf,$(DOCDIR)/examples/10-local.conf)
	$(call put,packaging/monitoring/alerts.yml,$(DOCDIR)/examples/monitoring/alerts.yml)
	$(call put,packaging/monitoring/dashboard.json,$(DOCDIR)/examples/monitoring/dashboard.json)
	for file in $(ANSIBLE); do \
		$(INSTALL) -D -m 0644 $$file $(DESTDIR)$(DOCDIR)/examples/$${file#packaging/} || exit; \
	done
ifneq ($(LICENSEDIR),)
	$(call put,LICENSE,$(LICENSEDIR)/LICENSE)
endif
