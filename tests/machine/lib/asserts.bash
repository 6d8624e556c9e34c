# What checks ask. Each says what it saw when it is not what was expected.

CONFIG=/etc/ip-masq-agent/config.yaml
# The policy that the checks of traffic expect. Not the shipped text, so that an upgrade has an edited file to keep.
ORDINARY='nonMasqueradeCIDRs: [10.0.0.0/8] # edited'

# property NAME: of the unit.
property() {
    inside systemctl show --value --property="$1" ip-masq-agent.service
}

# equals WHAT FOUND EXPECTED
equals() {
    [ "$2" = "$3" ] || { echo "$1 is '$2', expected '$3'"; return 1; }
}

# contains TEXT PATTERN: fixed string.
contains() {
    grep -qF -- "$2" <<<"$1" || { printf 'no "%s" in:\n%s\n' "$2" "$1"; return 1; }
}

fails() {
    if "$@"; then
        echo "this should have failed: $*"
        return 1
    fi
}

# journal ARGUMENT…: of the unit, all of this boot.
journal() {
    journal_of ip-masq-agent "$@"
}

# journal_of UNIT ARGUMENT…: with what was said until now.
journal_of() {
    inside journalctl --sync
    inside journalctl --no-pager --boot --unit="$1" "${@:2}"
}

# our_traces: every rule, chain, set and table of ours in the kernel, of every backend.
our_traces() {
    inside sh -c '
        nft list tables | grep ip-masq-agent
        iptables-nft-save -t nat 2>/dev/null | grep -i -e IP-MASQ -e ip-masq
        ip6tables-nft-save -t nat 2>/dev/null | grep -i -e IP-MASQ -e ip-masq
        grep -qx nat /proc/net/ip_tables_names 2>/dev/null && iptables-legacy-save -t nat | grep -i -e IP-MASQ -e ip-masq
        ipset list -n 2>/dev/null | grep -i ip-masq
        true' 2>/dev/null
}

no_traces() {
    local traces
    traces=$(our_traces)
    [ -z "$traces" ] || { printf 'still in the kernel:\n%s\n' "$traces"; return 1; }
}

# policy_holds: new flows to the public address are masqueraded, to the private one not.
policy_holds() {
    reset_counters
    send_flows $PUBLIC 20
    send_flows $PRIVATE 20
    wait_until 10 have_arrived 40 || true
    equals 'masqueraded to the public address' "$(arrived public-masqueraded)" 20
    equals 'plain to the public address' "$(arrived public-plain)" 0
    equals 'masqueraded to the private address' "$(arrived private-masqueraded)" 0
    equals 'plain to the private address' "$(arrived private-plain)" 20
}

# masquerades: one new flow to the public network is.
masquerades() {
    reset_counters
    send_flows $PUBLIC 1
    [ "$(arrived public-masqueraded)" = 1 ]
}

# configure TEXT: the whole main file.
configure() {
    printf '%s\n' "$1" | put_file $CONFIG
}

# drop_in TEXT, or none to remove it.
drop_in() {
    local directory=$CONTAINER/root/etc/systemd/system/ip-masq-agent.service.d
    rm -rf "$directory"
    if [ -n "${1:-}" ]; then
        mkdir -p "$directory"
        printf '%s\n' "$1" >"$directory/50-test.conf"
    fi
    inside systemctl daemon-reload
}

# reload_takes_effect: a policy that is the reverse of the ordinary one, and the ordinary one again.
reload_takes_effect() {
    configure "nonMasqueradeCIDRs: [203.0.113.0/24]"
    inside systemctl reload ip-masq-agent
    reset_counters
    send_flows $PUBLIC 20
    send_flows $PRIVATE 20
    wait_until 10 have_arrived 40 || true
    equals 'plain to the public address' "$(arrived public-plain)" 20
    equals 'masqueraded to the private address' "$(arrived private-masqueraded)" 20
    configure "$ORDINARY"
    inside systemctl reload ip-masq-agent
    policy_holds
}

# version: of the installed .deb.
version() {
    inside dpkg-query -W -f '${Version}' ip-masq-agent
}

# go_agent_rules: what a Go agent leaves in the kernel.
go_agent_rules() {
    inside iptables-restore --noflush <<'RULES'
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
COMMIT
RULES
}

install_package() {
    use_repository first
    apt update
    apt install ip-masq-agent
}

# steady [CONFIGURATION]: where a check begins, whatever the one before has left: the service runs with it and is healthy.
steady() {
    configure "${1:-$ORDINARY}"
    if [ -e "$CONTAINER/root/etc/systemd/system/ip-masq-agent.service.d" ]; then drop_in; fi
    if [ "$(property ActiveState)" = active ]; then
        inside systemctl reload ip-masq-agent
    else
        inside systemctl reset-failed ip-masq-agent 2>/dev/null || true
        inside systemctl start ip-masq-agent
    fi
}

# off: the same, but the service does not run and nothing of it is left.
off() {
    if [ -e "$CONTAINER/root/etc/systemd/system/ip-masq-agent.service.d" ]; then drop_in; fi
    inside systemctl stop ip-masq-agent
    inside systemctl reset-failed ip-masq-agent 2>/dev/null || true
    inside ip-masq-agent flush
    inside rm -rf /var/lib/ip-masq-agent
}
