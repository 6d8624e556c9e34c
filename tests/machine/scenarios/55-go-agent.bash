# A Go agent that lives beside us. Its part is played by two: a Go program of its name (the container daemon, renamed), and
# a shell that writes its rules every second, as it does every minute.

scenario_kind() {
    echo docker
}

checks() {
    check 'the package installs beside a live Go agent and leaves its rules alone' installs_beside_agent
    check 'enable --now fails, names the process, and leaves its rules alone' refuses_to_start
    check 'when the Go agent has stopped, the service comes up by itself and takes its chain over' takes_over
    check 'a Go agent that starts later: degraded, its process named, flows still masqueraded' degraded_beside_agent
    check 'and healthy again, the chain ours, at the resync after it has stopped' healthy_without_agent
}

AGENT_RULES='*nat
:IP-MASQ-AGENT - [0:0]
-A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
COMMIT'
AGENT_JUMP='POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT'

start_agent() {
    put_file /root/agent-rules <<<"$AGENT_RULES"
    put_file /root/agent-rules.sh <<SCRIPT
iptables -w -t nat -N IP-MASQ-AGENT
while sleep 1; do
    iptables -w -t nat -C $AGENT_JUMP || iptables -w -t nat -A $AGENT_JUMP
    iptables-restore -w --noflush </root/agent-rules
done
SCRIPT
    inside sh -ec '
        mkdir -p /opt/go && cp /usr/bin/containerd /opt/go/ip-masq-agent
        systemd-run --quiet --unit=go-agent /opt/go/ip-masq-agent \
            --address /run/go-agent.sock --root /run/go-agent/root --state /run/go-agent/state
        systemd-run --quiet --unit=go-agent-rules sh /root/agent-rules.sh'
    wait_until 10 agent_has_written
}

stop_agent() {
    inside systemctl stop go-agent go-agent-rules
}

# The Go agents write no rule for multicast; ours do.
agent_has_written() {
    local rules
    rules=$(inside iptables -t nat -S)
    [ "$(grep -c -- '-A IP-MASQ-AGENT' <<<"$rules")" = 3 ] && grep -q -- '-A POSTROUTING.*-j IP-MASQ-AGENT' <<<"$rules"
}

agent_pid() {
    inside systemctl show --value --property=MainPID go-agent
}

installs_beside_agent() {
    start_agent
    install_package
    agent_has_written
    masquerades
}

refuses_to_start() {
    configure "$ORDINARY"
    start_stream
    fails inside systemctl enable --now ip-masq-agent
    stop_stream
    contains "$(journal)" "process $(agent_pid)"
    agent_has_written
}

is_active() {
    [ "$(property ActiveState)" = active ]
}

takes_over() {
    start_stream
    stop_agent
    wait_until 20 is_active
    stop_stream
    policy_holds
    equals 'jumps to our chain' "$(inside iptables -t nat -S POSTROUTING | grep -c -- '-j IP-MASQ-AGENT')" 1
    fails agent_has_written
    inside ip-masq-agent status
    inside ip-masq-agent diff
}

is_degraded() {
    property StatusText | grep -F degraded
}

degraded_beside_agent() {
    configure "resyncInterval: 2s
$ORDINARY"
    inside systemctl reload ip-masq-agent
    start_stream
    start_agent
    wait_until 20 is_degraded
    stop_stream
    contains "$(property StatusText)" "process $(agent_pid)"
}

is_healthy() {
    inside ip-masq-agent status >/dev/null
}

# A process that ends tells nobody: the next resync sees it.
healthy_without_agent() {
    start_stream
    stop_agent
    wait_until 10 is_healthy
    stop_stream
    inside ip-masq-agent diff
    policy_holds
    inside systemctl stop ip-masq-agent
    no_traces
}
