# piuparts: install, upgrade, remove and purge in a chroot without systemd, and look at what is left.

scenario_kind() {
    echo plain
}

checks() {
    check 'piuparts passes' piuparts_passes
}

# Its mirror is the local repository: everything the package depends on is in the root filesystem already.
piuparts_passes() {
    local root mirror=$SCRATCH/mirror-$SUITE index architecture
    architecture=$(dpkg --print-architecture)
    index=dists/$SUITE/main/binary-$architecture
    mkdir -p "$mirror/$index"
    cp "$SCRATCH"/repository/first/*.deb "$mirror/"
    (cd "$mirror" && apt-ftparchive packages . >"$index/Packages")
    apt-ftparchive -o APT::FTPArchive::Release::Codename="$SUITE" -o APT::FTPArchive::Release::Components=main \
        -o APT::FTPArchive::Release::Architectures="$architecture" release "$mirror/dists/$SUITE" >"$SCRATCH/Release"
    mv "$SCRATCH/Release" "$mirror/dists/$SUITE/Release"
    root=$(unpack_rootfs "$SUITE" plain)
    echo 'Acquire::AllowInsecureRepositories "true";' >"$root/etc/apt/apt.conf.d/90local-mirror"
    mkdir -p "$SCRATCH/piuparts"
    piuparts --existing-chroot="$root" --tmpdir="$SCRATCH/piuparts" --distribution="$SUITE" --mirror="file://$mirror main" \
        --bindmount="$mirror" --do-not-verify-signatures --no-eatmydata "$SCRATCH"/repository/first/*.deb
}
