# A /var without a block or an inode to spare. It is a small tmpfs here; what is in it is what was in /var before.

checks() {
    check 'apt into a full /var fails; with room again it goes through' installs_with_room
    check 'first start over a full /var: ready, rules in, says what could not be saved' starts
    check 'a reload over a full /var is applied' reload_takes_effect
    check 'restarts over a full /var under a stream: none with the wrong source' restarts_full
    check 'with room again, the policy is saved and the service healthy' recovers
    check 'an upgrade into a full /var fails and harms nothing; with room again it goes through' upgrades_with_room
}

small_var() {
    inside sh -ec '
        cp -a /var /root/var
        mount -t tmpfs -o mode=755,size=400m,nr_inodes=30000 var /var
        cp -a /root/var/. /var/
        rm -rf /root/var
        systemctl restart systemd-journald'
}

# Bounded by the size of the tmpfs.
fill_var() {
    inside sh -c 'mkdir /var/filler; seq 30000 | (cd /var/filler && xargs touch) 2>/dev/null
        cat /dev/zero >/var/filler/1 2>/dev/null; ! mkdir /var/probe 2>/dev/null'
}

make_room() {
    inside rm -rf /var/filler
}

installs_with_room() {
    small_var
    use_repository first
    apt update
    fill_var
    fails apt install ip-masq-agent
    make_room
    inside dpkg --configure -a
    apt install ip-masq-agent
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
}

starts() {
    configure "$ORDINARY"
    fill_var
    inside systemctl start ip-masq-agent
    policy_holds
    contains "$(inside ip-masq-agent status)" 'could not be saved'
}

restarts_full() {
    start_stream
    inside systemctl restart ip-masq-agent
    inside systemctl restart ip-masq-agent
    stop_stream
    policy_holds
}

is_saved() {
    inside grep -F "$ORDINARY" /var/lib/ip-masq-agent/last-good
}

recovers() {
    configure "resyncInterval: 1s
$ORDINARY"
    inside systemctl reload ip-masq-agent
    make_room
    wait_until 10 is_saved
    fails contains "$(inside ip-masq-agent status)" 'could not be saved'
}

upgrades_with_room() {
    use_repository second
    apt update
    fill_var
    start_stream
    fails apt upgrade
    make_room
    inside dpkg --configure -a
    apt upgrade
    stop_stream
    contains "$(version)" later
    equals 'dpkg --audit' "$(inside dpkg --audit)" ''
    equals 'ActiveState' "$(property ActiveState)" active
    policy_holds
}
