# The DEP-8 tests of the source package, by autopkgtest, on this container itself.

scenario_kind() {
    echo tools
}

checks() {
    check 'autopkgtest passes' autopkgtest_passes
}

# The null runner promises no isolation; the container it runs in is one.
autopkgtest_passes() {
    apt update
    cp -a "$SCRATCH/source" "$CONTAINER/root/root/source"
    inside sh -c 'autopkgtest --ignore-restrictions=isolation-container --no-built-binaries --output-dir=/tmp/autopkgtest /srv/repository/first/*.deb /root/source/ -- null'
    inside cat /tmp/autopkgtest/summary
}
