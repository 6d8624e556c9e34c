# What only a kernel with modules can show.

checks() {
    check 'the machine boots, the package installs' boots_and_installs
    passed || return
    local backend
    for backend in iptables-nft iptables-legacy nftables; do
        BACKEND=$backend LIST="[10.0.0.0/8]"
        check "$backend, no module loaded yet: works, and the open ssh session goes on" works_and_spares_session
    done
    BACKEND=iptables-nft LIST="[$(seq -s, -f '10.%g.0.0/17' 0 200)]"
    check 'iptables with ipset: the same' works_and_spares_session
    check 'enabled: the rules are in after a reboot' rules_after_reboot
    check "the session is a real one: the Go agent's rules cut it" go_rules_cut_session
}

boots_and_installs() {
    start_machine || { tail -n 30 "$SCRATCH/console" "$SCRATCH/qemu"; return 1; }
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq /root/ip-masq-agent.deb
    snapshot
    note "Linux $(inside uname -r)"
}

# netfilter_modules: those that rules need. systemd 252 itself loads ip_tables at boot, which makes no table and tracks
# nothing.
netfilter_modules() {
    inside sh -c "cut -d' ' -f1 /proc/modules | grep -E '^(nf_|nft_|ip_set|xt_|iptable_)' | sort | paste -sd' '"
}

nothing_is_loaded() {
    local modules
    modules=$(netfilter_modules)
    equals 'modules after boot' "$modules" ''
}

# The session comes from the LAN, a network that neither list exempts, and the kernel tracks no connection yet.
works_and_spares_session() {
    go_back
    configure "backend: $BACKEND
nonMasqueradeCIDRs: $LIST"
    nothing_is_loaded
    open_session
    session_speaks 'before anything was done'
    inside systemctl enable --now ip-masq-agent
    session_speaks 'with the rules in'
    policy_holds
    session_speaks 'after traffic'
    equals 'ActiveState' "$(property ActiveState)" active
    inside ip-masq-agent status
    loaded_what_it_needs
}

loaded_what_it_needs() {
    local need modules
    modules=$(netfilter_modules)
    echo "loaded: $modules"
    case $BACKEND in
        iptables-legacy) need=iptable_nat ;;
        *) need='nf_tables' ;;
    esac
    [[ $LIST != *,* ]] || need="$need ip_set xt_set"
    for need in $need nf_nat nf_conntrack; do
        [[ " $modules " == *" $need "* ]] || { echo "'$need' is not loaded"; return 1; }
    done
}

# The last that was started is enabled and stays so over a reboot.
rules_after_reboot() {
    reboot
    equals 'ActiveState' "$(property ActiveState)" active
    policy_holds
}

# The gateway is the one who speaks: its packet is the first that connection tracking sees, and looks like a new flow.
open_session() {
    coproc SESSION { over_ssh 'while echo tick; do sleep 0.2; done' 2>/dev/null; }
    # bash forgets its own descriptor when the session has ended.
    exec {TICKS}<&"${SESSION[0]}"
}

# session_speaks: after what had arrived before.
session_speaks() {
    local word
    while read -r -t 0.01 word <&"$TICKS"; do :; done
    read -r -t 20 word <&"$TICKS" || { echo "the open session is dead $1"; return 1; }
}

has_go_rules() {
    inside iptables -t nat -S IP-MASQ-AGENT
}

# Without this the checks above could pass because the session is not one that rules can cut.
go_rules_cut_session() {
    go_back
    nothing_is_loaded
    put_file /root/go.rules <<'RULES'
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
COMMIT
RULES
    open_session
    session_speaks 'before anything was done'
    # Detached: the session this comes over is cut as well.
    inside systemd-run --quiet sh -c 'sleep 2; iptables-restore --noflush /root/go.rules'
    wait_until 30 has_go_rules
    fails session_speaks 'with these rules'
}
