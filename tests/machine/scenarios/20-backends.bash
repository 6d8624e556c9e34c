# Everything the unit forbids, with every way to write rules.

checks() {
    check 'the package installs' install_package
    local backend
    for backend in iptables-nft iptables-legacy nftables; do
        BACKEND=$backend
        check "$backend works under the hardened unit" backend_works
        check "$backend: restart under a stream, none with the wrong source" backend_restarts
        check "$backend: a list of 200 prefixes works (ipset or set)" long_list_works
        check "$backend: stop removes every trace" backend_stops
    done
    check 'iptables-legacy: another program that holds the lock is waited for' waits_for_lock
    check 'from iptables to nftables by restart: no flow with the wrong source, nothing left' changes_backend
}

backend_works() {
    off
    # A fresh boot has no lock file.
    inside rm -f /run/xtables.lock
    configure "backend: $BACKEND"
    inside systemctl start ip-masq-agent
    policy_holds
    contains "$(inside ip-masq-agent status)" "$BACKEND"
    inside ip-masq-agent diff
    case $BACKEND in
        iptables-legacy) inside iptables-legacy -t nat -S IP-MASQ-AGENT ;;
        iptables-nft) inside iptables-nft -t nat -S IP-MASQ-AGENT ;;
        nftables) inside nft list table inet ip-masq-agent ;;
    esac
}

backend_restarts() {
    steady "backend: $BACKEND"
    start_stream
    inside systemctl restart ip-masq-agent
    inside systemctl restart ip-masq-agent
    stop_stream
}

long_list_works() {
    steady "backend: $BACKEND"
    configure "backend: $BACKEND
nonMasqueradeCIDRs:
$(for i in {0..199}; do echo "- 10.$i.0.0/17"; done)"
    start_stream
    inside systemctl reload ip-masq-agent
    stop_stream
    # 10.200.0.0/17 is the first network that the list does not exempt.
    reset_counters
    send_flows $PRIVATE 20
    wait_until 10 have_arrived 20 || true
    equals 'masqueraded to the private address' "$(arrived private-masqueraded)" 20
    configure "backend: $BACKEND
nonMasqueradeCIDRs:
$(for i in {0..200}; do echo "- 10.$i.0.0/17"; done)"
    inside systemctl reload ip-masq-agent
    policy_holds
    if [ "$BACKEND" != nftables ]; then
        inside ipset list -n | grep .
    fi
}

backend_stops() {
    steady "backend: $BACKEND"
    inside systemctl stop ip-masq-agent
    no_traces
    equals 'Result' "$(property Result)" success
}

waits_for_lock() {
    off
    configure 'backend: iptables-legacy'
    inside sh -c 'systemd-run --quiet --unit=lock-holder flock /run/xtables.lock sleep 3'
    inside systemctl start ip-masq-agent
    equals 'ActiveState' "$(property ActiveState)" active
    policy_holds
    inside systemctl stop ip-masq-agent
}

changes_backend() {
    off
    steady 'backend: iptables-nft'
    start_stream
    configure 'backend: nftables'
    inside systemctl restart ip-masq-agent
    stop_stream
    policy_holds
    inside nft list table inet ip-masq-agent
    fails inside iptables-nft -t nat -S IP-MASQ-AGENT
    inside systemctl stop ip-masq-agent
    no_traces
}
