# What the unit keeps the service, and every tool that it runs, from doing.

checks() {
    check 'the package installs' install_package
    check 'the sandbox: nothing written elsewhere, nothing loaded, nothing gained' sandbox_holds
    check 'the sandbox: what the service has to read and write it can' sandbox_lets_through
    check 'a runtime directory that is removed while it runs comes back; reload and status work' runtime_directory_returns
}

# probe SCRIPT: runs each of its lines in the sandbox of the service, before the service, and prints those that succeeded.
probe() {
    local lines
    # Before anything else reads from there.
    lines=$(cat)
    off >/dev/null
    configure "$ORDINARY"
    put_file /usr/local/sbin/probe <<'SCRIPT'
while read -r line; do
    if sh -c "$line" >/dev/null 2>&1; then echo "$line"; fi
done </usr/local/sbin/probe-lines >/run/ip-masq-agent/done
SCRIPT
    put_file /usr/local/sbin/probe-lines <<<"$lines"
    inside install -m 600 -o nobody /dev/null /usr/local/etc/of-another-user
    drop_in $'[Service]\nExecStartPre=/bin/sh /usr/local/sbin/probe'
    inside systemctl start ip-masq-agent
    inside cat /run/ip-masq-agent/done
    inside systemctl stop ip-masq-agent
    drop_in
}

sandbox_holds() {
    local done
    done=$(probe <<'LINES'
touch /etc/probe
touch /usr/probe
touch /var/lib/probe
touch /run/systemd/system/probe.service
touch /home/probe
ls /root/.
mount -t tmpfs tmpfs /mnt
unshare --user true
unshare --net true
unshare --mount true
mknod /run/ip-masq-agent/device c 1 3
cat /dev/kmsg
dmesg
modprobe dummy
hostname probe
date --set 12:00
echo 1 >/proc/sys/net/ipv4/tcp_ecn
cp /bin/true /run/ip-masq-agent/true && chmod u+s /run/ip-masq-agent/true
cat /proc/1/environ
readlink /proc/1/exe
chown 1000 /run/ip-masq-agent
cat /usr/local/etc/of-another-user
setpriv --reuid 65534 true
perl -e 'socket(S, 17, 3, 768) or exit 1'
LINES
) || return
    equals 'what was done in the sandbox' "$done" ''
}

sandbox_lets_through() {
    local lines done
    lines='touch /var/lib/ip-masq-agent/probe
rm /var/lib/ip-masq-agent/probe
touch /run/xtables.lock
cat /proc/1/comm
cat /proc/1/status
cat /proc/sys/net/ipv4/tcp_ecn
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 0 >/proc/sys/net/ipv4/conf/lo/route_localnet
iptables-legacy -t nat -S
cat /proc/net/ip_tables_names
iptables-nft -t nat -S
ipset list'
    done=$(probe <<<"$lines") || return
    equals 'what was done in the sandbox' "$done" "$lines"
}

runtime_directory_returns() {
    steady
    inside mv /run/ip-masq-agent /run/gone
    wait_until 10 inside ip-masq-agent status
    inside systemctl reload ip-masq-agent
    fails inside ip-masq-agent run --once
    contains "$(journal)" 'both are there again'
    equals 'the mode of the runtime directory' "$(inside stat --format %a /run/ip-masq-agent)" 755
    inside systemctl stop ip-masq-agent
    inside rm -r /run/gone
    no_traces
}
