//! Every expression that is put into words, as `nft` writes it into the kernel, and back: our words are read by `nft`
//! again, and make the same rule.

use super::lines;
use crate::namespace;
use ip_masq_agent::policy::Family;

/// What the rules refer to.
const PREAMBLE: &str = "
 set networks {
  type ipv4_addr
  flags interval
 }
 map sources {
  type ipv4_addr : ipv4_addr
 }
 chain sub {
 }
";
/// The rule as entered, and in our words where they are others.
type Rule = (&'static str, &'static str);
const SAME: &str = "";

const INET: &[Rule] = &[
    ("masquerade", SAME),
    ("masquerade fully-random", SAME),
    ("masquerade random,persistent", SAME),
    ("tcp dport 25 masquerade to :1024", SAME),
    ("meta l4proto tcp masquerade to :1024-2000 random", SAME),
    ("snat ip to 198.51.100.2", SAME),
    ("snat ip to 198.51.100.2-198.51.100.9", SAME),
    ("meta l4proto { tcp, udp } snat ip to 198.51.100.2-198.51.100.9:1024-2000", SAME),
    ("meta l4proto udp snat to :1024-2000 persistent", SAME),
    ("snat ip to ip saddr map @sources", SAME),
    ("snat ip to ip saddr map { 10.0.0.1 : 192.0.2.1, 10.0.0.2 : 192.0.2.2 }", SAME),
    ("snat ip to ip saddr map { 10.0.0.0/24 : 192.0.2.1, 10.0.1.0-10.0.1.5 : 192.0.2.2 }", SAME),
    ("snat ip to ip saddr map { 10.0.0.1 : 192.0.2.1-192.0.2.5 }", SAME),
    ("snat ip prefix to ip saddr map { 10.0.0.0/24 : 192.0.2.0/24 }", SAME),
    ("snat ip to ip saddr . tcp sport map { 10.0.0.1 . 5 : 192.0.2.1 . 80 }", SAME),
    ("snat ip to numgen inc mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }", SAME),
    ("snat ip to jhash ip saddr mod 2 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }", SAME),
    ("snat ip to jhash ip saddr . ip daddr mod 2 seed 0x5 map { 0 : 192.0.2.1, 1 : 192.0.2.2 }", SAME),
    ("tcp dport 80 snat ip6 to [2001:db8::1]:80", SAME),
    ("meta mark 0x1 masquerade", SAME),
    ("meta mark != 0x1 masquerade", SAME),
    ("meta mark & 0xff00 == 0x100 masquerade", SAME),
    ("meta mark and 0x4000 != 0x4000 return", "meta mark & 0x4000 != 0x4000 return"),
    ("meta mark 0x1-0x5 masquerade", SAME),
    ("meta mark != 0x1-0x5 masquerade", SAME),
    ("meta mark > 0x5 masquerade", SAME),
    ("meta mark { 0x1, 0x10 } masquerade", SAME),
    ("meta mark { 0x1, 0x5-0x7 } masquerade", SAME),
    ("ct mark 0x10 masquerade", SAME),
    ("ct mark & 0xf0 != 0x10 masquerade", SAME),
    ("meta mark set 0x5", SAME),
    ("meta mark set ct mark", SAME),
    ("meta mark set meta mark & 0xff", SAME),
    ("meta mark set meta mark | 0x100", SAME),
    ("meta mark set ip saddr map { 10.0.0.1 : 0x1 }", SAME),
    ("ct mark set meta mark", SAME),
    ("ct mark set 0x5", SAME),
    ("ct state new masquerade", SAME),
    ("ct state new,related masquerade", "ct state related,new masquerade"),
    ("ct state != established masquerade", SAME),
    ("ct state { new, related } masquerade", "ct state { related, new } masquerade"),
    ("ct status dnat masquerade", SAME),
    ("ct status snat,dnat masquerade", SAME),
    ("ct status & dnat == dnat masquerade", SAME),
    ("ct status & (snat | dnat) == snat masquerade", SAME),
    ("ct direction reply accept", SAME),
    ("ct original ip saddr 10.0.0.1 accept", SAME),
    ("ct reply ip daddr 10.0.0.0/8 accept", SAME),
    ("ct original ip6 daddr 2001:db8::1 accept", SAME),
    ("ct helper \"ftp\" accept", SAME),
    ("ct zone 5 accept", SAME),
    ("ct count over 5 accept", SAME),
    ("ip saddr 10.0.0.1 masquerade", SAME),
    ("ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/9 masquerade", SAME),
    ("ip saddr 0.0.0.0/0 masquerade", SAME),
    ("ip saddr & 255.0.0.255 == 10.0.0.1 masquerade", SAME),
    ("ip saddr 10.0.0.5-10.0.0.9 masquerade", SAME),
    ("ip saddr != 10.0.0.5-10.0.0.9 masquerade", SAME),
    ("ip saddr >= 10.0.0.5 masquerade", SAME),
    ("ip saddr @networks ip daddr != @networks masquerade", SAME),
    ("ip saddr { 10.0.0.1, 10.0.0.2 } jump sub", SAME),
    ("ip saddr != { 10.0.0.0/24, 10.2.0.2, 10.3.0.1-10.3.0.9 } goto sub", SAME),
    ("ip saddr . ip daddr { 10.0.0.1 . 192.0.2.1, 10.0.0.2 . 192.0.2.2 } masquerade", SAME),
    ("ip saddr . ip daddr { 10.0.0.0/24 . 192.0.2.1-192.0.2.5 } masquerade", SAME),
    ("ip saddr . tcp dport { 10.0.0.1 . 25 } masquerade", SAME),
    ("oifname . ip saddr { \"wan0\" . 10.0.0.1 } masquerade", SAME),
    ("ip protocol tcp masquerade", SAME),
    ("ip protocol tcp tcp dport 25 masquerade", SAME),
    ("ip ttl 5 masquerade", SAME),
    ("ip6 saddr 2001:db8::/32 masquerade", SAME),
    ("ip6 saddr 2001:db8::/33 ip6 daddr != ::1 masquerade", SAME),
    ("ip6 nexthdr tcp accept", SAME),
    ("icmp type echo-request masquerade", SAME),
    ("icmpv6 type echo-request masquerade", SAME),
    ("tcp dport 25 tcp sport 1024-65535 masquerade", SAME),
    ("tcp dport { 53, 123 } masquerade", SAME),
    ("udp dport != { 53, 1000-2000 } masquerade", SAME),
    ("tcp dport vmap { 25 : accept, 26 : jump sub }", SAME),
    ("tcp dport vmap { 25 : accept, * : drop }", SAME),
    ("tcp flags & (syn | ack) == syn accept", SAME),
    ("tcp flags syn accept", SAME),
    ("sctp dport 5 masquerade", SAME),
    ("th dport 53 masquerade", SAME),
    ("@th,32,16 0x8 accept", SAME),
    ("meta l4proto tcp @th,160,8 0x1 accept", SAME),
    ("meta nfproto ipv4 @nh,0,8 0x45 accept", SAME),
    ("meta l4proto tcp masquerade", SAME),
    ("meta l4proto != icmp masquerade", SAME),
    ("meta l4proto 99 masquerade", SAME),
    ("meta nfproto ipv4 masquerade", SAME),
    ("meta nfproto ipv6 oifname \"wan0\" masquerade", SAME),
    ("oif \"lo\" masquerade", SAME),
    ("oif != \"lo\" masquerade", SAME),
    ("oifname \"wan0\" masquerade", SAME),
    ("oifname != \"ppp*\" masquerade", SAME),
    ("oifname { \"wan0\", \"wan1\" } masquerade", SAME),
    ("oifname { \"eth*\", \"wan0\" } masquerade", SAME),
    ("iifname \"lan0\" oifgroup 5 masquerade", SAME),
    ("meta oiftype ether accept", SAME),
    ("meta skuid 1000 masquerade", SAME),
    ("meta skgid 5-7 masquerade", SAME),
    ("meta pkttype multicast return", SAME),
    ("meta length > 100 accept", SAME),
    ("meta priority 1:2 accept", SAME),
    ("meta cgroup 5 accept", SAME),
    ("fib saddr type local masquerade", SAME),
    ("fib saddr . oif type local return", SAME),
    ("fib daddr type != { local, broadcast } masquerade", SAME),
    ("rt ipsec exists return", SAME),
    ("ipsec out reqid 5 return", SAME),
    ("ipsec out ip daddr 192.0.2.1 return", SAME),
    ("numgen random mod 10 < 3 masquerade", SAME),
    ("limit rate 5/second burst 5 packets masquerade", SAME),
    ("limit rate over 10 bytes/minute masquerade", SAME),
    ("quota over 5000 bytes masquerade", SAME),
    ("log prefix \"nat \" group 5 accept", SAME),
    ("log", SAME),
    ("notrack", SAME),
    ("counter", SAME),
    ("counter packets 5 bytes 7 accept", "accept"),
    ("continue", SAME),
    ("return", SAME),
    ("drop", SAME),
    ("ip saddr 10.0.0.1 masquerade comment \"dial-up\"", SAME),
];

/// In tables of one family that family is not said.
const IP: &[Rule] = &[
    ("ip saddr 10.0.0.0/8 snat to 198.51.100.2", SAME),
    ("meta l4proto tcp snat to 198.51.100.2:1024-2000", SAME),
    ("snat to ip saddr map { 10.0.0.1 : 192.0.2.1 }", SAME),
    ("ip daddr 224.0.0.0/4 return", SAME),
    ("ip protocol tcp masquerade", SAME),
    ("ip protocol tcp tcp dport 25 masquerade", "tcp dport 25 masquerade"),
    ("ct original saddr 10.0.0.1 accept", SAME),
    ("ct original protocol tcp ct original proto-dst 80 accept", "ct protocol tcp ct original proto-dst 80 accept"),
];
const IP6: &[Rule] = &[
    ("ip6 saddr 2001:db8::/64 snat to 2001:db8:1::1", SAME),
    ("meta l4proto tcp snat to [2001:db8:1::1]-[2001:db8:1::5]:1024-2000", SAME),
    ("ip6 daddr ff00::/8 return", SAME),
    ("ip6 nexthdr udp udp dport 53 masquerade", "udp dport 53 masquerade"),
    ("ct reply daddr 2001:db8::1 accept", SAME),
];

fn table(family: &str, name: &str, rules: &[String]) -> String {
    let rules = rules.join("\n");
    format!(
        "table {family} {name} {{{PREAMBLE} chain post {{\n type nat hook postrouting priority 90\n{rules}\n }}\n}}\n"
    )
}

/// The rules of a chain as nft lists them.
fn listed(family: &str, name: &str) -> Vec<String> {
    let listing = namespace::run("nft", &["list", "chain", family, name, "post"], "");
    listing.lines().skip(3).map(|line| line.trim().to_owned()).filter(|line| line != "}").collect()
}

#[test]
fn our_words_for_a_rule_make_the_same_rule_again() {
    namespace::enter!();
    for (family, asked, rules) in [("inet", Family::V4, INET), ("ip", Family::V4, IP), ("ip6", Family::V6, IP6)] {
        let entered: Vec<String> = rules.iter().map(|(entered, _)| (*entered).to_owned()).collect();
        namespace::nft(&table(family, "entered", &entered));
        let prefix = format!("{family} entered post (priority 90): ");
        let found = lines(asked);
        let found: Vec<String> = found.iter().map(|line| line.strip_prefix(&prefix).unwrap().to_owned()).collect();
        let expected = rules.iter().map(|(entered, ours)| if ours.is_empty() { *entered } else { *ours });
        let wrong: Vec<_> = expected.zip(&found).filter(|(expected, found)| expected != *found).collect();
        assert!(wrong.is_empty() && found.len() == rules.len(), "{family}: (expected, found):\n{wrong:#?}");
        namespace::nft(&table(family, "again", &found));
        let without_counters = |lines: Vec<String>| -> Vec<String> {
            lines.into_iter().map(|line| line.replace("counter packets 5 bytes 7 ", "")).collect()
        };
        assert_eq!(without_counters(listed(family, "entered")), listed(family, "again"), "{family}");
        namespace::nft("flush ruleset\n");
    }
}
