//! A configuration as text.

use super::forwards::{EntryHairpin, ForwardEntry};
use super::rule::{Refusal, Rules, Translation};
use super::sources::{Part, Sources, Treatment};
use crate::policy::{AddressSet, FORWARD_PROTOCOLS, Family, LINK_LOCAL_V6, Prefix};
use crate::text::one_line;
use std::fmt::{Display, Write};

/// How many lines that could not be said are shown.
const MAX_REFUSED: usize = 10_000;
/// Up to so many items of a list stand on its line.
const ON_A_LINE: usize = 6;

/// A word of YAML, in quotes where it could be read as something else.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '+');
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number =
        text.parse::<f64>().is_ok() || text.strip_prefix("0x").or(text.strip_prefix("0o")).is_some_and(hexadecimal);
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(plain)
        && !number
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "''")) }
}

/// Keys at one depth.
pub struct Keys {
    pub text: String,
    indent: usize,
    /// The next key begins an item of a list.
    item: bool,
}

impl Keys {
    pub fn top() -> Self {
        Keys { text: String::new(), indent: 0, item: false }
    }

    fn item() -> Self {
        Keys { text: String::new(), indent: 4, item: true }
    }

    pub fn key(&mut self, key: &str, value: impl Display) {
        let indent = match std::mem::take(&mut self.item) {
            true => format!("{}- ", " ".repeat(self.indent - 2)),
            false => " ".repeat(self.indent),
        };
        let _ = writeln!(self.text, "{indent}{key}: {value}");
    }

    pub fn list(&mut self, key: &str, items: impl IntoIterator<Item = impl Display>) {
        let items: Vec<String> = items.into_iter().map(|item| word(&item.to_string())).collect();
        if items.len() <= ON_A_LINE {
            return self.key(key, format!("[{}]", items.join(", ")));
        }
        self.key(key, "");
        self.text.truncate(self.text.trim_end().len());
        self.text.push('\n');
        for item in items {
            let _ = writeln!(self.text, "{}  - {item}", " ".repeat(self.indent));
        }
    }

    /// The same where there are items.
    fn some(&mut self, key: &str, items: impl IntoIterator<Item = impl Display>) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_some() {
            self.list(key, items);
        }
    }
}

/// Comments before all else.
pub fn head(origin: &str, notes: &[String]) -> String {
    let mut text = format!("# Made from {origin} by 'ip-masq-agent import'.\n");
    for note in notes {
        let _ = writeln!(text, "# {}", one_line(note));
    }
    text
}

/// What could not be said, as comments.
pub fn refusals(refused: &[Refusal]) -> String {
    let mut text = String::new();
    if !refused.is_empty() {
        text.push_str("\n# Not in this configuration; keep these by hand, or say them in another way:\n");
    }
    for Refusal { line, reason } in refused.iter().take(MAX_REFUSED) {
        let number = if line.number == usize::MAX { String::new() } else { format!("line {}: ", line.number) };
        let _ = writeln!(text, "# {number}{}\n#     {}", one_line(&line.text), one_line(reason));
    }
    if refused.len() > MAX_REFUSED {
        let _ = writeln!(text, "# … and {} more", refused.len() - MAX_REFUSED);
    }
    text
}

/// The rules as a configuration.
pub fn rules(origin: &str, found: &Rules, sources: &Sources, forwards: &[ForwardEntry]) -> String {
    let mut keys = Keys::top();
    let ipv6 = sources.uses(Family::V6) || forwards.iter().any(|forward| forward.family() == Family::V6);
    if ipv6 {
        keys.key("enableIPv6", true);
    }
    keys.some("exemptMarks", &sources.exempt_marks);
    if sources.exempt_ipsec {
        keys.key("exemptIpsec", true);
    }
    let treatments = || sources.parts().flat_map(|part| &part.treatments).filter(|one| one.translation.is_some());
    let shared = Family::ALL.map(|family| shared_lists(treatments().filter(|one| one.family == family)));
    write_part(&mut keys, &sources.top, sources, None);
    let lists: Vec<_> = shared.iter().flatten().collect();
    if !lists.is_empty() {
        write_lists(&mut keys, &lists);
    }
    let random: Vec<bool> = treatments().filter_map(|one| one.translation).map(|one| one.random_fully).collect();
    let uniform = random.windows(2).all(|pair| pair[0] == pair[1]);
    if uniform && random.first() == Some(&false) {
        keys.key("randomFully", false);
    }
    as_the_rules_did(&mut keys, &treatments().collect::<Vec<_>>());
    if !sources.egress.is_empty() {
        keys.text.push_str("egress:\n");
        for part in &sources.egress {
            let own =
                part.treatments.iter().any(|one| one.translation.is_some() && shared[number(one.family)].is_none());
            let mut item = Keys::item();
            write_part(&mut item, part, sources, (!uniform).then_some(()));
            if own {
                let lists: Vec<Lists> =
                    part.treatments.iter().filter(|one| one.translation.is_some()).map(Treatment::lists).collect();
                write_lists(&mut item, &lists.iter().collect::<Vec<_>>());
            }
            keys.text.push_str(&item.text);
        }
    }
    if !forwards.is_empty() {
        if let Some((key, value)) = &found.forward_mark {
            keys.key(key, value);
        }
        keys.text.push_str("portForwards:\n");
        forwards.iter().for_each(|forward| keys.text.push_str(&self::forward(forward)));
    }
    format!("{}{}{}", head(origin, &found.notes), keys.text, refusals(&found.refused))
}

fn number(family: Family) -> usize {
    usize::from(family == Family::V6)
}

/// Exceptions and exemptions.
type Lists = (Vec<Prefix>, Vec<Prefix>);

/// The lists of a family, where all treatments have the same.
fn shared_lists<'t>(treatments: impl Iterator<Item = &'t Treatment>) -> Option<Lists> {
    let mut lists: Vec<Lists> = Vec::new();
    for one in treatments.map(Treatment::lists) {
        if !lists.contains(&one) {
            lists.push(one);
        }
    }
    if lists.len() == 1 { lists.pop() } else { None }
}

fn write_lists(keys: &mut Keys, lists: &[&Lists]) {
    keys.list("nonMasqueradeCIDRs", lists.iter().flat_map(|lists| &lists.1));
    keys.some("masqueradeExceptionCIDRs", lists.iter().flat_map(|lists| &lists.0));
}

/// The scope and the sources of a part; `random`: it says `randomFully` itself.
fn write_part(keys: &mut Keys, part: &Part, sources: &Sources, random: Option<()>) {
    keys.some("outInterfaces", &part.out);
    keys.some("sourceCIDRs", &part.sources);
    keys.some("excludeSourceCIDRs", &part.excluded);
    let translations: Vec<Translation> = part.treatments.iter().filter_map(|one| one.translation).collect();
    let to: Vec<String> = translations.iter().filter_map(|one| one.to).map(|to| word(&to.to_string())).collect();
    match (translations.is_empty(), to.as_slice()) {
        (true, _) => keys.key("snat", "none"),
        (false, []) if std::ptr::eq(part, &sources.top) => {}
        (false, []) => keys.key("snat", "masquerade"),
        (false, [one]) => keys.key("snat", one),
        (false, _) => keys.key("snat", format!("[{}]", to.join(", "))),
    }
    if let (Some(()), Some(first)) = (random, translations.first()) {
        keys.key("randomFully", first.random_fully);
    }
}

/// What ip-masq-agent leaves alone unless it is told, and plain rules do not.
fn as_the_rules_did(keys: &mut Keys, treatments: &[&Treatment]) {
    if treatments.is_empty() {
        return;
    }
    let range = |text: &str| text.parse::<Prefix>().ok();
    let ranges = |texts: &[&str]| texts.iter().filter_map(|text| range(text)).collect::<Vec<_>>();
    let translate =
        |family: Family, ranges: &[Prefix]| treatments.iter().any(|one| one.family == family && one.translates(ranges));
    keys.text.push_str(
        "# As these rules did. Without the next keys, packets with an address of the outgoing interface (virtual\n\
         # addresses), to multicast and to link-local addresses keep their source, as they do by default:\n",
    );
    keys.key("masqLocalSource", true);
    if translate(Family::V4, &ranges(&["224.0.0.0/4", "255.255.255.255/32"]))
        || translate(Family::V6, &ranges(&["ff00::/8"]))
    {
        keys.key("masqMulticast", true);
    }
    if translate(Family::V4, &ranges(&["169.254.0.0/16"])) {
        keys.key("masqLinkLocal", true);
    }
    if translate(Family::V6, &[LINK_LOCAL_V6]) {
        keys.key("masqLinkLocalIPv6", true);
    }
    keys.text.push_str("# (end of these)\n");
}

fn forward(forward: &ForwardEntry) -> String {
    let mut keys = Keys::item();
    keys.key("hostPort", forward.host_ports.written());
    match forward.protocols.as_slice() {
        [one] if *one == FORWARD_PROTOCOLS[0] => {}
        [one] => keys.key("protocol", one),
        list => keys.list("protocol", list),
    }
    if let Some(host) = forward.host {
        keys.key("hostIP", word(&host.to_string()));
    }
    keys.key("address", word(&forward.address.to_string()));
    if forward.port != forward.host_ports.first {
        keys.key("port", forward.port);
    }
    keys.some("inInterfaces", &forward.incoming);
    if let Some(sources) = &forward.sources {
        let left_out = super::rule::but(forward.family(), sources).prefixes();
        let named = sources.prefixes();
        match left_out.len() < named.len() {
            true => keys.some("excludeSourceCIDRs", left_out),
            false => keys.some("sourceCIDRs", named),
        }
    }
    match &forward.hairpin {
        EntryHairpin::Auto => {}
        EntryHairpin::Always => keys.key("hairpin", "always"),
        EntryHairpin::From(set) if *set != AddressSet::default() => keys.list("hairpin", set.prefixes()),
        // Who comes in through a named interface is not in the network of the target.
        EntryHairpin::From(_) if forward.incoming.iter().any(|pattern| !pattern.negated) => {}
        EntryHairpin::From(_) => keys.key("hairpin", "never"),
    }
    if forward.localhost {
        keys.key("localhost", true);
    }
    keys.text
}
