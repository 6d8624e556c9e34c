# Two local apt repositories: the package as it was built, and a later version with another line in the configuration file.

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
    if [[ ${scenarios[*]} == *-rpm.bash* ]]; then make_rpm_repositories || return; fi
    unpack_source && chmod -R a+rX "$SCRATCH"
}

# The source package, for autopkgtest.
unpack_source() {
    local tarball
    tarball=$(ls -t "$TOP"/dist/ip-masq-agent-*.tar.gz | head -n1)
    mkdir -p "$SCRATCH/source" && tar -xzf "$tarball" -C "$SCRATCH/source" --strip-components=1
}

# Two dnf repositories: the package with the one that stands for Debian, and a later release.
make_rpm_repositories() {
    local rpm work=$SCRATCH/rpm root base each
    rpm=$(ls -t "$TOP"/dist/*-1.*.rpm 2>/dev/null | head -n1)
    [ -n "$rpm" ] || { echo "no .rpm in $TOP/dist: 'make rpm' makes one" >&2; return 1; }
    mkdir -p "$SCRATCH/repository/rpm-first" "$SCRATCH/repository/rpm-second" "$work"
    cp "$rpm" "$SCRATCH/repository/rpm-first/"
    later_rpm "$work" && cp "$work"/RPMS/*/*.rpm "$SCRATCH/repository/rpm-second/" || return
    root=$(unpack_rootfs "$SUITE" tools) &&
        base=$("$TOP/packaging/lab/userland-rpm" "$root" "$work/base") && cp "$base" "$SCRATCH/repository/rpm-first/" || return
    for each in first second; do createrepo_c --quiet "$SCRATCH/repository/rpm-$each" || return; done
}

LATER_LINE='# A line that the later version has.'

# later_rpm DIRECTORY: release 2 of the same binary.
later_rpm() {
    local source name
    source=$(ls -t "$TOP"/dist/ip-masq-agent-*.tar.gz | head -n1) name=$(basename "$source" .tar.gz)
    mkdir -p "$1/SOURCES" && tar -xzf "$source" -C "$1/SOURCES" &&
        echo "$LATER_LINE" >>"$1/SOURCES/$name/etc/ip-masq-agent/config.yaml" &&
        tar -czf "$1/SOURCES/$name.tar.gz" -C "$1/SOURCES" "$name" &&
        dpkg-deb -x "$SCRATCH"/repository/first/*.deb "$1/tree" &&
        rpmbuild -bb "$TOP/rpm/ip-masq-agent.spec" --quiet --define "_topdir $1" \
            --define "prebuilt $1/tree/usr/sbin/ip-masq-agent" --define 'revision 2' >"$1/log" 2>&1 || { cat "$1/log" >&2; return 1; }
}

# repack DEB DIRECTORY: the same package one revision later.
repack() {
    local tree=$SCRATCH/repack
    dpkg-deb -R "$1" "$tree" &&
        sed -i 's/^Version: .*/&+later/' "$tree/DEBIAN/control" &&
        echo "$LATER_LINE" >>"$tree$CONFIG" &&
        dpkg-deb --root-owner-group -Zxz -b "$tree" "$2/" >/dev/null &&
        rm -rf "$tree"
}

# use_repository first|second
use_repository() {
    echo "deb [trusted=yes] file:/srv/repository/$1 ./" >"$CONTAINER/root/etc/apt/sources.list"
}

# apt ARGUMENT…: inside, without a question; an edited configuration file is kept.
apt() {
    inside env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@"
}
