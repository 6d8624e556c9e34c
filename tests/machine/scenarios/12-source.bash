# 'make install' as docs/install.md has it, with the binary that the package has: the container has no toolchain.

checks() {
    check 'make install: the service starts, man and journalctl -x know it, and the policy holds' installs_from_source
}

installs_from_source() {
    dpkg-deb -x "$SCRATCH"/repository/first/*.deb "$SCRATCH/built"
    make --silent -C "$SCRATCH/source" -f packaging/install.mk install \
        DESTDIR="$CONTAINER/root" BINARY="$SCRATCH/built/usr/sbin/ip-masq-agent"
    inside systemctl daemon-reload
    inside journalctl --update-catalog
    inside systemctl enable --now ip-masq-agent
    configure "$ORDINARY"
    inside systemctl reload ip-masq-agent
    policy_holds
    journal -x | grep -E '^(--|░░) Subject: '
    contains "$(inside man ip-masq-agent)" 'decide which traffic leaving this host is masqueraded'
    contains "$(inside man ip-masq-agent.yaml)" nonMasqueradeCIDRs
    inside systemctl stop ip-masq-agent
    no_traces
}
