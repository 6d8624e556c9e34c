//! Lists of exempt prefixes, and the rules that the Go agent makes of them.

/// So many /28 of 10.0.0.0/8, every second one, so that none can be joined with its neighbour.
pub fn cidrs(count: u32) -> Vec<String> {
    assert!(count <= 1 << 19, "10.0.0.0/8 has room for {} of them", 1 << 19);
    let prefix = |i: u32| format!("{}/28", std::net::Ipv4Addr::from((10 << 24) + i * 32));
    (0..count).map(prefix).collect()
}

/// The same as a configuration file.
pub fn config(count: u32) -> String {
    let items: String = cidrs(count).iter().map(|cidr| format!("- {cidr}\n")).collect();
    if count == 0 { "nonMasqueradeCIDRs: []\n".to_owned() } else { format!("nonMasqueradeCIDRs:\n{items}") }
}

const JUMP: &str =
    "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain";
const LOCAL: &str = "ip-masq-agent: local traffic is not subject to MASQUERADE";
const LAST: &str = "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)";

/// What the Go agent would send to `iptables-restore`: one rule per prefix, in order, each with its comment.
pub fn go_agent(count: u32) -> String {
    let mut text = format!(
        "*nat\n:IP-MASQ-AGENT - [0:0]\n-A POSTROUTING -m comment --comment \"{JUMP}\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT\n"
    );
    let exempt = std::iter::once("169.254.0.0/16".to_owned()).chain(cidrs(count));
    exempt.for_each(|cidr| {
        text += &format!("-A IP-MASQ-AGENT -m comment --comment \"{LOCAL}\" -d {cidr} -j RETURN\n");
    });
    text + &format!("-A IP-MASQ-AGENT -m comment --comment \"{LAST}\" -j MASQUERADE --random-fully\nCOMMIT\n")
}

/// A masquerade rule and nothing else.
pub const LONE_MASQUERADE: &str = "*nat\n-A POSTROUTING -j MASQUERADE --random-fully\nCOMMIT\n";
