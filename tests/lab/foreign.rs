//! Rules of another program, next to ours in every variant. None of them matches what the tests send.

use super::Namespace;

const VARIANTS: [&str; 4] = ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"];

/// A table with a set, as `nft -f` loads it.
pub const TABLE: &str = "table inet theirs {\n set s { type ipv4_addr; elements = { 192.0.2.99 }; }\n chain post {\n \
    type nat hook postrouting priority 150;\n ip saddr @s masquerade\n }\n}\n";

/// Puts them all in.
pub fn add(node: &Namespace) {
    VARIANTS.iter().for_each(|program| add_to(node, program));
    add_table(node);
}

/// Puts those of one of `iptables-nft`, `ip6tables-legacy` … in.
pub fn add_to(node: &Namespace, program: &str) {
    let source = if program.starts_with("ip6") { "2001:db8:99::/48" } else { "192.0.2.99" };
    let rules = format!(
        "*nat\n:THEIRS - [0:0]\n-A THEIRS -s {source} -j ACCEPT\n-A POSTROUTING -s {source} -j THEIRS\n\
         -A POSTROUTING -s {source} -j MASQUERADE\nCOMMIT\n"
    );
    let output = node.run_with_input(&format!("{program}-restore"), &["-w", "--noflush"], &rules);
    assert!(output.status.success(), "{program}: {output:?}");
}

/// Puts the nftables table in.
pub fn add_table(node: &Namespace) {
    node.nft(TABLE);
}

/// Everything that is not ours, as the host's own tools list it.
pub fn listing(node: &Namespace) -> String {
    let mut found = node.must("nft", &["list", "table", "inet", "theirs"]);
    for program in VARIANTS {
        let listing = node.must(&format!("{program}-save"), &["-t", "nat"]);
        let lines = listing.lines().filter(|line| line.contains("THEIRS") || line.starts_with("-A POSTROUTING"));
        // The numbers of a built-in chain move by themselves.
        let theirs = lines.filter(|line| !line.to_lowercase().contains("ip-masq-agent"));
        found.extend(theirs.map(|line| format!("{program}: {}\n", line.split(" [").next().unwrap_or_default())));
    }
    found
}
