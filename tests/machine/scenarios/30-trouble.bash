# What goes wrong on real machines.

checks() {
    check 'the package installs over a broken configuration, dpkg has nothing left to do' installs_over_broken
    check 'with a broken configuration from the start: exit 78, no restart loop, the place is named' broken_start
    check 'a broken configuration later: the next start runs with the last good policy' last_good_policy
    check 'CAP_NET_ADMIN withheld: no READY, a clear error' without_capability
    check 'a Go agent left rules behind: taken over, one chain in the end' over_go_agent
    check 'a masked unit: upgrade goes through, the service stays off' masked
    check 'neither iptables nor nft installed: runs on nftables in process' without_tools
    check 'a full state directory: the rules hold, the journal says what could not be saved' full_disk
    check 'remove while it runs, without a systemctl stop before' remove_running
}

dpkg_is_clean() {
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
}

installs_over_broken() {
    inside mkdir -p /etc/ip-masq-agent
    printf 'nonMasqueradeCIDRs: [10.0.0.0/8\n' >"$CONTAINER/root$CONFIG"
    use_repository first
    apt update
    apt -o Dpkg::Options::=--force-confold install ip-masq-agent
    dpkg_is_clean
}

broken_start() {
    fails inside systemctl start ip-masq-agent
    equals 'ExecMainStatus' "$(property ExecMainStatus)" 78
    equals 'ActiveState' "$(property ActiveState)" failed
    equals 'NRestarts' "$(property NRestarts)" 0
    contains "$(journal)" "$CONFIG:"
    # What 'systemctl status' shows of it.
    contains "$(property StatusText)" "failed: $CONFIG:"
    fails inside ip-masq-agent check
    no_traces
    inside systemctl reset-failed ip-masq-agent
}

last_good_policy() {
    off
    steady
    policy_holds
    configure 'nonMasqueradeCIDRs: [10.0.0.0/8'
    start_stream
    inside systemctl restart ip-masq-agent
    stop_stream
    policy_holds
    equals 'ActiveState' "$(property ActiveState)" active
    contains "$(property StatusText)" degraded
    steady
    inside ip-masq-agent status
}

without_capability() {
    off
    configure "$ORDINARY"
    drop_in $'[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_NET_RAW\nRestart=no'
    fails inside systemctl start ip-masq-agent
    equals 'ActiveState' "$(property ActiveState)" failed
    journal | grep -i -e CAP_NET_ADMIN -e 'not permitted' -e 'permission'
    no_traces
    drop_in
    inside systemctl reset-failed ip-masq-agent
}

over_go_agent() {
    off
    configure "$ORDINARY"
    go_agent_rules
    inside systemctl start ip-masq-agent
    policy_holds
    equals 'jumps to our chain' "$(inside iptables -t nat -S POSTROUTING | grep -c -- '-j IP-MASQ-AGENT')" 1
    inside systemctl stop ip-masq-agent
    no_traces
}

masked() {
    off
    configure "$ORDINARY"
    inside systemctl mask ip-masq-agent
    use_repository second
    apt update
    apt upgrade
    dpkg_is_clean
    equals 'ActiveState' "$(property ActiveState)" inactive
    inside systemctl unmask ip-masq-agent
    inside systemctl start ip-masq-agent
    policy_holds
    inside systemctl stop ip-masq-agent
}

without_tools() {
    off
    configure "$ORDINARY"
    # As after 'apt purge iptables nftables ipset', but undone at the end.
    inside sh -c 'mkdir /root/tools && for each in /usr/sbin/*tables* /usr/sbin/nft /usr/sbin/ipset; do mv "$each" /root/tools/; done'
    inside systemctl start ip-masq-agent
    contains "$(inside ip-masq-agent status)" nftables
    policy_holds
    inside systemctl stop ip-masq-agent
    inside sh -c 'mv /root/tools/* /usr/sbin/'
    no_traces
}

full_disk() {
    off
    configure "$ORDINARY"
    drop_in $'[Service]\nTemporaryFileSystem=/var/lib/ip-masq-agent:size=4k,nr_inodes=1'
    inside systemctl start ip-masq-agent
    policy_holds
    journal | grep -iE 'last good|state'
    inside systemctl stop ip-masq-agent
    drop_in
}

remove_running() {
    steady
    apt remove ip-masq-agent
    no_traces
    dpkg_is_clean
}
