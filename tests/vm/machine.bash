# The gateway: one virtual machine at a time, on a disk made from a root filesystem, on the bridges of its namespace.
# A snapshot brings it back within seconds to the moment when it had booted and nothing had asked for a rule.

DISK=$SCRATCH/disk
KEY=$SCRATCH/key
MONITOR=$SCRATCH/monitor

# inside COMMAND…: as root, over ssh from the client's side of the network.
inside() {
    over_ssh "$(printf '%q ' "$@")"
}

over_ssh() {
    ip netns exec client ssh -F none -i "$KEY" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR -o ConnectTimeout=10 -o ServerAliveInterval=5 root@$LAN_GATEWAY "$@"
}

# put_file PATH: with the text on standard input.
put_file() {
    over_ssh "cat >$1"
}

journal_since() {
    inside journalctl --quiet --no-pager --no-hostname --since="@$1" --unit=ip-masq-agent </dev/null
}

# start_machine: on a fresh disk of the suite, with the package lying ready in /root.
start_machine() {
    local root deb
    deb=$(ls -t "$TOP"/dist/*.deb 2>/dev/null | head -n1)
    [ -n "$deb" ] || { echo "no .deb in $TOP/dist: 'make deb' makes one"; return 1; }
    root=$(unpack_rootfs "$SUITE" vm) || return
    cp "$deb" "$root/root/ip-masq-agent.deb"
    configure_gateway_network "$root"
    # The kernel's own names: nothing renames the interfaces of this machine.
    sed -i 's/^Name=lan0/Name=eth0/; s/^Name=wan0/Name=eth1/' "$root"/etc/systemd/network/10-*.network
    [ -e "$KEY" ] || ssh-keygen -q -t ed25519 -N '' -f "$KEY"
    install -d -m 0700 "$root/root/.ssh" && install -m 0600 "$KEY.pub" "$root/root/.ssh/authorized_keys"
    cp "$root"/boot/vmlinuz-* "$SCRATCH/kernel" && cp "$root"/boot/initrd.img-* "$SCRATCH/initrd" || return
    rm -f "$DISK"* && mkfs.ext4 -q -F -d "$root" "$DISK.raw" 3G && rm -rf "$root" &&
        qemu-img convert -O qcow2 "$DISK.raw" "$DISK" && rm "$DISK.raw" || return
    make_network && attach_bridges && run_qemu && wait_until 180 is_up
}

attach_bridges() {
    local side
    for side in lan wan; do
        ip -n gateway link add br-$side type bridge &&
            ip netns exec gateway ip tuntap add tap-$side mode tap &&
            ip -n gateway link set ${side}0 master br-$side up &&
            ip -n gateway link set tap-$side master br-$side up &&
            ip -n gateway link set br-$side up || return
    done
}

accelerator() {
    if "$TOP/packaging/lab/can-virtualize"; then
        echo '-accel kvm -cpu host'
    else
        # QEMU 7.2 gets cmpxchg16b wrong with more than one thread; Linux 6.12 panics.
        echo '-accel tcg,thread=multi -cpu max,-cx16'
    fi
}

run_qemu() {
    rm -f "$MONITOR".* && mkfifo "$MONITOR.in" "$MONITOR.out" || return
    # shellcheck disable=SC2046 # a list of words
    ip netns exec gateway qemu-system-x86_64 $(accelerator) -machine q35 -m 768 -smp 2 -display none -monitor "pipe:$MONITOR" \
        -serial "file:$SCRATCH/console" -device virtio-rng-pci \
        -kernel "$SCRATCH/kernel" -initrd "$SCRATCH/initrd" \
        -append 'root=/dev/vda rw console=ttyS0 quiet mitigations=off net.ifnames=0' \
        -drive "file=$DISK,format=qcow2,if=virtio,cache=unsafe" \
        -netdev tap,id=lan,ifname=tap-lan,script=no,downscript=no -device virtio-net-pci,netdev=lan,romfile= \
        -netdev tap,id=wan,ifname=tap-wan,script=no,downscript=no -device virtio-net-pci,netdev=wan,romfile= \
        </dev/null >"$SCRATCH/qemu" 2>&1 &
    echo $! >"$SCRATCH/qemu-pid"
    # Nothing is asked of what the monitor says, but it must be able to say it.
    cat "$MONITOR.out" >>"$SCRATCH/qemu" &
}

is_up() {
    kill -0 "$(cat "$SCRATCH/qemu-pid")" || return
    case $(inside systemctl is-system-running </dev/null) in
        running | degraded) return 0 ;;
        *) return 1 ;;
    esac
}

boot_id() {
    inside cat /proc/sys/kernel/random/boot_id </dev/null
}

is_up_again() {
    local now
    now=$(boot_id) && [ "$now" != "$1" ] && is_up
}

# reboot: no module that the boot itself does not need is loaded afterwards.
reboot() {
    local before
    before=$(boot_id)
    inside systemctl reboot || true
    wait_until 120 is_up_again "$before"
}

# snapshot: of a machine that has booted and done nothing since that a check looks at.
snapshot() {
    echo 'savevm booted' >"$MONITOR.in"
    wait_until 60 is_up
}

is_untouched() {
    inside test ! -e /run/touched </dev/null
}

# go_back: to the snapshot. An answer may come from before until the mark is gone.
go_back() {
    inside touch /run/touched
    echo 'loadvm booted' >"$MONITOR.in"
    wait_until 60 is_untouched
}

stop_machine() {
    [ -e "$SCRATCH/qemu-pid" ] || return 0
    kill "$(cat "$SCRATCH/qemu-pid")" 2>/dev/null
    wait "$(cat "$SCRATCH/qemu-pid")" 2>/dev/null
    rm -f "$SCRATCH/qemu-pid"
}
