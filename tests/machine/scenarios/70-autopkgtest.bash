# The DEP-8 tests of the source package, by autopkgtest, on this container itself.

scenario_kind() {
    echo autopkgtest
}

checks() {
    check 'autopkgtest passes' autopkgtest_passes
}

autopkgtest_passes() {
    apt update
    cp -a "$SCRATCH/source" "$CONTAINER/root/root/source"
    inside sh -c 'autopkgtest --no-built-binaries --output-dir=/tmp/autopkgtest /srv/repository/first/*.deb /root/source/ -- null'
    inside cat /tmp/autopkgtest/summary
}
