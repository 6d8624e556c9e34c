//! Lists of exempt prefixes, and the rules that the Go agent makes of them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The sizes at which things are measured.
pub const SIZES: [u32; 4] = [10, 1_000, 10_000, 100_000];

/// So many prefixes of a length from 10.0.0.0 upwards, every second one, so that none can be joined with its neighbour.
///
/// The length matters to nf_tables rules: the kernel loads 1, 2 or 4 bytes of a packet on a fast path (is_power_of_2
/// in nft_payload.c), and iptables-nft compares 3 for a /24, the length that most lists are made of.
#[derive(Debug, Clone, Copy)]
pub struct List {
    /// How many.
    pub count: u32,
    /// How many bits each.
    pub length: u8,
}

impl List {
    /// So many /24.
    pub fn of(count: u32) -> Self {
        List { count, length: 24 }
    }

    fn cidrs(self) -> impl Iterator<Item = String> {
        (0..self.count).map(move |number| self.cidr(number))
    }

    fn cidr(self, number: u32) -> String {
        let step = 2u32 << (32 - self.length);
        format!("{}/{}", Ipv4Addr::from((10 << 24) + number * step), self.length)
    }

    /// The same as a configuration file.
    pub fn config(self) -> String {
        self.cidrs().fold("nonMasqueradeCIDRs:\n".to_owned(), |text, cidr| text + "- " + &cidr + "\n")
    }

    /// The same with another prefix in the place of the middle one.
    pub fn changed_config(self) -> String {
        self.config().replacen(&format!("- {}\n", self.cidr(self.count / 2)), "- 198.51.100.0/24\n", 1)
    }

    /// What the Go agent would send to `iptables-restore`: one rule per prefix, in order, each with its comment.
    pub fn go_agent(self) -> String {
        let mut text = format!(
            "*nat\n:IP-MASQ-AGENT - [0:0]\n\
             -A POSTROUTING -m comment --comment \"{JUMP}\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT\n"
        );
        for cidr in std::iter::once("169.254.0.0/16".to_owned()).chain(self.cidrs()) {
            text += &format!("-A IP-MASQ-AGENT -m comment --comment \"{LOCAL}\" -d {cidr} -j RETURN\n");
        }
        text += &format!("-A IP-MASQ-AGENT -m comment --comment \"{LAST}\" -j MASQUERADE --random-fully\nCOMMIT\n");
        text
    }
}

/// A configuration file with so many /48 from fd00::/48 upwards, every second one.
pub fn config_v6(count: u32) -> String {
    let cidr = |number: u32| format!("- {}/48\n", Ipv6Addr::from((0xfd00 << 112) + (u128::from(number) << 81)));
    format!("nonMasqueradeCIDRs:\n{}", (0..count).map(cidr).collect::<String>())
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × /{}", grouped(self.count), self.length)
    }
}

/// `100,000`.
pub fn grouped(count: u32) -> String {
    match count / 1000 {
        0 => count.to_string(),
        thousands => format!("{thousands},{:03}", count % 1000),
    }
}

const JUMP: &str =
    "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain";
const LOCAL: &str = "ip-masq-agent: local traffic is not subject to MASQUERADE";
const LAST: &str = "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)";

/// A masquerade rule and nothing else, for `iptables-restore`.
pub const LONE_IPTABLES: &str = "*nat\n-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n";

/// A masquerade rule and nothing else, for `nft -f`.
pub const LONE_NFT: &str = "table inet lone {
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		counter masquerade fully-random
	}
}
";
