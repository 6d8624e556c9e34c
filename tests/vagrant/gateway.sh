#!/bin/sh
# gateway.sh SERVER NETWORK…: forwards, now and after a reboot, and reaches the networks behind the server.
set -eu
server=$1
shift
echo 'net.ipv4.ip_forward = 1' >/etc/sysctl.d/50-gateway.conf
sysctl -q -p /etc/sysctl.d/50-gateway.conf

# A unit, because each family of distributions has network configuration of its own.
{
    printf '[Unit]\nAfter=network-online.target\nStartLimitIntervalSec=0\n[Service]\nType=oneshot\nRemainAfterExit=yes\nRestart=on-failure\nRestartSec=1s\n'
    for network; do echo "ExecStart=ip route replace $network via $server"; done
    printf '[Install]\nWantedBy=multi-user.target\n'
} >/etc/systemd/system/lab-routes.service
systemctl daemon-reload
systemctl enable --quiet --now lab-routes.service
if systemctl is-active --quiet firewalld; then systemctl disable --quiet --now firewalld; fi
