# client (lan) ── gateway (the container) ── server (wan): three network namespaces without a way out.
# The server has no route back to the LAN, and counts by source address what reaches it.

LAN_CLIENT=192.168.50.2
LAN_GATEWAY=192.168.50.1
WAN_GATEWAY=192.0.2.1
WAN_SERVER=192.0.2.2
# Behind the server: one address that must be masqueraded towards, one that the default policy exempts.
PUBLIC=203.0.113.1
PRIVATE=10.200.0.1
PORT=9000

make_network() {
    local name
    for name in client gateway server; do
        [ ! -e /run/netns/$name ] || ip netns delete $name
        ip netns add $name && ip -n $name link set lo up || return
    done
    ip link add eth0 netns client type veth peer name lan0 netns gateway &&
        ip link add eth0 netns server type veth peer name wan0 netns gateway &&
        ip -n client addr add $LAN_CLIENT/24 dev eth0 &&
        ip -n client link set eth0 up &&
        ip -n client route add default via $LAN_GATEWAY &&
        ip -n server addr add $WAN_SERVER/24 dev eth0 &&
        ip -n server addr add $PUBLIC/32 dev lo &&
        ip -n server addr add $PRIVATE/32 dev lo &&
        ip -n server link set eth0 up || return
    ip netns exec server nft -f - <<NFT
table ip watch {
    counter public-masqueraded { }
    counter public-plain { }
    counter private-masqueraded { }
    counter private-plain { }
    chain arriving {
        type filter hook input priority filter; policy accept
        udp dport != $PORT accept
        ip daddr $PUBLIC ip saddr $WAN_GATEWAY counter name public-masqueraded
        ip daddr $PUBLIC ip saddr != $WAN_GATEWAY counter name public-plain
        ip daddr $PRIVATE ip saddr $WAN_GATEWAY counter name private-masqueraded
        ip daddr $PRIVATE ip saddr != $WAN_GATEWAY counter name private-plain
        drop
    }
}
NFT
}

# What the gateway's own networkd is told: it comes up at its place in the boot, after network-pre.target.
configure_gateway_network() {
    local root=$1
    mkdir -p "$root/etc/systemd/network"
    printf '[Match]\nName=lan0\n[Network]\nAddress=%s/24\n' $LAN_GATEWAY >"$root/etc/systemd/network/10-lan0.network"
    printf '[Match]\nName=wan0\n[Network]\nAddress=%s/24\n[Route]\nDestination=%s/32\nGateway=%s\n[Route]\nDestination=%s/32\nGateway=%s\n' \
        $WAN_GATEWAY $PUBLIC $WAN_SERVER $PRIVATE $WAN_SERVER >"$root/etc/systemd/network/10-wan0.network"
    echo 'net.ipv4.ip_forward = 1' >"$root/etc/sysctl.d/50-gateway.conf"
    systemctl --quiet --root="$root" enable systemd-networkd.service
}

# arrived COUNTER: packets since the last call of reset_counters.
arrived() {
    ip netns exec server nft list counter ip watch "$1" | awk '$1 == "packets" { print $2 }'
}

reset_counters() {
    ip netns exec server nft reset counters >/dev/null
}

# send_flows ADDRESS COUNT: each datagram from a socket of its own, which is a new flow.
send_flows() {
    ip netns exec client bash -c "for ((i = 0; i < $2; i++)); do echo x >/dev/udp/$1/$PORT; done" 2>/dev/null || true
}

# start_stream: new flows to the public address, about a thousand a second, until stop_stream.
start_stream() {
    reset_counters
    ip netns exec client bash -c "
        while :; do
            for i in {1..10}; do echo x >/dev/udp/$PUBLIC/$PORT; done
            sleep 0.01
        done" 2>/dev/null &
    echo $! >"$SCRATCH/stream"
}

# stop_stream: says how many flows arrived, fails when one of them had the wrong source or when there were none.
stop_stream() {
    local good bad
    kill "$(cat "$SCRATCH/stream")"
    wait "$(cat "$SCRATCH/stream")" 2>/dev/null || true
    good=$(arrived public-masqueraded) bad=$(arrived public-plain)
    note "$good flows, $bad with the wrong source"
    echo "$good flows masqueraded, $bad not"
    [ "$bad" = 0 ] && [ "$good" -gt 100 ]
}
