# The role in packaging/ansible, by the distribution's own ansible-core over ssh: three gateways, of which the third takes
# the .rpm, and a fourth container that has Ansible.

scenario_kind() {
    echo tools
}

GATEWAYS=(gateway second third)

checks() {
    if ! fleet_boots >"$SCRATCH/log" 2>&1; then
        verdict 'the fleet boots' FAILED 0
        return
    fi
    check 'the first run installs from the signed repository, by apt and dnf, and starts' installs_fleet
    check 'the second run changes nothing' changes_nothing
    check '--check of a change says changed, and changes nothing' foretells
    check 'ansible-doc lists the variables of the role' lists_variables
    check 'a bad value reaches no host' is_refused_everywhere
    check 'a change that the second can not take: it goes back, the third is not asked, the first is not confirmed' stops_there
    check 'a good one is tried on one after the other and then kept on all, also where another was left on trial' is_rolled_out
    check 'a change that brings a warning is taken back' is_taken_back
    check 'a trial that is over before anybody saw it do well has failed' is_too_late
    check 'a warning that was there before takes no change back, on whatever line it is now' keeps_old_warning
}

# Beside LAN and WAN of the first, a network for ssh.
fleet_boots() {
    local host number=10
    ip netns add control && ip -n control link add br0 type bridge && ip -n control addr add 192.168.60.1/24 dev br0 &&
        ip -n control link set br0 up && ip -n control link set lo up || return
    for host in "${GATEWAYS[@]}"; do
        number=$((number + 1))
        [ "$host" = gateway ] || { ip netns add "$host" && ip -n "$host" link set lo up; } || return
        ip link add "$host" netns control type veth peer name ssh0 netns "$host" &&
            ip -n control link set "$host" master br0 up && ip -n "$host" link set ssh0 up &&
            ip -n "$host" addr add "192.168.60.$number/24" dev ssh0 || return
        # A change turns IPv6 on: without it there would be a warning.
        ip netns exec "$host" sysctl --quiet --write net.ipv6.conf.all.forwarding=1 || return
    done
    for host in second third control; do
        use_host "$host" && start_container tools || return
    done
    for host in "${GATEWAYS[@]}" control; do
        use_host "$host" && inside systemctl stop prometheus prometheus-node-exporter || return
    done
    use_host control && prepare_control && use_host gateway
}

prepare_control() {
    local key host
    inside sh -c 'mkdir -p -m 700 /root/.ssh && ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519' || return
    key=$(cat "$CONTAINER/root/root/.ssh/id_ed25519.pub")
    cp -r "$TOP/packaging/ansible" "$CONTAINER/root/srv/ansible"
    put_file /srv/ansible/ansible.cfg <<'INI'
[defaults]
inventory = hosts
roles_path = roles
host_key_checking = false
interpreter_python = /usr/bin/python3
gathering = smart
fact_caching = jsonfile
fact_caching_connection = facts
[ssh_connection]
pipelining = true
ssh_args = -o ControlMaster=auto -o ControlPersist=10m
INI
    put_file /srv/ansible/hosts <<'INI'
[gateways]
gateway ansible_host=192.168.60.11
second ansible_host=192.168.60.12
third ansible_host=192.168.60.13
INI
    mkdir "$CONTAINER/root/srv/ansible/group_vars"
    put_file /srv/ansible/group_vars/gateways.yml <<'YAML'
ansible_user: root
ip_masq_agent_repository: file:///srv/repository/first/site
ip_masq_agent_repository_key: "{{ lookup('file', '/srv/repository/first/site/ip-masq-agent.asc') }}"
ip_masq_agent_config:
  nonMasqueradeCIDRs: [10.0.0.0/8]
ip_masq_agent_drop_ins:
  50-vpn: {nonMasqueradeCIDRs: [100.64.0.0/10]}
YAML
    # What a system has whose packages are .rpm; the last is what tells Ansible so.
    mkdir -p "$SCRATCH"/containers/third/root/etc/{pki/rpm-gpg,yum.repos.d}
    echo 'Red Hat Enterprise Linux release 9' >"$SCRATCH/containers/third/root/etc/redhat-release"
    for host in "${GATEWAYS[@]}"; do
        use_host "$host"
        rm -r "$CONTAINER"/root/etc/apt/keyrings/* "$CONTAINER"/root/etc/apt/sources.list.d/*
        mkdir -p -m 700 "$CONTAINER/root/root/.ssh" && put_file /root/.ssh/authorized_keys <<<"$key" || return
    done
}

# play ARGUMENT…: runs a playbook; what it says is kept for 'told'.
play() {
    local rc=0
    (use_host control && inside env --chdir=/srv/ansible HOME=/root LC_ALL=C.UTF-8 ansible-playbook "$@") >"$SCRATCH/played" || rc=$?
    cat "$SCRATCH/played"
    return $rc
}

# play_on ARGUMENT…: without a look at the repository; the package is there, and what it takes is time.
play_on() {
    play "$@" --extra-vars ip_masq_agent_repository=
}

# told HOST COUNT: of the last line about a host, one number.
told() {
    sed -n "/^PLAY RECAP/,\$s/^$1 .* $2=\([0-9]*\).*/\1/p" "$SCRATCH/played"
}

# everywhere COMMAND…: on each gateway.
everywhere() {
    local host
    for host in "${GATEWAYS[@]}"; do
        use_host "$host"
        "$@" || { echo "on $host: $*"; return 1; }
    done
    use_host gateway
}

# state: of the host, whatever a run could change.
state() {
    inside sh -c 'cd /etc/ip-masq-agent && find . -type f -exec sha256sum {} + | sort; iptables -t nat -S; ip6tables -t nat -S
        ip-masq-agent last-good; systemctl show --value --property=MainPID ip-masq-agent'
}

remember() {
    state >"$SCRATCH/state-$HOST"
}

is_as_remembered() {
    state | diff "$SCRATCH/state-$HOST" -
}

is_well() {
    inside ip-masq-agent status && inside ip-masq-agent diff &&
        equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" enabled
}

installs_fleet() {
    play site.yml
    everywhere is_well
    policy_holds
    (use_host second && inside dpkg-query -W ip-masq-agent)
    (use_host third && inside rpm -q ip-masq-agent && fails inside dpkg-query -W ip-masq-agent)
    contains "$(inside ip-masq-agent explain 100.64.1.1 --offline)" 50-vpn.yaml
    everywhere remember
}

changes_nothing() {
    play site.yml
    local host
    for host in "${GATEWAYS[@]}"; do
        equals "what changed on $host" "$(told "$host" changed)" 0
    done
    everywhere is_as_remembered
}

OTHER='{"ip_masq_agent_config": {"nonMasqueradeCIDRs": ["203.0.113.0/24"]}, "ip_masq_agent_drop_ins": {"50-vpn": {}}}'

foretells() {
    play_on site.yml --limit gateway --check --diff --extra-vars "$OTHER"
    # The main file, and the drop-in that goes.
    equals 'what would change' "$(told gateway changed)" 2
    is_as_remembered
}

lists_variables() {
    local text
    text=$(use_host control && inside env --chdir=/srv/ansible HOME=/root LC_ALL=C.UTF-8 ansible-doc -t role -r roles ip_masq_agent)
    contains "$text" ip_masq_agent_config
    contains "$text" ip_masq_agent_drop_ins
}

is_refused_everywhere() {
    fails play_on site.yml --extra-vars '{"ip_masq_agent_config": {"nonMasqueradeCIDRs": ["10.0.0.0/33"]}}'
    contains "$(cat "$SCRATCH/played")" 'config.yaml:3:3: nonMasqueradeCIDRs'
    local host
    for host in "${GATEWAYS[@]}"; do
        equals "failures on $host" "$(told "$host" failed)" 1
    done
    everywhere is_as_remembered
}

# What the second has of its own: a chain of the name that the change wants, in IPv6 only.
TAKEN='{"ip_masq_agent_config": {"enableIPv6": true, "masqChain": "SITE", "nonMasqueradeCIDRs": ["10.0.0.0/8", "fc00::/7"]}}'

stops_there() {
    (use_host second && inside sh -c 'ip6tables -t nat -N SITE && ip6tables -t nat -A SITE -j RETURN' && remember)
    fails play_on rollout.yml --extra-vars "$TAKEN"
    equals 'failures on the first' "$(told gateway failed)" 0
    equals 'failures on the second' "$(told second failed)" 1
    equals 'what was asked of the third' "$(told third ok)" ''
    contains "$(cat "$SCRATCH/played")" 'SITE'
    (use_host third && is_as_remembered)
    (use_host second && is_earlier_file && went_back)
    # The first has half an hour yet, if nobody ends it.
    [[ $(property StatusText) = trying* ]]
    inside iptables -t nat -S SITE
    inside systemctl restart ip-masq-agent
    went_back
}

# went_back: the earlier policy is in force, and nothing is on trial.
went_back() {
    [[ $(property StatusText) != trying* ]] && contains "$(inside iptables -t nat -S)" '-N IP-MASQ-AGENT' &&
        fails inside iptables -t nat -S SITE
}

is_rolled_out() {
    contains "$(inside ip-masq-agent status)" 'was tried and not confirmed'
    play_on rollout.yml --extra-vars "$OTHER"
    everywhere is_well
    everywhere inside test ! -e /etc/ip-masq-agent/config.d/50-vpn.yaml
    everywhere contains_last_good 203.0.113.0/24
    other_policy_holds
}

other_policy_holds() {
    reset_counters
    send_flows $PRIVATE 20
    wait_until 10 have_arrived 20 || true
    equals 'masqueraded to the private address' "$(arrived private-masqueraded)" 20
}

contains_last_good() {
    contains "$(inside ip-masq-agent last-good)" "$1"
}

# is_earlier_file: the main file is what it is on the third.
is_earlier_file() {
    equals 'the main file' "$(sha256sum <"$CONTAINER/root$CONFIG")" "$(sha256sum <"$SCRATCH/containers/third/root$CONFIG")"
}

is_taken_back() {
    fails play_on site.yml --limit gateway --extra-vars '{"ip_masq_agent_config": {"outInterfaces": ["wna0"]}}'
    contains "$(cat "$SCRATCH/played")" "no interface 'wna0' on this host"
    is_earlier_file
    inside ip-masq-agent diff
    other_policy_holds
}

# The second is degraded with it, and asked three seconds long whether it still is.
is_too_late() {
    fails play_on site.yml --limit second --extra-vars "$TAKEN" \
        --extra-vars '{"ip_masq_agent_try_timeout": "2s", "ip_masq_agent_confirm": false}'
    contains "$(cat "$SCRATCH/played")" 'was tried and not confirmed'
    (use_host second && is_earlier_file && inside ip-masq-agent diff)
}

# An interface that is on purpose not there, and then a key in front of it.
keeps_old_warning() {
    local absent='"outInterfaces": ["wan0", "ppp7"]' rest='"nonMasqueradeCIDRs": ["10.0.0.0/8"]'
    play_on site.yml --limit gateway --extra-vars "{\"ip_masq_agent_config\": {$absent, $rest}}" \
        --extra-vars '{"ip_masq_agent_refuse_warnings": false}'
    play_on site.yml --limit gateway --extra-vars "{\"ip_masq_agent_config\": {$rest, $absent}}"
    contains "$(inside ip-masq-agent status)" "no interface 'ppp7' on this host"
    inside ip-masq-agent diff
}
