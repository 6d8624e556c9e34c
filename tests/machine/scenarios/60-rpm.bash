# The .rpm, by the real rpm and dnf on a running systemd. The userland is Debian's: what its packages provide is said to
# dnf by one package made from the real libraries. Nothing here speaks for SELinux or for Fedora's own macros.

scenario_kind() {
    echo tools
}

checks() {
    check 'dnf refuses a package that was changed, and one that is not signed' dnf_refuses_changed
    check 'dnf installs it, dependencies resolved; neither enabled nor started' dnf_installs
    check 'enable --now works' dnf_enables
    check 'dnf upgrade under a stream: none with the wrong source, the edited configuration is kept' dnf_upgrades
    check 'dnf downgrade and upgrade of a disabled service start nothing' dnf_spares_stopped
    check 'dnf remove: stopped, rules gone even with onStop: keep, the edited configuration is .rpmsave' dnf_removes
    check 'rpm --erase of a stopped and masked service leaves nothing' rpm_erases_stopped
    check 'rpm --erase of a failed service leaves nothing' rpm_erases_failed
    check 'installed, never started, removed: the rules of a Go agent are as they were' rpm_spares_go_agent
}

# dnf first|second ARGUMENT…: with the file that the repository brings along, which says gpgcheck=1 and repo_gpgcheck=1.
dnf() {
    inside dnf --quiet --assumeyes --setopt=reposdir="/srv/repository/$1/site" --releasever=1 "${@:2}"
}

# What a mirror could do that has no key: packages of its own, and an index that fits them.
dnf_refuses_changed() {
    local site=$SCRATCH/repository/first/site mirror=$SCRATCH/repository/changed rpm
    cp -a "$site" "$mirror"
    sed 's,/first/site,/changed,; s/repo_gpgcheck=1/repo_gpgcheck=0/' "$site/ip-masq-agent.repo" >"$mirror/ip-masq-agent.repo"
    rpm=$(ls "$mirror"/rpm/ip-masq-agent-*.rpm)
    for how in unsigned changed; do
        case $how in
            unsigned) rpmsign --delsign "$rpm" ;;
            # The last byte of the program.
            changed) cp "$site/rpm/$(basename "$rpm")" "$rpm" && printf x | dd of="$rpm" bs=1 seek=$(($(stat -c %s "$rpm") - 1)) conv=notrunc ;;
        esac
        createrepo_c --quiet "$mirror/rpm"
        fails inside dnf --quiet --assumeyes --setopt=reposdir=/srv/repository/changed --releasever=1 install ip-masq-agent
        fails inside rpm -q ip-masq-agent
    done
    # And where the index is signed, it can't be another one.
    cp "$site/rpm/repodata/repomd.xml.asc" "$mirror/rpm/repodata/"
    sed -i 's/repo_gpgcheck=0/repo_gpgcheck=1/' "$mirror/ip-masq-agent.repo"
    fails inside dnf --quiet --assumeyes --setopt=reposdir=/srv/repository/changed --releasever=1 install ip-masq-agent
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
    equals 'the configuration directory' "$(inside ls /etc/ip-masq-agent)" $'config.d\nconfig.yaml'
    inside grep -F "$LATER_LINE" /usr/share/doc/ip-masq-agent/config.yaml
    equals 'what rpm -V says' "$(inside rpm -V ip-masq-agent || true)" "S.5....T.  c $CONFIG"
}

dnf_spares_stopped() {
    inside systemctl disable --now ip-masq-agent
    dnf first downgrade ip-masq-agent
    equals 'ActiveState' "$(property ActiveState)" inactive
    equals 'is-enabled' "$(inside systemctl is-enabled ip-masq-agent)" disabled
    no_traces
    dnf second upgrade ip-masq-agent
    inside systemctl enable --now ip-masq-agent
}

dnf_removes() {
    steady 'onStop: keep'
    dnf second remove ip-masq-agent
    no_traces
    nothing_but /etc/ip-masq-agent
    equals 'the configuration that is left' "$(inside ls /etc/ip-masq-agent)" config.yaml.rpmsave
    fails inside systemctl is-enabled ip-masq-agent
}

# nothing_but FILES: what of the package is left on the disk.
nothing_but() {
    equals 'what is left' "$(inside find / -xdev -iname '*ip-masq-agent*' \
        -not -path '/proc/*' -not -path '/srv/*' -not -path '/etc/apt/*' -not -path '/var/cache/*' -not -path '/var/log/*' -not -path '/run/systemd/*')" "$1"
}

rpm_erases_stopped() {
    inside rm -rf /etc/ip-masq-agent
    dnf first install ip-masq-agent
    inside systemctl start ip-masq-agent
    inside systemctl stop ip-masq-agent
    inside systemctl mask ip-masq-agent
    inside rpm --erase ip-masq-agent
    inside systemctl unmask ip-masq-agent
    nothing_but ''
}

rpm_erases_failed() {
    dnf first install ip-masq-agent
    drop_in $'[Service]\nExecStartPre=false\nRestart=no'
    fails inside systemctl start ip-masq-agent
    inside rpm --erase ip-masq-agent
    drop_in
    nothing_but ''
}

rpm_spares_go_agent() {
    go_agent_rules
    local before
    before=$(inside iptables -t nat -S)
    dnf first install ip-masq-agent
    dnf first remove ip-masq-agent
    equals 'the rules' "$(inside iptables -t nat -S)" "$before"
}
