# The user data of docs/install.md, by the distribution's own cloud-init at the first boot of a container.

scenario_kind() {
    echo tools
}

checks() {
    check 'cloud-init finds its form right' has_form
    # The container is started by the shell that ends it, too.
    power_off
    if ! { seed && boot 180; } >"$SCRATCH/log" 2>&1; then
        verdict 'the container boots with it' FAILED 0
        return
    fi
    check 'after the first boot the service runs with that configuration' is_set_up
}

USER_DATA=/var/lib/cloud/seed/nocloud/user-data

# user_data: with the key and the address of the repository that is here.
user_data() {
    local site=$SCRATCH/repository/first/site
    sed -n '/^```cloud-config$/,/^```$/{/^```/d;p}' "$TOP/docs/install.md" |
        sed "s,https://packages.example.com/ip-masq-agent,file:///srv/repository/first/site," |
        awk -v "key=$site/ip-masq-agent.asc" '
            /-----BEGIN PGP/ { while ((getline line <key) > 0) print "      " line; within = 1 }
            !within
            /-----END PGP/ { within = 0 }'
}

has_form() {
    mkdir -p "$CONTAINER/root$(dirname $USER_DATA)"
    user_data | put_file $USER_DATA
    contains "$(inside cat $USER_DATA)" 'packages: [ip-masq-agent]'
    inside cloud-init schema --config-file $USER_DATA
    user_data | sed 's/^packages: .*/packages: 3/' | put_file /root/spoiled
    fails inside cloud-init schema --config-file /root/spoiled
}

# seed: what a provider would say besides, and what this host has not: other mirrors, other languages, a network to set up.
seed() {
    local root=$CONTAINER/root
    rm "$root/etc/cloud/cloud-init.disabled" "$root"/etc/apt/keyrings/* "$root"/etc/apt/sources.list.d/* &&
        echo 'instance-id: first' >"$root$(dirname $USER_DATA)/meta-data" &&
        cat >"$root/etc/cloud/cloud.cfg.d/99-here.cfg" <<'YAML'
datasource_list: [NoCloud]
network: {config: disabled}
apt: {preserve_sources_list: true}
locale: false
YAML
}

is_set_up() {
    inside cloud-init status --long
    inside systemctl is-enabled ip-masq-agent
    inside ip-masq-agent status
    contains "$(inside ip-masq-agent last-good)" '# /etc/ip-masq-agent/config.d/10-site.yaml'
    inside ip-masq-agent diff
    policy_holds
}
