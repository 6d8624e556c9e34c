# The .rpm, by the real rpm and dnf on a running systemd. The userland is Debian's: what its packages provide is said to
# dnf by one package made from the real libraries. Nothing here speaks for SELinux or for Fedora's own macros.

scenario_kind() {
    echo tools
}

checks() {
    check 'dnf installs it, dependencies resolved; neither enabled nor started' dnf_installs
    check 'enable --now works' dnf_enables
    check 'dnf upgrade under a stream: none with the wrong source, the edited configuration is kept' dnf_upgrades
    check 'dnf remove: stopped, rules gone even with onStop: keep, the edited configuration is .rpmsave' dnf_removes
}

dnf() {
    inside dnf --quiet --assumeyes --nogpgcheck --setopt=reposdir=/nonexistent --disablerepo='*' \
        --repofrompath="local,file:///srv/repository/rpm-$1" --releasever=1 "${@:2}"
}

dnf_installs() {
    dnf first install ip-masq-agent
    inside rpm -V ip-masq-agent
    # The preset decides, as it does where %systemd_post applies it.
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
    equals 'ActiveState' "$(property ActiveState)" inactive
    no_traces
}

dnf_enables() {
    configure "$ORDINARY"
    inside systemctl enable --now ip-masq-agent
    policy_holds
}

dnf_upgrades() {
    local pid
    steady
    pid=$(property MainPID)
    start_stream
    dnf second upgrade ip-masq-agent
    stop_stream
    contains "$(inside rpm -q ip-masq-agent)" -2
    [ "$(property MainPID)" != "$pid" ]
    equals 'ActiveState' "$(property ActiveState)" active
    equals 'the configuration' "$(inside cat $CONFIG)" "$ORDINARY"
}

dnf_removes() {
    steady 'onStop: keep'
    dnf second remove ip-masq-agent
    no_traces
    equals 'what is left' "$(inside find / -xdev -iname '*ip-masq-agent*' \
        -not -path '/proc/*' -not -path '/srv/*' -not -path '/var/cache/*' -not -path '/var/log/*' -not -path '/run/systemd/*')" \
        /etc/ip-masq-agent
    equals 'the configuration that is left' "$(inside ls /etc/ip-masq-agent)" config.yaml.rpmsave
    fails inside systemctl is-enabled ip-masq-agent
}
