# firewalld on the same gateway. Version 1 wipes the nat chains of iptables-nft when it reloads, restarts or stops.

scenario_kind() {
    echo firewalld
}

checks() {
    check 'the package installs beside a running firewalld' installs_beside
    local backend
    for backend in iptables-nft nftables; do
        BACKEND=$backend
        check "$backend: ready beside firewalld" ready_beside
        check "$backend: firewall-cmd --reload is survived" survives_reload
        check "$backend: a restart of firewalld is survived" survives_restart
        check "$backend: a stop of firewalld is survived" survives_stop
        check "$backend: a zone that masquerades what is exempt is told, until the recipe's commands end it" zone_stops_masquerading
    done
    check 'nftables, tableOwner: persist: reload, restart and flush ruleset pass our table by' owned_is_passed_by
    check 'at boot the service starts after firewalld' boots_after
}

# Without zones in the way: what is looked at is whether nat rules survive, not what firewalld filters.
installs_beside() {
    inside systemctl start firewalld
    inside firewall-cmd --quiet --permanent --zone=trusted --add-interface=lan0 --add-interface=wan0
    inside firewall-cmd --quiet --reload
    install_package
}

ready_beside() {
    inside systemctl start firewalld
    off
    steady "backend: $BACKEND"
    policy_holds
}

survives_reload() {
    steady "backend: $BACKEND"
    inside firewall-cmd --quiet --reload
    wait_until 10 masquerades
    policy_holds
    inside ip-masq-agent status
}

survives_restart() {
    steady "backend: $BACKEND"
    inside systemctl restart firewalld
    wait_until 10 masquerades
    policy_holds
}

survives_stop() {
    steady "backend: $BACKEND"
    inside systemctl stop firewalld
    wait_until 10 masquerades
    policy_holds
}

# The zone external masquerades as it is shipped; the recipe's commands are the lines of the guide.
zone_stops_masquerading() {
    local commands command
    mapfile -t commands < <(grep '^firewall-cmd ' "$TOP/docs/recipes.md")
    equals 'the number of commands in the recipe' "${#commands[@]}" 2
    inside systemctl reset-failed firewalld
    inside systemctl start firewalld
    steady "backend: $BACKEND"
    inside firewall-cmd --quiet --permanent --zone=external --add-masquerade
    inside firewall-cmd --quiet --permanent --zone=trusted --remove-interface=wan0
    inside firewall-cmd --quiet --permanent --zone=external --add-interface=wan0
    inside firewall-cmd --quiet --reload
    wait_until 10 masquerades
    reset_counters
    send_flows $PRIVATE 20
    wait_until 10 have_arrived 20 || true
    equals 'masqueraded to the private address' "$(arrived private-masqueraded)" 20
    contains "$(inside ip-masq-agent explain $PRIVATE.7 --from $LAN_CLIENT)" 'masquerade as'
    contains "$(inside ip-masq-agent check --host || true)" 'masquerade'
    for command in "${commands[@]}"; do
        # shellcheck disable=SC2086
        inside $command
    done
    wait_until 10 masquerades
    policy_holds
    contains "$(inside ip-masq-agent explain $PRIVATE.7 --from $LAN_CLIENT)" 'keep source'
    inside firewall-cmd --quiet --permanent --zone=external --remove-interface=wan0
    inside firewall-cmd --quiet --permanent --zone=trusted --add-interface=wan0
    inside firewall-cmd --quiet --reload
}

# Handles are never given twice: the same ones mean that nobody took the table away and nobody put it back.
owned_is_passed_by() {
    # systemd counts how often we start it.
    inside systemctl reset-failed firewalld
    inside systemctl start firewalld
    steady $'backend: nftables\ntableOwner: persist'
    local before after
    before=$(owned_table)
    inside firewall-cmd --quiet --reload
    inside systemctl reset-failed firewalld
    inside systemctl restart firewalld
    inside nft flush ruleset
    after=$(owned_table)
    grep -q 'handle' <<<"$before" || return
    diff <(echo "$before") <(echo "$after") || return
    policy_holds
}

owned_table() {
    inside nft --handle list table inet ip-masq-agent | sed 's/packets [0-9]* bytes [0-9]*//'
}

boots_after() {
    inside systemctl enable firewalld ip-masq-agent
    power_off
    make_network
    boot
    wait_until 10 masquerades
    policy_holds
    local ours theirs
    ours=$(inside systemctl show --value --property=ExecMainStartTimestampMonotonic ip-masq-agent)
    theirs=$(inside systemctl show --value --property=ActiveEnterTimestampMonotonic firewalld)
    echo "firewalld active at $theirs us, ours started at $ours us"
    [ "$theirs" -gt 0 ] && [ "$ours" -ge "$theirs" ]
}
