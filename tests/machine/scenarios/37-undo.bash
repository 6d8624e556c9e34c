# Changes that are taken back: by the service's own timer, whatever becomes of the session, and by a restart.

checks() {
    check 'install and start' begins
    check 'a try whose session is cut off is back after its time, without anybody' session_is_lost
    check 'systemctl restart during a try brings the earlier policy back' restarts
    check 'kill -9 during a try of the edited files does, too, and they are not applied' is_killed
    check 'a reload during a try fails and confirms nothing' reload_is_refused
    check 'what is confirmed is installed and outlives a restart' is_confirmed
    check 'an ordinary user is told the status, and nothing else' ordinary_user
    check 'a refused reload is in the journal once' reload_is_said_once
    check 'with configWatch off an edit waits for systemctl reload, and the status says so' watch_is_off
    check 'last-good --restore mends what was edited' restored
}

CANDIDATE=/root/candidate.yaml
# Cuts the LAN off: what is sent is not answered.
CUTS_OFF='nonMasqueradeCIDRs: [0.0.0.0/1, 128.0.0.0/1]'

begins() {
    install_package
    steady
    policy_holds
    printf '%s\n' "$CUTS_OFF" | put_file $CANDIDATE
}

# is_cut_off: new flows of the LAN leave with a source that nobody answers.
is_cut_off() {
    reset_counters
    send_flows $PUBLIC 20
    wait_until 10 have_arrived 20 || true
    equals 'plain to the public address' "$(arrived public-plain)" 20
}

is_back() {
    [[ $(property StatusText) = masquerading* ]]
}

session_is_lost() {
    steady
    # A terminal, in which 'try' waits for a key; and an end of it as the kernel makes one of a connection that is gone.
    inside systemd-run --quiet --unit=session script --quiet --command "ip-masq-agent try --timeout 15s $CANDIDATE" /dev/null
    wait_until 10 eval '[[ $(property StatusText) = trying* ]]'
    contains "$(property StatusText)" "trying $CANDIDATE, goes back at "
    contains "$(property StatusText)" 'unless confirmed'
    is_cut_off
    inside systemctl kill --signal=KILL session
    wait_until 30 is_back
    policy_holds
    contains "$(journal)" "$CANDIDATE was not confirmed in time; the earlier configuration is in force again"
    inside ip-masq-agent status
}

restarts() {
    steady
    inside ip-masq-agent try --timeout 1h $CANDIDATE
    is_cut_off
    inside systemctl restart ip-masq-agent
    policy_holds
    equals 'the file' "$(inside cat $CONFIG)" "$ORDINARY"
    inside ip-masq-agent status
    fails inside ip-masq-agent confirm
}

is_killed() {
    steady "$ORDINARY
configWatch: off"
    configure "$CUTS_OFF"
    inside ip-masq-agent try --timeout 1h
    is_cut_off
    inside systemctl kill --signal=KILL ip-masq-agent
    wait_until 20 eval '[[ $(property StatusText) = *"was tried and not confirmed"* ]]'
    policy_holds
    # Nor is it applied by another start.
    inside systemctl restart ip-masq-agent
    policy_holds
    contains "$(inside ip-masq-agent status)" "$CONFIG was tried and not confirmed"
}

reload_is_refused() {
    steady
    inside ip-masq-agent try --timeout 1h $CANDIDATE
    fails inside systemctl reload ip-masq-agent
    is_cut_off
    contains "$(journal)" 'the reload is refused'
    inside systemctl restart ip-masq-agent
    policy_holds
}

is_confirmed() {
    steady
    inside ip-masq-agent try --timeout 1h $CANDIDATE
    inside ip-masq-agent confirm
    equals 'the file' "$(inside cat $CONFIG)" "$CUTS_OFF"
    equals 'its mode' "$(inside stat -c '%U:%G %a' $CONFIG)" 'root:root 644'
    inside systemctl restart ip-masq-agent
    is_cut_off
    equals 'what is kept' "$(inside ip-masq-agent last-good)" "# $CONFIG
$CUTS_OFF"
}

ordinary_user() {
    steady
    contains "$(inside setpriv --reuid=65534 --regid=65534 --clear-groups ip-masq-agent status)" 'masquerading IPv4'
    fails inside setpriv --reuid=65534 --regid=65534 --clear-groups ip-masq-agent reload
}

# Of the service, not of the client that asked for it.
reload_is_said_once() {
    local before after
    steady
    configure 'nonMasqueradeCIDRs: [10.0.0.0/99]'
    wait_until 10 eval '[[ $(property StatusText) = degraded* ]]'
    before=$(journal | grep -c "prefix length '99'" || true)
    fails inside systemctl reload ip-masq-agent
    after=$(journal | grep -c "prefix length '99'" || true)
    equals 'lines of a refused reload' "$((after - before))" 1
}

watch_is_off() {
    steady "$ORDINARY
configWatch: off"
    configure "$CUTS_OFF"
    wait_until 10 eval '[[ $(property StatusText) = *"differs from what is applied"* ]]'
    policy_holds
    contains "$(inside ip-masq-agent status)" "$CONFIG differs from what is applied; 'systemctl reload ip-masq-agent' applies it"
    inside systemctl reload ip-masq-agent
    is_cut_off
}

restored() {
    steady
    configure 'nonMasqueradeCIDRs: [oops'
    inside ip-masq-agent last-good --restore
    equals 'the file' "$(inside cat $CONFIG)" "$ORDINARY"
    contains "$(inside sh -c "cat $CONFIG.before-restore*")" 'oops'
    inside systemctl reload ip-masq-agent
    policy_holds
}
