# Two sites' repositories, made and signed by what 'make repo' calls, each with a key of its own: the packages as they were
# built, and a later version with another line in the configuration file. Beside them the packages alone, and in 'earlier' one
# that is packed as 0.1.0 was.

make_repositories() {
    local deb
    deb=$(ls -t "$TOP"/dist/*.deb 2>/dev/null | head -n1)
    [ -n "$deb" ] || { echo "no .deb in $TOP/dist: 'make deb' makes one" >&2; return 1; }
    mkdir -p "$SCRATCH/repository/first" "$SCRATCH/repository/second"
    cp "$deb" "$SCRATCH/repository/first/"
    repack "$deb" "$SCRATCH/repository/second" && repack_earlier "$deb" "$SCRATCH/repository/earlier" || return
    if [[ ${scenarios[*]} =~ -(rpm|ansible)\.bash ]]; then add_rpms || return; fi
    local each
    for each in first second; do
        REPO_URL=file:///srv/repository/$each/site "$TOP/packaging/repository" "$SCRATCH/repository/$each/site" \
            $(ls "$SCRATCH/repository/$each"/*.deb "$SCRATCH/repository/$each"/*.rpm 2>/dev/null) || return
    done
    # Of that alone: root filesystems keep the modes of their files.
    unpack_source && chmod a+rx "$SCRATCH" && chmod -R a+rX "$SCRATCH/repository" "$SCRATCH/source"
}

# The source package, for autopkgtest.
unpack_source() {
    local tarball
    tarball=$(ls -t "$TOP"/dist/ip-masq-agent-*.tar.gz | head -n1)
    mkdir -p "$SCRATCH/source" && tar -xzf "$tarball" -C "$SCRATCH/source" --strip-components=1
}

# The .rpm with the one that stands for Debian, and a later release.
add_rpms() {
    local rpm work=$SCRATCH/rpm root base
    rpm=$(ls -t "$TOP"/dist/*-1.*.rpm 2>/dev/null | head -n1)
    [ -n "$rpm" ] || { echo "no .rpm in $TOP/dist: 'make rpm' makes one" >&2; return 1; }
    mkdir -p "$work"
    cp "$rpm" "$SCRATCH/repository/first/"
    later_rpm "$work" && cp "$work"/RPMS/*/*.rpm "$SCRATCH/repository/second/" || return
    root=$(unpack_rootfs "$SUITE" tools) &&
        base=$("$TOP/packaging/lab/userland-rpm" "$root" "$work/base") && cp "$base" "$SCRATCH/repository/first/"
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
        for file in usr/share/ip-masq-agent/config.yaml usr/share/doc/ip-masq-agent/config.yaml; do
            echo "$LATER_LINE" >>"$tree/$file" || return
        done &&
        dpkg-deb --root-owner-group -Zxz -b "$tree" "$2/" >/dev/null &&
        rm -rf "$tree"
}

# repack_earlier DEB DIRECTORY: with the reference as a conffile, and the unit in /lib.
repack_earlier() {
    local tree=$SCRATCH/repack
    mkdir -p "$2" && dpkg-deb -R "$1" "$tree" &&
        sed -i 's/^Version: .*/Version: 0.0.9-1/' "$tree/DEBIAN/control" &&
        cp "$tree/usr/share/doc/ip-masq-agent/config.yaml" "$tree$CONFIG" &&
        echo '# A line that only the earlier version has.' >>"$tree$CONFIG" &&
        rm -r "$tree/usr/share/ip-masq-agent" && echo "$CONFIG" >"$tree/DEBIAN/conffiles" &&
        sed -i '/At the first installation/,/^fi$/d' "$tree/DEBIAN/postinst" &&
        mkdir -p "$tree/lib/systemd" && mv "$tree/usr/lib/systemd/system" "$tree/lib/systemd/" &&
        rm "$tree/DEBIAN/md5sums" &&
        dpkg-deb --root-owner-group -Zxz -b "$tree" "$2/" >/dev/null &&
        rm -rf "$tree"
}

# use_repository first|second: as docs/install.md says it.
use_repository() {
    local site=$SCRATCH/repository/$1/site
    mkdir -p "$CONTAINER/root/etc/apt/keyrings"
    cp "$site/ip-masq-agent.asc" "$CONTAINER/root/etc/apt/keyrings/"
    cp "$site/ip-masq-agent.sources" "$CONTAINER/root/etc/apt/sources.list.d/"
}

# apt ARGUMENT…: inside, without a question; an edited configuration file is kept.
apt() {
    inside env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@"
}

# unattended COMMAND…: as by a timer: nobody answers, and nothing was said beforehand.
unattended() {
    inside sh -c '"$@" </dev/null' sh "$@"
}
