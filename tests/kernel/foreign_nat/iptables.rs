//! Every extension of iptables that is put into words, as iptables-nft writes it into the kernel, in the words that
//! iptables-save has for it.

use super::lines;
use crate::namespace;
use ip_masq_agent::policy::Family;

/// The rule as entered, and our words for it. What nf_tables has expressions for is in nft's words.
type Rule = (&'static str, &'static str);

const IPV4: &[Rule] = &[
    ("-j MASQUERADE", "MASQUERADE"),
    ("-j MASQUERADE --random-fully", "MASQUERADE --random-fully"),
    ("-p udp -j MASQUERADE --to-ports 1024-2000 --random", "meta l4proto udp MASQUERADE --to-ports 1024-2000 --random"),
    ("-j SNAT --to-source 198.51.100.2", "SNAT --to-source 198.51.100.2"),
    (
        "-j SNAT --to-source 198.51.100.2-198.51.100.9 --random-fully --persistent",
        "SNAT --to-source 198.51.100.2-198.51.100.9 --random-fully --persistent",
    ),
    (
        "-p tcp -j SNAT --to-source 198.51.100.2-198.51.100.9:1024-2000 --random",
        "meta l4proto tcp SNAT --to-source 198.51.100.2-198.51.100.9:1024-2000 --random",
    ),
    ("-p udp -j SNAT --to-source :1024", "meta l4proto udp SNAT --to-source :1024"),
    ("-s 10.0.0.0/24 -j NETMAP --to 192.0.2.0/24", "ip saddr 10.0.0.0/24 NETMAP --to 192.0.2.0/24"),
    ("-m mark --mark 0x1 -j MASQUERADE", "meta mark 0x1 MASQUERADE"),
    ("-m mark ! --mark 0x4000/0x4000 -j RETURN", "meta mark & 0x4000 != 0x4000 return"),
    ("-m connmark --mark 0x10 -j ACCEPT", "-m connmark --mark 0x10 accept"),
    ("-m connmark ! --mark 0x10/0xf0 -j ACCEPT", "-m connmark ! --mark 0x10/0xf0 accept"),
    ("-j MARK --set-xmark 0x5/0xff", "MARK --set-xmark 0x5/0xff"),
    ("-j CONNMARK --set-xmark 0x5/0xff", "CONNMARK --set-xmark 0x5/0xff"),
    ("-j CONNMARK --save-mark", "CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff"),
    ("-j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf0", "CONNMARK --restore-mark --nfmask 0xff --ctmask 0xf0"),
    ("-m conntrack --ctstate NEW,RELATED -j MASQUERADE", "-m conntrack --ctstate NEW,RELATED MASQUERADE"),
    (
        "-m conntrack --ctstate INVALID,ESTABLISHED,UNTRACKED,SNAT,DNAT -j MASQUERADE",
        "-m conntrack --ctstate INVALID,ESTABLISHED,UNTRACKED,SNAT,DNAT MASQUERADE",
    ),
    ("-m conntrack ! --ctstate DNAT -j MASQUERADE", "-m conntrack ! --ctstate DNAT MASQUERADE"),
    (
        "-m conntrack --ctstate DNAT --ctorigdst 192.0.2.1 --ctorigdstport 80 -j MASQUERADE",
        "-m conntrack --ctstate DNAT --ctorigdst 192.0.2.1 --ctorigdstport 80 MASQUERADE",
    ),
    (
        "-p tcp -m conntrack --ctproto 6 ! --ctorigsrc 10.0.0.0/8 --ctreplsrcport 80:90 --ctstatus ASSURED --ctdir REPLY \
         -j MASQUERADE",
        "meta l4proto tcp -m conntrack --ctproto 6 ! --ctorigsrc 10.0.0.0/8 --ctreplsrcport 80:90 --ctstatus ASSURED \
         --ctdir REPLY MASQUERADE",
    ),
    ("-m addrtype ! --dst-type LOCAL -j MASQUERADE", "-m addrtype ! --dst-type LOCAL MASQUERADE"),
    (
        "-m addrtype --src-type UNICAST,LOCAL ! --dst-type BROADCAST --limit-iface-out -j RETURN",
        "-m addrtype --src-type UNICAST,LOCAL ! --dst-type BROADCAST --limit-iface-out return",
    ),
    (
        "-p tcp -m multiport --dports 80,443,1000:2000 -j MASQUERADE",
        "meta l4proto tcp -m multiport --dports 80,443,1000:2000 MASQUERADE",
    ),
    ("-p tcp -m multiport ! --sports 80 -j MASQUERADE", "meta l4proto tcp -m multiport ! --sports 80 MASQUERADE"),
    ("-p udp -m multiport --ports 53 -j MASQUERADE", "meta l4proto udp -m multiport --ports 53 MASQUERADE"),
    ("-p tcp -m tcp ! --sport 25:30 --dport 80 -j MASQUERADE", "tcp sport != 25-30 tcp dport 80 MASQUERADE"),
    ("-p tcp ! --syn -j MASQUERADE", "tcp flags & (fin | syn | rst | ack) != syn MASQUERADE"),
    ("-p udp -m udp --sport 1000:65535 -j MASQUERADE", "udp sport 1000-65535 MASQUERADE"),
    ("! -p tcp -j MASQUERADE", "meta l4proto != tcp MASQUERADE"),
    ("-p icmp -m icmp --icmp-type 8 -j MASQUERADE", "meta l4proto icmp -m icmp --icmp-type 8 MASQUERADE"),
    ("-p icmp -m icmp --icmp-type 3/4 -j MASQUERADE", "meta l4proto icmp -m icmp --icmp-type 3/4 MASQUERADE"),
    ("-p icmp -m icmp ! --icmp-type any -j MASQUERADE", "meta l4proto icmp -m icmp ! --icmp-type any MASQUERADE"),
    ("-m set --match-set lan src -j MASQUERADE", "-m set --match-set lan src MASQUERADE"),
    ("-m set ! --match-set pairs dst,src -j MASQUERADE", "-m set ! --match-set pairs dst,src MASQUERADE"),
    ("-m policy --dir out --pol ipsec -j ACCEPT", "-m policy --dir out --pol ipsec accept"),
    ("-m policy --dir out --pol none -j ACCEPT", "-m policy --dir out --pol none accept"),
    (
        "-m policy --dir out --pol ipsec --strict --reqid 5 --proto esp -j ACCEPT",
        "-m policy --dir out --pol ipsec --strict … accept",
    ),
    ("-m iprange --src-range 10.0.0.5-10.0.0.9 -j MASQUERADE", "-m iprange --src-range 10.0.0.5-10.0.0.9 MASQUERADE"),
    (
        "-m iprange ! --dst-range 10.0.0.5-10.0.0.9 -j MASQUERADE",
        "-m iprange ! --dst-range 10.0.0.5-10.0.0.9 MASQUERADE",
    ),
    ("-m owner --uid-owner 1000 -j MASQUERADE", "-m owner --uid-owner 1000 MASQUERADE"),
    (
        "-m owner ! --gid-owner 5-7 --socket-exists -j MASQUERADE",
        "-m owner --socket-exists ! --gid-owner 5-7 MASQUERADE",
    ),
    ("-m physdev ! --physdev-is-bridged -j ACCEPT", "-m physdev ! --physdev-is-bridged accept"),
    (
        "-m physdev --physdev-in lan+ --physdev-out lan0 --physdev-is-bridged -j ACCEPT",
        "-m physdev --physdev-in lan+ --physdev-out lan0 --physdev-is-bridged accept",
    ),
    (
        "-m statistic --mode nth --every 3 --packet 1 -j MASQUERADE",
        "-m statistic --mode nth --every 3 --packet 1 MASQUERADE",
    ),
    (
        "-m statistic --mode random ! --probability 0.25 -j MASQUERADE",
        "-m statistic --mode random ! --probability 0.25000000000 MASQUERADE",
    ),
    ("-m pkttype --pkt-type multicast -j ACCEPT", "-m pkttype --pkt-type multicast accept"),
    ("-m limit --limit 5/min -j ACCEPT", "limit rate 5/minute burst 5 packets accept"),
    (
        "-s 10.0.0.1 -d 10.1.0.0/255.255.0.255 -j RETURN",
        "ip saddr 10.0.0.1 ip daddr & 255.255.0.255 == 10.1.0.0 return",
    ),
    ("! -o eth+ -j MASQUERADE", "oifname != \"eth*\" MASQUERADE"),
    ("-f -j MASQUERADE", "ip frag-off & 0x1fff != 0x0 MASQUERADE"),
    ("-m comment --comment \"hello \\\"world\\\"\" -j ACCEPT", "accept comment \"hello \"world\"\""),
    // What is not known is named.
    ("-m ttl --ttl-eq 5 -j MASQUERADE", "-m ttl … MASQUERADE"),
    ("-j TEE --gateway 192.0.2.1", "TEE …"),
    ("-d 10.0.0.0/8 -j SUB", "ip daddr 10.0.0.0/8 jump SUB"),
    ("-g SUB", "goto SUB"),
];

const IPV6: &[Rule] = &[
    ("-s 2001:db8::/32 -j MASQUERADE --random-fully", "ip6 saddr 2001:db8::/32 MASQUERADE --random-fully"),
    ("-j SNAT --to-source 2001:db8::1-2001:db8::9", "SNAT --to-source 2001:db8::1-2001:db8::9"),
    ("-p tcp -j SNAT --to-source [2001:db8::1]:1024-2000", "meta l4proto tcp SNAT --to-source [2001:db8::1]:1024-2000"),
    ("-j NETMAP --to 2001:db8::/64", "NETMAP --to 2001:db8::/64"),
    (
        "-m iprange --src-range 2001:db8::1-2001:db8::9 -j RETURN",
        "-m iprange --src-range 2001:db8::1-2001:db8::9 return",
    ),
    ("-m conntrack --ctorigdst 2001:db8::/32 -j RETURN", "-m conntrack --ctorigdst 2001:db8::/32 return"),
    ("-p ipv6-icmp -m icmp6 --icmpv6-type 128 -j RETURN", "meta l4proto ipv6-icmp -m icmp6 --icmpv6-type 128 return"),
];

/// The part of our words that is iptables', as iptables-save has it.
fn in_iptables_words(entered: &str, ours: &str) -> Option<String> {
    let target = entered.split(' ').skip_while(|word| *word != "-j").nth(1).unwrap_or("-");
    let ours = ours.replace(&format!(" {target}"), &format!(" -j {target}"));
    let ours = if ours.starts_with(target) { format!("-j {ours}") } else { ours };
    // A verdict is nf_tables' own again.
    let ours = ours.split(" accept").next()?.split(" return").next()?;
    let first = ["-m ", "-j "].iter().filter_map(|option| ours.find(option)).min()?;
    Some(ours[first..].to_owned())
}

fn check(family: Family, variant: &str, rules: &[Rule]) {
    let entered: String = rules.iter().map(|(entered, _)| format!("-A POSTROUTING {entered}\n")).collect();
    let table = format!("*nat\n:SUB - [0:0]\n{entered}COMMIT\n");
    namespace::run(&format!("{variant}-restore"), &["--noflush"], &table);
    let saved = namespace::run(&format!("{variant}-save"), &["-t", "nat"], "");
    let saved: Vec<&str> = saved.lines().filter(|line| line.starts_with("-A POSTROUTING ")).collect();
    let found = lines(family);
    assert_eq!((found.len(), saved.len()), (rules.len(), rules.len()), "{found:#?}");
    let mut wrong = Vec::new();
    for (((entered, expected), found), saved) in rules.iter().zip(&found).zip(saved) {
        let (_, found) = found.split_once("(priority 100): ").unwrap();
        // iptables-nft 1.8.13 asks the header for the protocol, where those before ask the kernel.
        let found = found.replace("ip protocol ", "meta l4proto ");
        let in_save =
            in_iptables_words(entered, expected).is_none_or(|words| words.contains('…') || saved.contains(&words));
        if found != *expected || !in_save {
            wrong.push((*entered, *expected, found, saved));
        }
    }
    assert!(wrong.is_empty(), "{variant}: (entered, expected, found, saved):\n{wrong:#?}");
}

#[test]
fn an_extension_of_iptables_is_in_the_words_of_iptables_save() {
    namespace::enter!();
    namespace::run("ipset", &["create", "lan", "hash:net"], "");
    namespace::run("ipset", &["create", "pairs", "hash:ip,port"], "");
    check(Family::V4, "iptables-nft", IPV4);
    check(Family::V6, "ip6tables-nft", IPV6);
}
