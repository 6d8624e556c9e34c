# piuparts: install, upgrade, remove and purge in a chroot without systemd, and look at what is left.

scenario_kind() {
    echo none
}

checks() {
    check 'piuparts passes' piuparts_passes
}

piuparts_passes() {
    "$TOP/packaging/require" piuparts=piuparts
    local root
    root=$(unpack_rootfs "$SUITE" plain)
    tar -C "$root" --exclude='./dev/*' -czf "$SCRATCH/piuparts-$SUITE.tgz" .
    piuparts --basetgz="$SCRATCH/piuparts-$SUITE.tgz" --distribution="$SUITE" --mirror="$(mirror) main" --no-eatmydata \
        "$SCRATCH"/repository/first/*.deb
}
