# Containers of systemd-nspawn, each on an overlay of a root filesystem. The functions are about one at a time: the gateway,
# unless a scenario has others besides.

# use_host NAME: from now on they are about this one, whose network is the namespace of its name.
use_host() {
    HOST=$1
    CONTAINER=$SCRATCH/containers/$1
}
use_host gateway

leader() {
    cat "$CONTAINER/leader"
}

# inside COMMAND…: as a unit of the container's systemd, so with the container's capabilities and cgroup and not ours.
# systemd-run would expand variables in the arguments; a doubled dollar sign is one.
inside() {
    nsenter -t "$(leader)" -a systemd-run --quiet --wait --pipe --collect -- "${@//\$/\$\$}"
}

# put_file PATH: with the text on standard input.
put_file() {
    cat >"$CONTAINER/root$1"
}

# unmount PATH…: inside, each as soon as nothing has a file open there. In /etc, every program that is being started has one for
# a moment: the cache of ld.so.
unmount() {
    local path
    for path in "$@"; do
        wait_until 10 inside umount "$path" || { echo "$path stays mounted"; return 1; }
    done
}

# start_container KIND: a fresh one, booted.
start_container() {
    local lower
    lower=$(unpack_rootfs "$SUITE" "$1") || return
    mkdir -p "$CONTAINER/"{upper,work,root}
    mount -t overlay overlay -o "lowerdir=$lower,upperdir=$CONTAINER/upper,workdir=$CONTAINER/work" "$CONTAINER/root" || return
    prepare_root "$CONTAINER/root" && boot
}

prepare_root() {
    # Packages come from the local repository alone; where its keys are kept is the site's.
    rm -f "$1/etc/apt/sources.list" "$1"/etc/apt/sources.list.d/*
    mkdir -p "$1/srv/repository" "$1/var/log/journal"
    # It would set up a host that nobody has described.
    [ ! -d "$1/etc/cloud" ] || touch "$1/etc/cloud/cloud-init.disabled"
    use_repository first
    configure_gateway_network "$1"
}

# boot [SECONDS]: starts the container on what its disk holds now, and waits until systemd says that it is up.
boot() {
    local hierarchy
    for hierarchy in unified systemd; do
        [ -d /sys/fs/cgroup/$hierarchy ] && mkdir -p "/sys/fs/cgroup/$hierarchy/$(cgroup)"
    done
    [ -d /sys/fs/cgroup/unified ] || mkdir -p "/sys/fs/cgroup/$(cgroup)"
    (
        for hierarchy in /unified /systemd ''; do
            procs="/sys/fs/cgroup$hierarchy/$(cgroup)/cgroup.procs"
            [ ! -e "$procs" ] || echo "$BASHPID" >"$procs"
        done
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network
        exec setsid systemd-nspawn --quiet --directory="$CONTAINER/root" --machine="$HOST-$SUITE" --hostname="$HOST" --register=no --keep-unit --boot \
            --console=read-only --network-namespace-path="/run/netns/$HOST" --capability=CAP_NET_ADMIN \
            --bind-ro="$SCRATCH/repository:/srv/repository" </dev/null >"$CONTAINER/console" 2>&1
    ) &
    echo $! >"$CONTAINER/nspawn"
    wait_until "${1:-30}" is_up || { tail -n 20 "$CONTAINER/console"; return 1; }
}

# One cgroup per container: two in one would share the cgroups of their units.
cgroup() {
    echo "ip-masq-agent-machine-$$-$HOST"
}

is_up() {
    local pid
    kill -0 "$(cat "$CONTAINER/nspawn")" || return
    pid=$(pgrep -P "$(cat "$CONTAINER/nspawn")" | head -n1)
    [ -n "$pid" ] || return
    echo "$pid" >"$CONTAINER/leader"
    case $(nsenter -t "$pid" -a systemctl is-system-running 2>/dev/null) in
        running | degraded) return 0 ;;
        *) return 1 ;;
    esac
}

is_down() {
    ! kill -0 "$(cat "$CONTAINER/nspawn")" 2>/dev/null
}

# power_off: as an administrator would; by force only after that failed.
power_off() {
    [ -e "$CONTAINER/nspawn" ] || return 0
    # The connection may break off before the answer; what counts is that the container goes down.
    [ ! -e "$CONTAINER/leader" ] || nsenter -t "$(leader)" -a systemctl poweroff 2>/dev/null || true
    # The death of systemd-nspawn alone leaves what runs inside alive.
    wait_until 20 is_down || kill -KILL "$(leader)" "$(cat "$CONTAINER/nspawn")" 2>/dev/null || true
    wait "$(cat "$CONTAINER/nspawn")" 2>/dev/null || true
    rm -f "$CONTAINER/nspawn" "$CONTAINER/leader"
}

stop_container() {
    power_off
    local hierarchy
    for hierarchy in /unified /systemd ''; do
        [ ! -d "/sys/fs/cgroup$hierarchy/$(cgroup)" ] ||
            find "/sys/fs/cgroup$hierarchy/$(cgroup)" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    ! mountpoint -q "$CONTAINER/root" || umount "$CONTAINER/root"
    rm -rf "$CONTAINER"
}

# stop_containers: whichever there are.
stop_containers() {
    local container
    for container in "$SCRATCH"/containers/*/; do
        [ ! -d "$container" ] || { use_host "$(basename "$container")" && stop_container; }
    done
    use_host gateway
}

journal_since() {
    [ ! -e "$CONTAINER/leader" ] || nsenter -t "$(leader)" -a journalctl --quiet --no-pager --no-hostname \
        --since="@$1" --unit=ip-masq-agent
}
