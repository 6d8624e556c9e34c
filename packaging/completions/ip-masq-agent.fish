# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ip_masq_agent_global_optspecs
    string join \n config= config-dir= non-masquerade-cidrs= extra-non-masquerade-cidrs= masquerade-exception-cidrs= out-interfaces= source-cidrs= exclude-source-cidrs= masq-link-local= masq-link-local-ipv6= masq-multicast= masq-local-source= nomasq-all-reserved-ranges= enable-ipv6= random-fully= to-ports= snat= egress= port-forwards= mark-masq-bit= external-set-mark-chain= exempt-marks= exempt-ipsec= evaluation= fast-path= cidr-limit= expect-foreign= resync-interval= config-watch= backend= masq-chain= jump-position= rule-watch= table-owner= flush-conntrack= manage-sysctl= on-repair= on-stop= h/help V/version
end

function __fish_ip_masq_agent_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ip_masq_agent_global_optspecs) -- $cmd 2>/dev/null
    or return 0
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ip_masq_agent_using_subcommand
    set -l cmd (__fish_ip_masq_agent_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l expect-foreign -d 'Nat rules of other programs that are meant to be there, as \'check --host\' prints them; \'*\' matches anything' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l resync-interval -d 'How often to re-read the configuration and verify the rules when nothing has changed (1s to 24h) [default: 60s]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l config-watch -d 'When an edited file is applied: as soon as it is saved, at the next resync, or only by a reload [one of: events, resync, off] [default: events]' -r -f -a "events\t''
resync\t''
off\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l rule-watch -d 'How changes by other programs are detected [one of: events, poll] [default: events]' -r -f -a "events\t''
poll\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l flush-conntrack -d 'Whether a changed configuration also applies to open connections that it treats in another way [one of: off, affected] [default: off]' -r -f -a "off\t''
affected\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l manage-sysctl -d 'Turn forwarding on while the service runs, and back to what it was when it stops [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l on-repair -d 'What happens to connections that began while rules were missing and don\'t fit the policy [one of: report, forget] [default: report]' -r -f -a "report\t''
forget\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -l on-stop -d 'What happens to the rules when the service stops [one of: cleanup, keep] [default: cleanup]' -r -f -a "cleanup\t''
keep\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -s V -l version -d 'Print version'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "run" -d 'Run the service'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "check" -d 'Validate the configuration. Prints nothing and exits 0 if it is valid, otherwise prints every error and exits 78'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "reload" -d 'Make the running service re-read its configuration, and wait until it is applied or refused'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "try" -d 'Put a candidate in force. The service goes back by itself unless it is confirmed in time, also if it is restarted or this session is cut off'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "confirm" -d 'Keep what is being tried. A file that was tried is installed as the main configuration file'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "last-good" -d 'Print the configuration that was last in force, file by file'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "render" -d 'Print the rules of the configuration as text. Needs no privileges'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "diff" -d 'Compare the rules in the kernel with the configuration. Exits 0 if they are equal, 1 if they differ, 3 if it can\'t tell'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "explain" -d 'Explain whether traffic to an address is masqueraded, which step decides, and which line of the configuration it comes from'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "import" -d 'Print a configuration that says what rules or files of other programs say. Exits 1 if it can\'t say all of them'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "status" -d 'Show the state of the running service. Exits 0 if it is healthy, 1 if degraded, 3 if it is not running'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "flush" -d 'Remove every rule of ip-masq-agent, also of Kubernetes\' ip-masq-agent, from every backend. Refused while the service is running'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l expect-foreign -d 'Nat rules of other programs that are meant to be there, as \'check --host\' prints them; \'*\' matches anything' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l resync-interval -d 'How often to re-read the configuration and verify the rules when nothing has changed (1s to 24h) [default: 60s]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l config-watch -d 'When an edited file is applied: as soon as it is saved, at the next resync, or only by a reload [one of: events, resync, off] [default: events]' -r -f -a "events\t''
resync\t''
off\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l rule-watch -d 'How changes by other programs are detected [one of: events, poll] [default: events]' -r -f -a "events\t''
poll\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l flush-conntrack -d 'Whether a changed configuration also applies to open connections that it treats in another way [one of: off, affected] [default: off]' -r -f -a "off\t''
affected\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l manage-sysctl -d 'Turn forwarding on while the service runs, and back to what it was when it stops [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l on-repair -d 'What happens to connections that began while rules were missing and don\'t fit the policy [one of: report, forget] [default: report]' -r -f -a "report\t''
forget\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l on-stop -d 'What happens to the rules when the service stops [one of: cleanup, keep] [default: cleanup]' -r -f -a "cleanup\t''
keep\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l once -d 'Apply the configuration, verify it, and exit'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -l dry-run -d 'Print what would be sent to the kernel now, and change nothing'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l expect-foreign -d 'Nat rules of other programs that are meant to be there, as \'check --host\' prints them; \'*\' matches anything' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l resync-interval -d 'How often to re-read the configuration and verify the rules when nothing has changed (1s to 24h) [default: 60s]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l config-watch -d 'When an edited file is applied: as soon as it is saved, at the next resync, or only by a reload [one of: events, resync, off] [default: events]' -r -f -a "events\t''
resync\t''
off\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l rule-watch -d 'How changes by other programs are detected [one of: events, poll] [default: events]' -r -f -a "events\t''
poll\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l flush-conntrack -d 'Whether a changed configuration also applies to open connections that it treats in another way [one of: off, affected] [default: off]' -r -f -a "off\t''
affected\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l manage-sysctl -d 'Turn forwarding on while the service runs, and back to what it was when it stops [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l on-repair -d 'What happens to connections that began while rules were missing and don\'t fit the policy [one of: report, forget] [default: report]' -r -f -a "report\t''
forget\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l on-stop -d 'What happens to the rules when the service stops [one of: cleanup, keep] [default: cleanup]' -r -f -a "cleanup\t''
keep\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -l host -d 'Also report problems on this host that would stop the policy from working'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand reload" -s h -l help -d 'Print help'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand try" -l timeout -d 'When the service goes back unless it is confirmed: 1s to 24h' -r
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand try" -s h -l help -d 'Print help'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand confirm" -s h -l help -d 'Print help'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand last-good" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand last-good" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand last-good" -l restore -d 'Write it back over the files. What was there is kept, and its new name is printed'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand last-good" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand render" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -l manage-sysctl -d 'Turn forwarding on while the service runs, and back to what it was when it stops [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l from -d 'The source address; without it, one that sourceCIDRs of no entry of egress name' -r
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l out -d 'The outgoing interface; without it the kernel\'s routing is asked' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l in -d 'The incoming interface; without it the one that leads to the source' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l port -d 'The destination port; for an address of this host: where does it lead?' -r
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l proto -d 'The protocol: tcp, udp, sctp, icmp or a number [default: tcp]' -r
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l mark -d 'The packet mark behind routing, as 256 or 0x100 [default: 0]' -r
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l non-masquerade-cidrs -d 'Destinations that see the original source address [default: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l extra-non-masquerade-cidrs -d 'More of them, beside nonMasqueradeCIDRs or the built-in ranges' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masquerade-exception-cidrs -d 'Destinations that are masqueraded although another range exempts them' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l out-interfaces -d 'Masquerade only what leaves through these interfaces: eth0, eth+ (prefix), !wg0 (all but wg0)' -r -f -a "(__fish_print_interfaces)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l source-cidrs -d 'Masquerade only what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l exclude-source-cidrs -d 'Never masquerade what comes from these sources' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masq-link-local -d 'Masquerade traffic to 169.254.0.0/16 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masq-link-local-ipv6 -d 'Masquerade traffic to fe80::/10 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masq-multicast -d 'Masquerade multicast and limited broadcast too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masq-local-source -d 'Masquerade the host\'s own addresses even where this breaks things (virtual addresses, open sessions, bridges), as Kubernetes\' ip-masq-agent does [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l nomasq-all-reserved-ranges -d 'Without nonMasqueradeCIDRs, exempt every reserved IPv4 range, not only the private ones [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l enable-ipv6 -d 'Masquerade IPv6 too [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l random-fully -d 'Let the kernel choose source ports at random [default: true]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l to-ports -d 'Source port ranges for masqueraded TCP, UDP and SCTP, in ascending order' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l snat -d 'What sources become: masquerade, none (they stay), route-source, ADDRESS, FIRST-LAST or a list with one of each family [default: masquerade]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l egress -d 'Interfaces and sources with a treatment of their own; the first entry whose scope holds a flow decides' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l port-forwards -d 'Ports of the host that lead to another one' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l mark-masq-bit -d 'The bit of the packet mark, 0 to 31, that forwards set whose source is to be translated' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l external-set-mark-chain -d 'The chain of another program that marks such forwards and translates their sources (iptables backends)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l exempt-marks -d 'Packets with these marks, as 0x100/0xff00, keep their source' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l exempt-ipsec -d 'What an IPsec policy will encrypt keeps its source [default: false]' -r -f -a "true\t''
false\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l evaluation -d 'Exceptions before exemptions, or the longest prefix of both [one of: ordered, longest-prefix] [default: ordered]' -r -f -a "ordered\t''
longest-prefix\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l fast-path -d 'Interfaces between which open connections pass by the rules for forwarded packets (kernel with flowtables)' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l cidr-limit -d 'Maximum number of nonMasqueradeCIDRs; more are an error' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l backend -d 'What writes the rules; auto is iptables if it works, otherwise nftables [one of: auto, nftables, iptables, iptables-nft, iptables-legacy] [default: auto]' -r -f -a "auto\t''
nftables\t''
iptables\t''
iptables-nft\t''
iptables-legacy\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l jump-position -d 'Position of the rules among the host\'s other nat rules [one of: last, first] [default: last]' -r -f -a "last\t''
first\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l table-owner -d 'Own the nftables table, so that other programs can\'t flush it (kernel 6.9 or later) [one of: never, persist] [default: never]' -r -f -a "never\t''
persist\t''"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l offline -d 'Answer from the configuration alone: ask neither the kernel nor the service'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -l json -d 'Answer in JSON'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand status" -l json -d 'Answer in JSON'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand status" -l prometheus -d 'Answer in metrics, for the textfile collector of Prometheus\' node_exporter. Without a running service: ip_masq_agent_up 0'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand status" -l nagios -d 'Answer and exit as a monitoring plugin: 0 OK, 1 warning, 2 critical (not running, or rules missing), 3 unknown'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand status" -s h -l help -d 'Print help'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand flush" -l config -d 'The main configuration file, - for standard input [default: config.yaml or config.toml in /etc/ip-masq-agent]' -r -F
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand flush" -l config-dir -d 'The directory of further *.yaml, *.json and *.toml files [default: /etc/ip-masq-agent/config.d]' -r -f -a "(__fish_complete_directories)"
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand flush" -l masq-chain -d 'Name of the chain (iptables backends) [default: IP-MASQ-AGENT]' -r -f
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand flush" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "run" -d 'Run the service'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "check" -d 'Validate the configuration. Prints nothing and exits 0 if it is valid, otherwise prints every error and exits 78'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "reload" -d 'Make the running service re-read its configuration, and wait until it is applied or refused'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "try" -d 'Put a candidate in force. The service goes back by itself unless it is confirmed in time, also if it is restarted or this session is cut off'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "confirm" -d 'Keep what is being tried. A file that was tried is installed as the main configuration file'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "last-good" -d 'Print the configuration that was last in force, file by file'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "render" -d 'Print the rules of the configuration as text. Needs no privileges'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "diff" -d 'Compare the rules in the kernel with the configuration. Exits 0 if they are equal, 1 if they differ, 3 if it can\'t tell'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "explain" -d 'Explain whether traffic to an address is masqueraded, which step decides, and which line of the configuration it comes from'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "import" -d 'Print a configuration that says what rules or files of other programs say. Exits 1 if it can\'t say all of them'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "status" -d 'Show the state of the running service. Exits 0 if it is healthy, 1 if degraded, 3 if it is not running'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "flush" -d 'Remove every rule of ip-masq-agent, also of Kubernetes\' ip-masq-agent, from every backend. Refused while the service is running'
complete -c ip-masq-agent -n "__fish_ip_masq_agent_using_subcommand help; and not __fish_seen_subcommand_from run check reload try confirm last-good render diff explain import status flush help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
