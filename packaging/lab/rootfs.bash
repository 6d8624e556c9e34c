# Root filesystems: built once per suite and package list, kept as tarballs outside git.

CACHE=${LAB_CACHE:-$TOP/.cache/lab}

# What a plain Debian gateway has, before our package comes.
BASE_PACKAGES=systemd,systemd-sysv,dbus,iptables,nftables,ipset,iproute2,procps,kmod,udev,ca-certificates,man-db,mandoc

# The kernel that Debian ships for virtual machines: a stock one, everything of netfilter in modules.
KERNEL_PACKAGES=linux-image-cloud-amd64,openssh-server

# What hosts are set up with, and what it needs on them.
FLEET_PACKAGES=ansible-core,openssh-server,openssh-client,python3-apt,cloud-init

# packages_of KIND: the package list of a root filesystem.
packages_of() {
    case $1 in
        plain) echo ca-certificates ;;
        base) echo "$BASE_PACKAGES" ;;
        firewalld) echo "$BASE_PACKAGES,firewalld" ;;
        docker) echo "$BASE_PACKAGES,docker.io" ;;
        tools) echo "$BASE_PACKAGES,rpm,dnf,autopkgtest,dpkg-dev,prometheus,prometheus-node-exporter,$FLEET_PACKAGES" ;;
        vm) echo "$BASE_PACKAGES,$KERNEL_PACKAGES" ;;
        kernel) echo mount,iproute2,iptables,nftables,ipset,conntrack,kmod,procps,iputils-ping,socat,linux-image-cloud-amd64 ;;
        box-deb) echo "$BASE_PACKAGES,$KERNEL_PACKAGES,sudo" ;;
        box-rpm) echo "$BASE_PACKAGES,$KERNEL_PACKAGES,sudo,rpm,dnf" ;;
        *) die "no root filesystem of kind '$1'" ;;
    esac
}

# The mirror this machine itself installs from.
mirror() {
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        awk '$2 == "main" && $3 == "Debian" && $1 !~ /security/ { print $1; exit }'
}

# rootfs_tarball SUITE KIND: prints the path of the tarball, builds it when it is missing.
rootfs_tarball() {
    local suite=$1 kind=$2 packages key tarball
    packages=$(packages_of "$kind")
    key=$(printf '%s %s' "$suite" "$packages" | sha256sum | cut -c1-12)
    tarball=$CACHE/$suite-$kind-$key.tar.zst
    if [ ! -e "$tarball" ]; then
        mkdir -p "$CACHE"
        echo "building the root filesystem of $suite ($kind)" >&2
        TMPDIR=$SCRATCH mmdebstrap --quiet --variant=apt --include="$packages" --dpkgopt=force-unsafe-io \
            --aptopt='Apt::Install-Recommends "false"' --aptopt='Acquire::Retries "3"' \
            --customize-hook='rm -f "$1"/etc/resolv.conf "$1"/etc/hostname; echo gateway >"$1"/etc/hostname' \
            "$suite" "$tarball.part" "$(mirror)" >&2 --format=tar || return
        zstd --quiet --rm -T2 "$tarball.part" -o "$tarball.tmp" && mv "$tarball.tmp" "$tarball" || return
    fi
    echo "$tarball"
}

# unpack_rootfs SUITE KIND: prints the directory it is in, ready to be the lower layer of an overlay.
unpack_rootfs() {
    local suite=$1 kind=$2 tarball directory=$SCRATCH/root-$1-$2
    if [ ! -d "$directory" ]; then
        tarball=$(rootfs_tarball "$suite" "$kind") || return
        mkdir -p "$directory.part"
        # Device nodes are nspawn's business.
        tar --zstd -xf "$tarball" -C "$directory.part" --exclude='./dev/*' && mv "$directory.part" "$directory" || return
    fi
    echo "$directory"
}
