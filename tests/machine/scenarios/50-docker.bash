# The docker daemon on the same gateway: it puts nat rules of its own in, in front of ours or behind them.

scenario_kind() {
    echo docker
}

checks() {
    check 'the package installs, and the service is ready beside docker' ready_beside_docker
    check 'docker starting and restarting under a stream: none with the wrong source' survives_docker
    check "docker's own rules are left alone" leaves_docker_alone
}

ready_beside_docker() {
    install_package
    steady
    policy_holds
}

# docker sets the policy of the forward chain to drop; its documented place for exceptions is DOCKER-USER.
survives_docker() {
    steady
    inside systemctl start docker
    inside iptables -I DOCKER-USER -j ACCEPT
    start_stream
    inside systemctl restart docker
    inside systemctl restart ip-masq-agent
    stop_stream
    policy_holds
}

leaves_docker_alone() {
    local before after
    before=$(inside iptables -t nat -S | grep -i docker)
    inside systemctl restart ip-masq-agent
    inside systemctl reload ip-masq-agent
    after=$(inside iptables -t nat -S | grep -i docker)
    equals "docker's nat rules" "$after" "$before"
    [ -n "$before" ]
    inside systemctl stop ip-masq-agent
    equals "docker's nat rules after a stop" "$(inside iptables -t nat -S | grep -i docker)" "$before"
    no_traces
}
