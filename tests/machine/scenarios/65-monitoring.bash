# A real Prometheus reads what a real node_exporter reads what the timer writes.

scenario_kind() {
    echo tools
}

PROM=/var/lib/prometheus/node-exporter/ip-masq-agent.prom
EXAMPLES=/usr/share/doc/ip-masq-agent/examples/monitoring

checks() {
    check 'the package installs beside Prometheus; its timer is off' installs_beside_prometheus
    check 'enable --now of the timer: metrics are there, and promtool has nothing to say' writes_metrics
    check 'systemd has nothing to say about the units of the metrics, exposure at most 2.0' metrics_unit_is_sound
    check 'Prometheus sees flows, and a repair as one' sees_repair
    check 'each query of the dashboard is answered' answers_dashboard
    check 'a directory that is read-only or gone: the unit fails, says why, and the old metrics stay' says_read_only
    check 'a drop-in of the guide: the metrics are where another node_exporter looks' writes_elsewhere
    check 'a service that is dead is down, and its alert is due' sees_dead
    check 'remove takes timer and metrics along' removes_metrics
}

# query EXPRESSION: the values of an instant query, one per line.
query() {
    inside promtool query instant http://127.0.0.1:9090 "$1" | sed -n 's/.*=> \([^ ]*\) @.*/\1/p'
}

has() {
    [ "$(query "$1")" = "$2" ]
}

# As soon as a minute would have passed.
write_metrics() {
    inside systemctl start ip-masq-agent-metrics.service
}

installs_beside_prometheus() {
    install_package
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent-metrics.timer || true)" disabled
    inside systemctl preset-all
    equals 'is-enabled after preset-all' "$(inside systemctl is-enabled ip-masq-agent-metrics.timer || true)" disabled
    fails inside test -e $PROM
    put_file /etc/prometheus/prometheus.yml <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$EXAMPLES/alerts.yml]
scrape_configs:
  - job_name: node
    static_configs: [{targets: ["127.0.0.1:9100"]}]
YAML
    inside promtool check config /etc/prometheus/prometheus.yml
    # They may have been told to wait for a network that is not there.
    inside systemctl restart prometheus prometheus-node-exporter
}

is_written() {
    [ -s "$CONTAINER/root$PROM" ]
}

writes_metrics() {
    steady 'nonMasqueradeCIDRs: [10.0.0.0/8]
egress: [{name: guests, sourceCIDRs: [192.168.60.0/24], snat: none}]
portForwards: [{hostPort: 8080, address: 192.168.50.2, port: 80}]'
    inside systemctl enable --now ip-masq-agent-metrics.timer
    wait_until 10 is_written
    inside sh -c "promtool check metrics <$PROM"
    equals 'mode and owner' "$(inside stat -c '%a %U' $PROM)" '644 root'
    equals 'what is beside it' "$(inside ls "$(dirname $PROM)")" ip-masq-agent.prom
    wait_until 20 has 'ip_masq_agent_up' 1
    note "$(inside sh -c "grep -vc '^#' $PROM") samples"
}

metrics_unit_is_sound() {
    inside systemd-analyze security --threshold=20 --no-pager ip-masq-agent-metrics.service >"$SCRATCH/exposure"
    tail -n1 "$SCRATCH/exposure"
    equals 'what verify says' \
        "$(inside systemd-analyze verify ip-masq-agent-metrics.timer ip-masq-agent-metrics.service 2>&1 | grep -F ip-masq-agent)" ''
    # Two lines every half minute would be all that is in the journal.
    fails sh -c "nsenter -t $(leader) -a journalctl --boot --no-pager | grep -F \"Metrics of ip-masq-agent for\""
}

repaired_again() {
    write_metrics
    has 'sum(ip_masq_agent_repairs_total)' "$1"
}

sees_repair() {
    local before
    send_flows $PUBLIC 5
    send_flows $PRIVATE 3
    write_metrics
    wait_until 20 has 'ip_masq_agent_flows_total{family="IPv4",verdict="masqueraded"} >= bool 5' 1
    wait_until 20 has 'ip_masq_agent_rule_flows_total{family="IPv4",rule="exempt"}' 3
    before=$(query 'sum(ip_masq_agent_repairs_total)')
    inside iptables -t nat -F
    wait_until 10 masquerades
    wait_until 20 repaired_again $((before + 1))
}

# With what Grafana would put in for its variables.
answers_dashboard() {
    local queries expression count=0 silent=''
    # shellcheck disable=SC2016
    queries=$(sed -n 's/^ *"expr": "\(.*\)",$/\1/p' "$CONTAINER/root$EXAMPLES/dashboard.json" |
        sed 's/\\"/"/g; s/\$instance/.*/g; s/\$__rate_interval/1m/g')
    [ -n "$queries" ]
    while IFS= read -r expression; do
        count=$((count + 1))
        [ -n "$(query "$expression" </dev/null)" ] || silent="$silent
$expression"
    done <<<"$queries"
    [ -z "$silent" ] || { echo "no answer to:$silent"; return 1; }
    note "$count queries"
}

# The text is that of the guide; systemctl edit puts it where this does, and wants a terminal.
writes_elsewhere() {
    local other=/var/lib/node_exporter/textfile drop_in=$CONTAINER/root/etc/systemd/system/ip-masq-agent-metrics.service.d
    mkdir -p "$drop_in" "$CONTAINER/root$other"
    sed -n '/^```ini$/,/^```$/{/^```/!p}' "$TOP/docs/monitoring.md" >"$drop_in/override.conf"
    grep -F "$other" "$drop_in/override.conf"
    inside systemctl daemon-reload
    write_metrics
    inside sh -c "promtool check metrics <$other/ip-masq-agent.prom"
    contains "$(inside systemctl status ip-masq-agent-metrics.service || true)" 'override.conf'
    rm -r "$drop_in"
    inside systemctl daemon-reload
    write_metrics
}

metrics_failed() {
    contains "$(journal_of ip-masq-agent-metrics)" "$1"
}

says_read_only() {
    local before directory
    directory=$(dirname $PROM)
    inside systemctl stop ip-masq-agent-metrics.timer
    before=$(inside cat $PROM)
    inside sh -c "mount --bind $directory $directory && mount -o remount,bind,ro $directory"
    fails write_metrics
    unmount "$directory"
    metrics_failed "cannot create $PROM.new: Read-only file system"
    equals 'the metrics' "$(inside cat $PROM)" "$before"
    inside mv "$directory" "$directory.away"
    fails write_metrics
    inside mv "$directory.away" "$directory"
    metrics_failed "cannot create $PROM.new: Directory nonexistent"
    inside mount -t tmpfs -o size=4k full "$directory"
    fails write_metrics
    unmount "$directory"
    metrics_failed 'No space left on device'
    write_metrics
    inside systemctl start ip-masq-agent-metrics.timer
}

sees_dead() {
    inside systemctl stop ip-masq-agent
    write_metrics
    wait_until 20 has ip_masq_agent_up 0
    wait_until 20 has 'ALERTS{alertname="IpMasqAgentDown"}' 1
    equals 'the plugin' "$(inside ip-masq-agent status --nagios || true)" 'IP-MASQ-AGENT CRITICAL - the service is not running'
}

removes_metrics() {
    apt remove ip-masq-agent
    fails inside systemctl is-active ip-masq-agent-metrics.timer
    fails inside test -e $PROM
}
