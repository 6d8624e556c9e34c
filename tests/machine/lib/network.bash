# client (lan) ── gateway (the container) ── server (wan): three network namespaces without a way out.
# The server has no route back to the LAN, and counts by source address what reaches it.

LAN_CLIENT=192.168.50.2
LAN_GATEWAY=192.168.50.1
WAN_GATEWAY=192.0.2.1
WAN_SERVER=192.0.2.2
# Behind the server: networks that must be masqueraded towards, and that the ordinary policy exempts.
PUBLIC=203.0.113
PRIVATE=10.200.0

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
        ip -n server route add local $PUBLIC.0/24 dev lo &&
        ip -n server route add local $PRIVATE.0/24 dev lo &&
        ip -n server link set eth0 up || return
    ip netns exec server nft -f - <<NFT
table ip watch {
    counter public-masqueraded { }
    counter public-plain { }
    counter private-masqueraded { }
    counter private-plain { }
    chain arriving {
        type filter hook input priority filter; policy accept
        meta l4proto != udp accept
        ip daddr $PUBLIC.0/24 ip saddr $WAN_GATEWAY counter name public-masqueraded
        ip daddr $PUBLIC.0/24 ip saddr != $WAN_GATEWAY counter name public-plain
        ip daddr $PRIVATE.0/24 ip saddr $WAN_GATEWAY counter name private-masqueraded
        ip daddr $PRIVATE.0/24 ip saddr != $WAN_GATEWAY counter name private-plain
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
    printf '[Match]\nName=wan0\n[Network]\nAddress=%s/24\n[Route]\nDestination=%s.0/24\nGateway=%s\n[Route]\nDestination=%s.0/24\nGateway=%s\n' \
        $WAN_GATEWAY $PUBLIC $WAN_SERVER $PRIVATE $WAN_SERVER >"$root/etc/systemd/network/10-wan0.network"
    echo 'net.ipv4.ip_forward = 1' >"$root/etc/sysctl.d/50-gateway.conf"
    systemctl --quiet --root="$root" enable systemd-networkd.service
}

# arrived COUNTER: packets since the last call of reset_counters.
arrived() {
    ip netns exec server nft list counter ip watch "$1" | awk '$1 == "packets" { print $2 }'
}

# have_arrived COUNT: on all counters together. A virtual machine forwards when it gets to it.
have_arrived() {
    [ "$(ip netns exec server nft list counters table ip watch | awk '$1 == "packets" { all += $2 } END { print all }')" -ge "$1" ]
}

reset_counters() {
    ip netns exec server nft reset counters >/dev/null
}

# flows NETWORK FIRST COUNT: a script that sends datagrams, each from a socket of its own to an address and port that no
# other flow of this run has: an entry that conntrack remembers from before a change must not be hit by chance.
flows() {
    echo "for ((i = $2; i < $2 + $3; i++)); do echo x >/dev/udp/$1.\$((1 + i % 250))/\$((1024 + i / 250 % 64000)); done"
}

# claim COUNT: the first of so many numbers that are nobody else's.
claim() {
    local first=0
    [ ! -e "$SCRATCH/claimed" ] || first=$(cat "$SCRATCH/claimed")
    echo $((first + $1)) >"$SCRATCH/claimed"
    echo "$first"
}

# send_flows NETWORK COUNT
send_flows() {
    ip netns exec client bash -c "$(flows "$1" "$(claim "$2")" "$2")" 2>/dev/null || true
}

# start_stream: new flows to the public network, about a thousand a second, until stop_stream.
start_stream() {
    reset_counters
    ip netns exec client bash -c "
        for ((n = $(claim 1000000); ; n += 10)); do
            $(flows $PUBLIC '$n' 10)
            sleep 0.01
        done" 2>/dev/null &
    echo $! >"$SCRATCH/stream"
}

end_stream() {
    [ -e "$SCRATCH/stream" ] || return 0
    kill "$(cat "$SCRATCH/stream")" || true
    wait "$(cat "$SCRATCH/stream")" 2>/dev/null || true
    rm "$SCRATCH/stream"
}

flows_arrive() {
    [ "$(arrived public-masqueraded)" -gt 200 ]
}

# stop_stream: says how many flows arrived, fails when one of them had the wrong source or when there were too few.
stop_stream() {
    local good bad
    wait_until 15 flows_arrive || true
    end_stream
    good=$(arrived public-masqueraded) bad=$(arrived public-plain)
    note "$good flows, $bad with the wrong source"
    echo "$good flows masqueraded, $bad not"
    [ "$bad" = 0 ] && [ "$good" -gt 200 ]
}
