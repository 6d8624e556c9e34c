# Two local apt repositories: the package as it was built, and the same as a later version, for upgrades.

make_repositories() {
    local deb
    deb=$(ls -t "$TOP"/dist/*.deb 2>/dev/null | head -n1)
    [ -n "$deb" ] || { echo "no .deb in $TOP/dist: 'make deb' makes one" >&2; return 1; }
    mkdir -p "$SCRATCH/repository/first" "$SCRATCH/repository/second"
    cp "$deb" "$SCRATCH/repository/first/"
    repack "$deb" "$SCRATCH/repository/second" || return
    local each
    for each in first second; do
        (
            cd "$SCRATCH/repository/$each" || exit
            apt-ftparchive packages . >Packages && apt-ftparchive release . >Release
        ) || return
    done
    chmod -R a+rX "$SCRATCH"
}

# repack DEB DIRECTORY: the same package one revision later.
repack() {
    local tree=$SCRATCH/repack
    dpkg-deb -R "$1" "$tree" &&
        sed -i 's/^Version: .*/&+later/' "$tree/DEBIAN/control" &&
        dpkg-deb --root-owner-group -Zxz -b "$tree" "$2/" >/dev/null &&
        rm -rf "$tree"
}

# use_repository first|second
use_repository() {
    echo "deb [trusted=yes] file:/srv/repository/$1 ./" >"$CONTAINER/root/etc/apt/sources.list"
}

# apt ARGUMENT…: inside, without a question.
apt() {
    inside env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@"
}
