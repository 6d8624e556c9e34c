# What dpkg can do to a package at the wrong moment.

checks() {
    check 'from a version with the long conffile, edited, and back as documented: nothing is asked, no flow with the wrong source' crosses_versions
    check 'installed, never started, removed: the rules of a Go agent are as they were' spares_go_agent
    check 'its preset keeps it disabled' preset_disables
    check 'the first start, /etc and /var/lib read-only: rules are in, the journal says what is not saved' starts_read_only
    check 'upgrade of a failed service, downgrade of a stopped one: both go through and start nothing' spares_resting
    check 'a deleted configuration file stays deleted over an upgrade, the last good policy stays' keeps_deleted
    check 'an upgrade broken off half-way and resumed: no flow with the wrong source' resumes_upgrade
    check 'an upgrade broken off half-way, then remove: stopped, and nothing in the kernel' removes_half_upgraded
    check 'removed and installed again: the old configuration, enabled as before' comes_back
    check "removal inside a chroot takes nothing out of this gateway's kernel" spares_host_of_chroot
    check 'purge while it runs leaves nothing' purges_running
}

crosses_versions() {
    unattended dpkg --install /srv/repository/earlier/ip-masq-agent_0.0.9-1_"$(inside dpkg --print-architecture)".deb
    inside grep -F 'only the earlier version' $CONFIG
    steady
    use_repository first
    apt update
    start_stream
    unattended apt-get install -y ip-masq-agent
    fails contains "$(version)" 0.0.9
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
    unattended sh -c 'apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /srv/repository/earlier/*.deb'
    contains "$(version)" 0.0.9
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
    unattended apt-get install -y ip-masq-agent
    stop_stream
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
    # And from one that was not edited.
    apt purge ip-masq-agent
    unattended dpkg --install /srv/repository/earlier/ip-masq-agent_0.0.9-1_"$(inside dpkg --print-architecture)".deb
    unattended apt-get install -y ip-masq-agent
    apt purge ip-masq-agent >"$SCRATCH/purged" 2>&1
    # Debian 12 calls the directory of presets /lib/systemd/system-preset, and would say that the other name of it is not empty.
    [ "$SUITE" = bookworm ] || fails grep -F 'not empty' "$SCRATCH/purged"
    fails inside test -e /etc/ip-masq-agent
}

spares_go_agent() {
    go_agent_rules
    local before
    before=$(inside iptables -t nat -S)
    install_package
    apt remove ip-masq-agent
    equals 'the rules' "$(inside iptables -t nat -S)" "$before"
    inside iptables -t nat -F
    inside iptables -t nat -X
}

preset_disables() {
    install_package
    inside systemctl preset ip-masq-agent
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
    inside systemctl preset-all
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
}

starts_read_only() {
    configure "$ORDINARY"
    local directory
    for directory in /etc /var/lib; do
        inside mount --bind $directory $directory
        inside mount -o remount,bind,ro $directory
    done
    inside systemctl start ip-masq-agent || true
    unmount /etc /var/lib
    policy_holds
    journal | grep -F "can't write '/var/lib/ip-masq-agent"
}

# later: the package becomes the later version; earlier: back.
later() {
    use_repository second
    apt update
    apt install ip-masq-agent
    contains "$(inside dpkg-query -W -f '${Version}' ip-masq-agent)" later
}

earlier() {
    inside sh -c 'dpkg --install /srv/repository/first/ip-masq-agent_*.deb'
    use_repository first
    rm -rf "$CONTAINER/root/var/lib/apt/lists/"*
    apt update
}

stays_inactive() {
    equals 'ActiveState' "$(property ActiveState)" "$1"
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
    no_traces
}

spares_resting() {
    off
    configure 'nonMasqueradeCIDRs: [10.0.0.0/8'
    fails inside systemctl start ip-masq-agent
    later
    stays_inactive failed
    inside systemctl reset-failed ip-masq-agent
    earlier
    stays_inactive inactive
}

keeps_deleted() {
    off
    steady
    inside rm $CONFIG
    later
    fails inside test -e $CONFIG
    policy_holds
    contains "$(property StatusText)" "degraded: configuration file '$CONFIG' is gone"
    earlier
    steady
}

# breaks_off: dpkg unpacks the later version and is killed before it configures it.
breaks_off() {
    steady
    inside sh -c 'dpkg --unpack /srv/repository/second/ip-masq-agent_*.deb'
    contains "$(inside dpkg --audit)" ip-masq-agent
    equals 'ActiveState' "$(property ActiveState)" active
}

resumes_upgrade() {
    local pid
    start_stream
    breaks_off
    pid=$(property MainPID)
    inside dpkg --configure --pending
    [ "$(property MainPID)" != "$pid" ]
    stop_stream
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
    policy_holds
    earlier
}

removes_half_upgraded() {
    breaks_off
    apt remove ip-masq-agent
    fails inside pgrep --exact ip-masq-agent
    no_traces
}

comes_back() {
    install_package
    steady
    inside systemctl enable ip-masq-agent
    apt remove ip-masq-agent
    install_package
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" enabled
    equals 'ActiveState' "$(property ActiveState)" inactive
    steady
}

# As when an administrator makes an image for another machine on this gateway.
spares_host_of_chroot() {
    steady 'onStop: keep'
    inside systemctl stop ip-masq-agent
    local before
    before=$(our_traces)
    [ -n "$before" ]
    inside sh -c 'mkdir /overlay && mount -t tmpfs overlay /overlay && mkdir /overlay/upper /overlay/work /overlay/root'
    inside mount -t overlay overlay -o lowerdir=/,upperdir=/overlay/upper,workdir=/overlay/work /overlay/root
    inside chroot /overlay/root dpkg --purge ip-masq-agent
    fails inside test -e /overlay/root/usr/sbin/ip-masq-agent
    equals 'what is in the kernel' "$(our_traces)" "$before"
    unmount /overlay/root /overlay
    steady
}

purges_running() {
    steady
    apt purge ip-masq-agent
    equals 'what is left' "$(inside find / -xdev -iname '*ip-masq-agent*' \
        -not -path '/proc/*' -not -path '/srv/*' -not -path '/etc/apt/*' -not -path '/var/lib/apt/*' -not -path '/var/cache/apt/*' \
        -not -path '/var/log/*' -not -path '/var/cache/man/*' -not -path '/run/systemd/*')" ''
    no_traces
}
