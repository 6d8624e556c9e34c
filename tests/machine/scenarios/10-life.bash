# The life of the package on a gateway, from installation to purge.

checks() {
    check 'apt refuses packages and indices that were changed, and a repository that another key signed' refuses_changed
    check 'apt installs it from a signed repository' installs
    check 'the installation neither enables nor starts it, and changes no rule' stays_off
    check 'enable --now: ready within two seconds, with the rules in' becomes_ready
    check 'systemctl status shows what the service says' shows_status
    check 'public destinations are masqueraded, private ones are not' policy_holds
    check 'systemd has nothing to say about the installed unit, exposure at most 2.0' unit_is_sound
    check 'the process has two capabilities, a filter and no new privileges' is_confined
    check 'a good reload succeeds and changes where new flows go' reloads
    check 'explain names the line that keeps a source' explains
    check 'a bad reload fails, says where, and keeps the rules' refuses_reload
    check 'the journal has fields, a MESSAGE_ID and the catalog text' journal_explains
    check 'flushed rules come back, and the journal says so' repairs_flush
    check 'nftables.service restarting beside it (flush ruleset) is survived' survives_nftables_service
    check 'restart under a stream of new flows: none with the wrong source' restarts_gaplessly
    check 'kill -9 under a stream: started again, none with the wrong source' survives_kill
    check 'SIGSTOP under a stream: the watchdog ends it, none with the wrong source' watchdog_bites
    check 'upgrade under a stream: none with the wrong source, the edited configuration is kept' upgrades_gaplessly
    check 'a storm of daemon-reload while it restarts does no harm' survives_daemon_reloads
    check 'downgrade works the same' downgrades
    check 'stop removes every trace from the kernel' stops_clean
    check 'reboot: rules are in before the network, no flow with the wrong source' reboots
    check 'remove takes the rules out even with onStop: keep' removes
    check 'purge leaves nothing behind' purges
}

# What a mirror could do that has no key.
refuses_changed() {
    local site=$SCRATCH/repository/first/site mirror=$SCRATCH/repository/mirror sources=$CONTAINER/root/etc/apt/sources.list.d/ip-masq-agent.sources
    use_repository first
    cp -a "$site" "$mirror"
    sed -i 's,/first/site,/mirror,' "$sources"
    printf x >>"$(ls "$mirror"/apt/pool/*.deb)"
    apt update
    fails apt install ip-masq-agent
    sed -i 's/^Size: .*/Size: 1/' "$mirror/apt/dists/stable/main"/binary-*/Packages
    rm "$mirror/apt/dists/stable/main"/binary-*/Packages.gz
    rm -rf "$CONTAINER/root/var/lib/apt/lists/"*
    fails apt update
    cp "$SCRATCH/repository/second/site/ip-masq-agent.asc" "$CONTAINER/root/etc/apt/keyrings/"
    sed -i 's,/mirror,/first/site,' "$sources"
    fails apt update -o APT::Update::Error-Mode=any
    fails inside dpkg -s ip-masq-agent
}

installs() {
    install_package
    inside test -x /usr/sbin/ip-masq-agent
    inside dpkg -V ip-masq-agent
}

stays_off() {
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
    equals 'ActiveState' "$(property ActiveState)" inactive
    no_traces
}

becomes_ready() {
    local took
    inside systemctl enable --now ip-masq-agent
    # Of the start alone: systemctl and its connection take as long as the machine is busy.
    took=$((($(property ActiveEnterTimestampMonotonic) - $(property InactiveExitTimestampMonotonic)) / 1000))
    note "$took ms"
    [ $took -le 2000 ]
    equals 'ActiveState' "$(property ActiveState)" active
    # The moment systemctl comes back there is no flow that escapes.
    policy_holds
    inside ip-masq-agent status
}

shows_status() {
    local text
    text=$(property StatusText)
    [ -n "$text" ]
    contains "$(inside systemctl status ip-masq-agent)" "Status: \"$text\""
}

unit_is_sound() {
    inside systemd-analyze security --threshold=20 --no-pager ip-masq-agent.service >"$SCRATCH/exposure"
    tail -n1 "$SCRATCH/exposure"
    note "$(grep -o 'Overall exposure.*' "$SCRATCH/exposure" | grep -o '[0-9]\.[0-9]')"
    equals 'what verify says' "$(inside systemd-analyze verify ip-masq-agent.service 2>&1 | grep -F ip-masq-agent)" ''
}

is_confined() {
    local status
    status=$(inside cat "/proc/$(property MainPID)/status")
    # CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13.
    contains "$status" $'CapBnd:\t0000000000003000'
    contains "$status" $'CapEff:\t0000000000003000'
    contains "$status" $'NoNewPrivs:\t1'
    contains "$status" $'Seccomp:\t2'
}

reloads() {
    steady
    reload_takes_effect
}

explains() {
    steady
    inside ip-masq-agent explain $PRIVATE.1 $PUBLIC.1 >"$SCRATCH/explained"
    cat "$SCRATCH/explained"
    grep -F "$CONFIG:1" "$SCRATCH/explained"
}

refuses_reload() {
    local pid
    steady
    pid=$(property MainPID)
    configure "nonMasqueradeCIDRs: [10.0.0.0/8, 192.168.1.1/16]"
    fails inside systemctl reload ip-masq-agent
    policy_holds
    equals 'MainPID' "$(property MainPID)" "$pid"
    equals 'ActiveState' "$(property ActiveState)" active
    contains "$(journal)" "$CONFIG:1:34"
    contains "$(inside systemctl status --full ip-masq-agent)" "$CONFIG:1:34"
    # It comes from the service alone; the reload command writes nothing of it once more.
    contains "$(journal _TRANSPORT=journal)" '192.168.1.1/16]'
    fails contains "$(journal _TRANSPORT=stdout)" "$CONFIG:1:34"
    fails inside ip-masq-agent status
    steady
    inside ip-masq-agent status
}

journal_explains() {
    journal -o verbose | grep -E '^ +MESSAGE_ID=[0-9a-f]{32}$'
    inside journalctl --list-catalog | grep -i masq
    # 'journalctl -x' puts the catalog text below its message, each line behind '-- ' or two dots.
    journal -x | grep -E '^(--|░░) Subject: '
}

repairs_flush() {
    local begin
    steady
    inside nft flush ruleset
    begin=$(date +%s%N)
    wait_until 10 masquerades
    note "$((($(date +%s%N) - begin) / 1000000)) ms"
    policy_holds
    wait_until 5 journal_names nft
}

journal_names() {
    journal | grep -E "changed by $1\[?"
}

survives_nftables_service() {
    steady
    inside systemctl start nftables.service
    inside systemctl restart nftables.service
    wait_until 10 masquerades
    policy_holds
    inside systemctl stop nftables.service
    wait_until 10 masquerades
}

restarts_gaplessly() {
    steady
    start_stream
    for _ in {1..5}; do inside systemctl restart ip-masq-agent; done
    stop_stream
    policy_holds
}

has_restarted() {
    [ "$(property NRestarts)" -gt "$1" ] && [ "$(property ActiveState)" = active ]
}

survives_kill() {
    local before
    steady
    before=$(property NRestarts)
    start_stream
    inside kill -KILL "$(property MainPID)"
    wait_until 15 has_restarted "$before"
    stop_stream
    policy_holds
}

watchdog_bites() {
    local before
    steady
    drop_in $'[Service]\nWatchdogSec=1s'
    inside systemctl restart ip-masq-agent
    before=$(property NRestarts)
    start_stream
    inside kill -STOP "$(property MainPID)"
    wait_until 20 has_restarted "$before"
    stop_stream
    journal | grep -iE 'watchdog'
}

upgrades_gaplessly() {
    local pid
    steady
    pid=$(property MainPID)
    use_repository second
    apt update
    start_stream
    apt upgrade
    stop_stream
    contains "$(version)" later
    [ "$(property MainPID)" != "$pid" ]
    equals 'ActiveState' "$(property ActiveState)" active
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
    equals 'the configuration directory' "$(inside ls /etc/ip-masq-agent)" $'config.d\nconfig.yaml'
    inside grep -F "$LATER_LINE" /usr/share/doc/ip-masq-agent/config.yaml
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" enabled
}

survives_daemon_reloads() {
    steady
    start_stream
    inside sh -c 'for i in 1 2 3 4 5 6 7 8; do systemctl daemon-reload & done; systemctl restart ip-masq-agent; wait'
    stop_stream
    equals 'ActiveState' "$(property ActiveState)" active
}

downgrades() {
    steady
    use_repository first
    rm -rf "$CONTAINER/root/var/lib/apt/lists/"*
    apt update
    start_stream
    unattended apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold \
        "ip-masq-agent=$(inside apt-cache madison ip-masq-agent | awk '$3 !~ /later/ { print $3; exit }')"
    stop_stream
    fails contains "$(version)" later
    equals 'ActiveState' "$(property ActiveState)" active
}

stops_clean() {
    steady
    inside systemctl stop ip-masq-agent
    no_traces
    equals 'ActiveState' "$(property ActiveState)" inactive
    inside systemctl start ip-masq-agent
}

# A namespace of its own for the next boot: a machine that reboots forgets its rules.
reboots() {
    steady
    power_off
    make_network
    start_stream
    boot
    stop_stream
    equals 'ActiveState' "$(property ActiveState)" active
    local ready network
    ready=$(property ActiveEnterTimestampMonotonic)
    network=$(inside systemctl show --value --property=ActiveEnterTimestampMonotonic network-pre.target)
    echo "service ready at $ready us, network-pre.target at $network us"
    [ "$network" -gt 0 ] && [ "$ready" -le "$network" ]
    fails sh -c "nsenter -t $(leader) -a journalctl -b --no-pager | grep -i 'ordering cycle'"
    policy_holds
}

removes() {
    steady 'onStop: keep'
    inside systemctl stop ip-masq-agent
    [ -n "$(our_traces)" ]
    inside systemctl start ip-masq-agent
    apt remove ip-masq-agent
    no_traces
    fails inside test -e /usr/sbin/ip-masq-agent
    # A removed package keeps its configuration.
    inside test -e $CONFIG
}

purges() {
    apt purge ip-masq-agent
    equals 'what is left' "$(inside find / -xdev -iname '*ip-masq-agent*' \
        -not -path '/proc/*' -not -path '/srv/*' -not -path '/etc/apt/*' -not -path '/var/lib/apt/*' -not -path '/var/cache/apt/*' \
        -not -path '/var/log/*' -not -path '/var/cache/man/*' -not -path '/run/systemd/*')" ''
    no_traces
}
