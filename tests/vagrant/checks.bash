# What is asked of the three machines, in this order: each check begins where the one before has ended.

CONFIG=/etc/ip-masq-agent/config.yaml
CLIENT_ADDRESS=192.168.50.2
GATEWAY_ADDRESS=192.0.2.254
PUBLIC=203.0.113.1
EXEMPT=10.200.0.1

checks() {
    check 'three machines come up, the package is installed' machines_come_up
    passed || return
    check 'installing neither enables nor starts it, no flow is masqueraded' stays_off
    check 'enable --now over ssh: ready, and a session that was open goes on' enables
    check 'the server sees the gateway, and where exempt the client' default_policy_holds
    check 'an edit and a reload change what the server sees' edit_and_reload
    check 'a bad edit fails the reload, the policy stays' bad_edit
    check 'the gateway reboots: the same policy again' reboots
    check 'purge: nothing is left, no flow is masqueraded' purges
}

# on MACHINE COMMAND: as root, over one connection per machine.
on() {
    ssh -F "$SCRATCH/ssh" -o ControlMaster=auto -o ControlPersist=yes -o ControlPath="$SCRATCH/%n" \
        -o ConnectTimeout=20 -o ServerAliveInterval=5 "$1" "sudo bash -c $(printf '%q' "$2")" </dev/null
}

journal_since() {
    [ ! -s "$SCRATCH/ssh" ] || on gateway "journalctl --quiet --no-pager --no-hostname --since=@$1 --unit=ip-masq-agent"
}

hang_up() {
    ssh -F "$SCRATCH/ssh" -o ControlPath="$SCRATCH/%n" -O exit "$1" 2>/dev/null || true
}

equals() {
    [ "$2" = "$3" ] || { echo "$1 is '$2', expected '$3'"; return 1; }
}

fails() {
    if "$@"; then
        echo "this should have failed: $*"
        return 1
    fi
}

# sources ADDRESS: from five connections of the client, the different sources that the server saw.
sources() {
    on client "for i in 1 2 3 4 5; do timeout 20 bash -c 'cat </dev/tcp/$1/7777' || echo none; done" | sort -u | paste -sd' '
}

server_sees() {
    equals "the source towards $PUBLIC" "$(sources $PUBLIC)" "$1"
    equals "the source towards $EXEMPT" "$(sources $EXEMPT)" "$2"
}

machines_come_up() {
    if [ -n "${LAB_BOX_FILE:-}" ]; then
        vagrant box add --name "$LAB_BOX" "$LAB_BOX_FILE"
    fi
    vagrant up --provider=libvirt
    vagrant ssh-config >"$SCRATCH/ssh"
    on gateway 'ip-masq-agent --version'
    note "$(on gateway 'ip-masq-agent --version; uname -r' | paste -sd' ')"
}

stays_off() {
    equals 'is-enabled' "$(on gateway 'systemctl is-enabled ip-masq-agent || true')" disabled
    equals 'is-active' "$(on gateway 'systemctl is-active ip-masq-agent || true')" inactive
    server_sees $CLIENT_ADDRESS $CLIENT_ADDRESS
}

# The session comes from a network that this policy masquerades towards, and the kernel does not track connections yet.
enables() {
    on gateway "echo 'nonMasqueradeCIDRs: [10.0.0.0/8]' >$CONFIG"
    coproc SESSION { ssh -F "$SCRATCH/ssh" gateway 'while echo tick; do sleep 0.2; done' 2>/dev/null; }
    # bash forgets its own descriptor when the session has ended.
    exec {TICKS}<&"${SESSION[0]}"
    session_speaks 'before anything was done'
    on gateway 'systemctl enable --now ip-masq-agent'
    session_speaks 'with the rules in'
    equals 'is-active' "$(on gateway 'systemctl is-active ip-masq-agent')" active
    on gateway 'ip-masq-agent status'
}

# session_speaks: after what had arrived before. The gateway speaks first, so that its packet looks like a new flow.
session_speaks() {
    local word
    while read -r -t 0.01 word <&"$TICKS"; do :; done
    read -r -t 30 word <&"$TICKS" || { echo "the open session is dead $1"; return 1; }
}

default_policy_holds() {
    server_sees $GATEWAY_ADDRESS $CLIENT_ADDRESS
}

edit_and_reload() {
    on gateway "echo 'nonMasqueradeCIDRs: [203.0.113.0/24]' >$CONFIG && ip-masq-agent check && systemctl reload ip-masq-agent"
    server_sees $CLIENT_ADDRESS $GATEWAY_ADDRESS
}

bad_edit() {
    on gateway "cp $CONFIG /root/good.yaml && echo 'nonMasqueradeCIDRs: [203.0.113.1/24]' >$CONFIG"
    fails on gateway 'systemctl reload ip-masq-agent'
    on gateway "journalctl -b -u ip-masq-agent | grep -F '$CONFIG:1:22'"
    server_sees $CLIENT_ADDRESS $GATEWAY_ADDRESS
    on gateway "cp /root/good.yaml $CONFIG && systemctl reload ip-masq-agent"
}

boot_id() {
    on gateway 'cat /proc/sys/kernel/random/boot_id'
}

has_rebooted() {
    hang_up gateway
    local now
    now=$(boot_id) && [ "$now" != "$1" ] && on gateway 'systemctl is-active lab-routes'
}

reboots() {
    local before
    before=$(boot_id)
    on gateway 'systemctl reboot' || true
    hang_up gateway
    wait_until 180 has_rebooted "$before"
    equals 'is-active' "$(on gateway 'systemctl is-active ip-masq-agent')" active
    server_sees $CLIENT_ADDRESS $GATEWAY_ADDRESS
    on gateway 'ip-masq-agent status'
}

purges() {
    case $LAB_FAMILY in
        deb) on gateway 'DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq ip-masq-agent' ;;
        rpm) on gateway 'dnf remove -y -q ip-masq-agent && rm -rf /etc/ip-masq-agent' ;;
    esac
    local left
    left=$(on gateway "find / -xdev -iname '*ip-masq-agent*' -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/log/*' \
        -not -path '/var/lib/apt/*' -not -path '/var/cache/*' -not -path '/run/systemd/*'")
    equals 'what is left' "$left" ''
    server_sees $CLIENT_ADDRESS $CLIENT_ADDRESS
}
