//! One rule in words, asked of a packet. The words are those of `sys::listing` and of iptables-save.

use super::{Fit, Packet, RuleVerdict};
use crate::policy::{Family, Prefix, Protocol};
use std::net::IpAddr;

/// What ends a rule, or at least says something about the packet.
const STATEMENTS: [&str; 15] = [
    "accept",
    "drop",
    "reject",
    "return",
    "continue",
    "notrack",
    "jump",
    "goto",
    "masquerade",
    "snat",
    "dnat",
    "redirect",
    "tproxy",
    "-j",
    "-g",
];
/// Options of modules of iptables that have no value.
const SWITCHES: [&str; 8] = [
    "--socket-exists",
    "--physdev-is-bridged",
    "--physdev-is-in",
    "--physdev-is-out",
    "--strict",
    "--limit-iface-out",
    "--limit-iface-in",
    "--syn",
];
/// What nft says of things that decide nothing.
const WITHOUT_EFFECT: [&str; 2] = ["counter", "continue"];

/// Whether the packet fits, and what then becomes of it: one answer, or one for each element of a verdict map; one before
/// it where the rule keeps the packet from connection tracking as well.
pub fn outcomes(text: &str, packet: &Packet) -> Vec<(Fit, RuleVerdict)> {
    let mut reader = Reader { tokens: tokens(text), at: 0, fit: Fit::Yes, packet };
    reader.rule()
}

struct Reader<'t, 'p> {
    tokens: Vec<&'t str>,
    at: usize,
    fit: Fit,
    packet: &'p Packet,
}

/// What is asked of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Source,
    Destination,
    In,
    Out,
    Protocol,
    Network,
    SourcePort,
    DestinationPort,
    Mark,
    State,
    Status,
    SourceType,
    DestinationType,
    Ipsec,
}

/// Words, an opening or closing brace, or a text in quotes with these.
fn tokens(text: &str) -> Vec<&str> {
    let (mut found, mut rest) = (Vec::new(), text.trim_start());
    while let Some(first) = rest.chars().next() {
        let end = if first == '"' { end_of_quoted(rest) } else { rest.find(char::is_whitespace) };
        let (token, behind) = rest.split_at(end.unwrap_or(rest.len()));
        found.push(token);
        rest = behind.trim_start();
    }
    found
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return text[at..].find(char::is_whitespace).map(|behind| at + behind),
            c => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// A word of a list has a comma behind it.
fn unquoted(token: &str) -> &str {
    token.trim_end_matches(',').trim_matches('"')
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Option<&'t str> {
        let token = self.tokens.get(self.at).copied();
        self.at += usize::from(token.is_some());
        token
    }

    fn peek(&self) -> &'t str {
        self.tokens.get(self.at).copied().unwrap_or_default()
    }

    fn take(&mut self, word: &str) -> bool {
        let is = self.peek() == word;
        self.at += usize::from(is);
        is
    }

    fn and(&mut self, fit: Fit) {
        self.fit = self.fit.min(fit);
    }

    fn rule(&mut self) -> Vec<(Fit, RuleVerdict)> {
        let mut sets_mark = false;
        let mut found = Vec::new();
        while let Some(token) = self.next() {
            if let Some(verdict) = self.statement(token) {
                found.push((self.fit, verdict));
                return found;
            }
            match token {
                "notrack" => found.push((self.fit, RuleVerdict::Untrack)),
                _ if WITHOUT_EFFECT.contains(&token) => {}
                "log" => self.log(),
                "meta" | "ct" if self.tokens.get(self.at + 1) == Some(&"set") => {
                    sets_mark |= token == "meta";
                    self.skip();
                }
                "!" => self.option(true),
                _ if token.starts_with('-') => {
                    self.at -= 1;
                    self.option(false);
                }
                _ => match self.field(token) {
                    Some(field) if self.take("vmap") => {
                        found.extend(self.map(field));
                        return found;
                    }
                    Some(field) => self.comparison(field),
                    None => self.not_understood(),
                },
            }
        }
        if sets_mark || found.is_empty() {
            found.push((self.fit, if sets_mark { RuleVerdict::SetMark } else { RuleVerdict::Continue }));
        }
        found
    }

    /// Goes on to what the rule does in the end: what is left out only narrows it.
    fn not_understood(&mut self) {
        self.and(Fit::NotUnderstood);
        self.skip();
    }

    fn skip(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            match *token {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                // Whatever the map says.
                "vmap" if depth == 0 => {
                    self.tokens.truncate(self.at);
                    self.tokens.push("…");
                    return;
                }
                token if depth == 0 && (STATEMENTS.contains(&token) || is_target(token)) => return,
                _ => {}
            }
            self.at += 1;
        }
    }

    fn log(&mut self) {
        while matches!(self.peek(), "prefix" | "group" | "level" | "flags") {
            self.at += 2;
        }
    }

    fn statement(&mut self, token: &'t str) -> Option<RuleVerdict> {
        Some(match token {
            "accept" => RuleVerdict::Accept,
            "drop" | "reject" => RuleVerdict::Drop,
            "return" => RuleVerdict::Return,
            "jump" => RuleVerdict::Jump(self.next()?.to_owned()),
            "goto" | "-g" => RuleVerdict::Goto(self.next()?.to_owned()),
            "masquerade" | "snat" | "dnat" | "redirect" => self.translation(token),
            "tproxy" | "queue" | "dup" | "fwd" | "…" => RuleVerdict::NotUnderstood,
            "-j" => {
                let target = self.next()?;
                return Some(self.target(target).unwrap_or_else(|| RuleVerdict::Jump(target.to_owned())));
            }
            _ if is_target(token) => return self.target(token),
            _ => return None,
        })
    }

    fn translation(&mut self, token: &str) -> RuleVerdict {
        let rest = &self.tokens[self.at..];
        let statement = format!("{token} {}", rest.join(" ")).trim_end().to_owned();
        let address =
            if rest.contains(&"map") { self.mapped() } else { rest.iter().find_map(|word| single_address(word)) };
        RuleVerdict::Translate(statement, address)
    }

    /// The address that a map has for the packet. What it has none for goes on with the next rule.
    fn mapped(&mut self) -> Option<IpAddr> {
        while self.next().is_some_and(|word| word != "to") {}
        // Each flow gets one of them.
        if matches!(self.peek(), "numgen" | "jhash" | "symhash") {
            return None;
        }
        let field = self.next().and_then(|token| self.field(token));
        let mut elements = Vec::new();
        if self.take("map") && self.take("{") {
            while let Some(key) = self.next().filter(|key| *key != "}") {
                let fit = match (field, self.take(":")) {
                    (Some(field), true) => self.is(field, unquoted(key)),
                    _ => Fit::NotUnderstood,
                };
                let value = self.next().unwrap_or_default();
                elements.push((fit, single_address(unquoted(value))));
                // Its port.
                let mut last = value;
                while !last.ends_with(',') && !matches!(self.peek(), "" | "}") {
                    last = self.next().unwrap_or_default();
                }
            }
        }
        let (fit, address) = elements.into_iter().max_by_key(|(fit, _)| *fit).unwrap_or((Fit::NotUnderstood, None));
        self.and(fit);
        address.filter(|_| fit == Fit::Yes)
    }

    /// A target of iptables; `None` for a chain.
    fn target(&self, name: &str) -> Option<RuleVerdict> {
        let rest = &self.tokens[self.at..];
        let whole = || [&[name], rest].concat().join(" ");
        Some(match name {
            "ACCEPT" => RuleVerdict::Accept,
            "DROP" | "REJECT" => RuleVerdict::Drop,
            "RETURN" => RuleVerdict::Return,
            "MASQUERADE" | "SNAT" | "DNAT" | "NETMAP" | "REDIRECT" => {
                let address = if name == "NETMAP" { None } else { rest.iter().find_map(|word| single_address(word)) };
                RuleVerdict::Translate(whole(), address)
            }
            "MARK" => RuleVerdict::SetMark,
            "NOTRACK" => RuleVerdict::Untrack,
            "CT" if rest.contains(&"--notrack") => RuleVerdict::Untrack,
            "LOG" | "NFLOG" | "CONNMARK" | "TCPMSS" | "CLASSIFY" | "TOS" | "DSCP" | "TTL" | "HL" | "CT" | "SET"
            | "TEE" | "AUDIT" | "CHECKSUM" | "TRACE" => RuleVerdict::Continue,
            "NFQUEUE" | "QUEUE" | "TPROXY" | "SYNPROXY" => RuleVerdict::NotUnderstood,
            _ => return None,
        })
    }

    fn field(&mut self, token: &str) -> Option<Field> {
        let second = self.peek();
        let ports = |port: &str| match port {
            "sport" => Some(Field::SourcePort),
            "dport" => Some(Field::DestinationPort),
            _ => None,
        };
        let (field, words) = match (token, second) {
            ("iifname" | "iif", _) => (Field::In, 0),
            ("oifname" | "oif", _) => (Field::Out, 0),
            ("ip" | "ip6", "saddr") => (Field::Source, 1),
            ("ip" | "ip6", "daddr") => (Field::Destination, 1),
            ("ip", "protocol") | ("ip6", "nexthdr") => (Field::Protocol, 1),
            ("meta", "l4proto") => (Field::Protocol, 1),
            ("meta", "nfproto" | "protocol") => (Field::Network, 1),
            ("meta", "mark") => (Field::Mark, 1),
            ("ct", "state") => (Field::State, 1),
            ("ct", "status") => (Field::Status, 1),
            ("rt", "ipsec") => (Field::Ipsec, 1),
            ("fib", "saddr") if self.tokens.get(self.at + 1) == Some(&"type") => (Field::SourceType, 2),
            ("fib", "daddr") if self.tokens.get(self.at + 1) == Some(&"type") => (Field::DestinationType, 2),
            ("tcp" | "udp" | "sctp" | "th", port) => {
                let field = ports(port)?;
                if token != "th" {
                    self.and(self.is_protocol(token));
                }
                (field, 1)
            }
            _ => return None,
        };
        let is_v6 = token == "ip6";
        if matches!(token, "ip" | "ip6") && is_v6 != (self.packet.family == Family::V6) {
            self.and(Fit::No);
        }
        // Several fields at once.
        if self.tokens.get(self.at + words) == Some(&".") {
            return None;
        }
        self.at += words;
        Some(field)
    }

    fn comparison(&mut self, field: Field) {
        let mask = if self.take("&") { self.next() } else { None };
        let negated = match self.peek() {
            "!=" => true,
            "==" => false,
            "<" | ">" | "<=" | ">=" | "^" | "|" => return self.not_understood(),
            _ => {
                self.at = self.at.wrapping_sub(1);
                false
            }
        };
        self.at = self.at.wrapping_add(1);
        let fit = match (mask, self.next()) {
            (_, Some("{")) => {
                let mut values = Vec::new();
                while let Some(value) = self.next().filter(|value| *value != "}") {
                    values.push(value);
                }
                values.into_iter().map(|value| self.is(field, unquoted(value))).max().unwrap_or(Fit::No)
            }
            (Some(mask), Some(value)) if field == Field::Mark => self.is_mark(value, mask),
            (Some(_), _) | (_, None) => Fit::NotUnderstood,
            (None, Some(value)) => self.is(field, unquoted(value)),
        };
        self.and(fit.unless(negated));
    }

    fn map(&mut self, field: Field) -> Vec<(Fit, RuleVerdict)> {
        if !self.take("{") {
            return vec![(self.fit, RuleVerdict::NotUnderstood)];
        }
        let mut found = Vec::new();
        while let Some(key) = self.next().filter(|key| *key != "}") {
            if !self.take(":") {
                found.push((self.fit.min(Fit::NotUnderstood), RuleVerdict::NotUnderstood));
                break;
            }
            let verdict = match self.next().map(unquoted) {
                Some("jump") => RuleVerdict::Jump(unquoted(self.next().unwrap_or_default()).to_owned()),
                Some("goto") => RuleVerdict::Goto(unquoted(self.next().unwrap_or_default()).to_owned()),
                Some("accept") => RuleVerdict::Accept,
                Some("drop") => RuleVerdict::Drop,
                Some("return") => RuleVerdict::Return,
                Some("continue") => RuleVerdict::Continue,
                _ => RuleVerdict::NotUnderstood,
            };
            let is_else = key == "*";
            let fits = if is_else { Fit::Yes } else { self.is(field, unquoted(key)) };
            let others = found.iter().map(|(fit, _): &(Fit, RuleVerdict)| *fit).max().unwrap_or(Fit::No);
            // What fits another element does not come to the last one.
            let fits = if is_else && others != Fit::No { others.min(Fit::Unsaid) } else { fits };
            found.push((self.fit.min(fits), verdict));
        }
        found
    }

    /// One option of iptables.
    fn option(&mut self, mut negated: bool) {
        let Some(option) = self.next() else { return };
        negated |= self.take("!");
        let value = |reader: &mut Self, field| {
            let value = reader.next().unwrap_or_default();
            reader.and(reader.is(field, unquoted(value)).unless(negated));
        };
        match option {
            "-s" => value(self, Field::Source),
            "-d" => value(self, Field::Destination),
            "-i" => value(self, Field::In),
            "-o" => value(self, Field::Out),
            "-p" => value(self, Field::Protocol),
            "-m" => {
                let module = self.next().unwrap_or_default();
                self.module(module);
            }
            _ => self.not_understood(),
        }
    }

    /// The options of a module.
    fn module(&mut self, module: &str) {
        if matches!(module, "tcp" | "udp" | "sctp") {
            self.and(self.is_protocol(module));
        }
        if self.take("…") {
            return self.and(Fit::NotUnderstood);
        }
        loop {
            let negated = self.peek() == "!" && self.tokens.get(self.at + 1).is_some_and(|next| next.starts_with("--"));
            if !negated && !self.peek().starts_with("--") {
                return;
            }
            self.at += usize::from(negated);
            let Some(option) = self.next() else { return };
            let value = if SWITCHES.contains(&option) { "" } else { self.next().unwrap_or_default() };
            if matches!(option, "--tcp-flags" | "--match-set") {
                self.at += 1;
            }
            let fit = self.module_option(module, option, unquoted(value));
            self.and(fit.unless(negated));
        }
    }

    fn module_option(&self, module: &str, option: &str, value: &str) -> Fit {
        let any = |field, values: &str| {
            values.split(',').map(|value| self.is(field, value)).max().unwrap_or(Fit::NotUnderstood)
        };
        match (module, option) {
            ("comment", _) => Fit::Yes,
            ("mark", "--mark") => match value.split_once('/') {
                Some((mark, mask)) => self.is_mark(mark, mask),
                None => self.is(Field::Mark, value),
            },
            ("conntrack", "--ctstate") | ("state", "--state") => {
                let lower = value.to_lowercase();
                any(Field::State, &lower).max(any(Field::Status, &lower))
            }
            ("addrtype", "--dst-type") => any(Field::DestinationType, &value.to_lowercase()),
            ("addrtype", "--src-type") => any(Field::SourceType, &value.to_lowercase()),
            ("tcp" | "udp" | "sctp", "--dport") | ("multiport", "--dports") => any(Field::DestinationPort, value),
            ("tcp" | "udp" | "sctp", "--sport") | ("multiport", "--sports" | "--ports") => Fit::Unsaid,
            ("tcp", "--syn") => Fit::Yes,
            ("iprange", "--src-range") => self.is(Field::Source, value),
            ("iprange", "--dst-range") => self.is(Field::Destination, value),
            ("policy", "--dir") => Fit::Yes,
            ("policy", "--pol") => Fit::of(Some(value == "none")),
            ("physdev", _) => Fit::No,
            ("icmp", _) => self.is_protocol("icmp").min(Fit::Unsaid),
            ("icmp6", _) => self.is_protocol("ipv6-icmp").min(Fit::Unsaid),
            _ => Fit::NotUnderstood,
        }
    }

    fn is_protocol(&self, name: &str) -> Fit {
        let number = match name {
            "icmp" => Some(1),
            "tcp" => Some(6),
            "udp" => Some(17),
            "ipv6-icmp" | "icmpv6" => Some(58),
            "sctp" => Some(132),
            "dccp" => Some(33),
            "gre" => Some(47),
            "esp" => Some(50),
            "ah" => Some(51),
            "igmp" => Some(2),
            "vrrp" => Some(112),
            "udplite" => Some(136),
            number => number.parse().ok(),
        };
        let Some(number) = number else { return Fit::NotUnderstood };
        Fit::of(self.packet.protocol_number().map(|of| of == number))
    }

    fn is_mark(&self, value: &str, mask: &str) -> Fit {
        let (Some(value), Some(mask)) = (hexadecimal(value), hexadecimal(mask)) else { return Fit::NotUnderstood };
        Fit::of(self.packet.mark.map(|mark| mark & mask == value))
    }

    fn is(&self, field: Field, value: &str) -> Fit {
        let packet = self.packet;
        if value.starts_with('@') || value == "…" || value.is_empty() {
            return Fit::NotUnderstood;
        }
        match field {
            Field::Source => packet.is_in(packet.source, value),
            Field::Destination => packet.goes_to(value),
            Field::In => is_interface(packet.in_interface.as_deref(), value),
            Field::Out => is_interface(packet.out_interface.as_deref(), value),
            Field::Protocol => self.is_protocol(value),
            Field::Network => Fit::of(Some(match packet.family {
                Family::V4 => matches!(value, "ipv4" | "ip"),
                Family::V6 => matches!(value, "ipv6" | "ip6"),
            })),
            Field::SourcePort => Fit::Unsaid,
            Field::DestinationPort => is_port(packet, value),
            Field::Mark => match value.split_once('-') {
                None => self.is_mark(value, "0xffffffff"),
                Some((first, last)) => match (hexadecimal(first), hexadecimal(last)) {
                    (Some(first), Some(last)) => Fit::of(packet.mark.map(|mark| first <= mark && mark <= last)),
                    _ => Fit::NotUnderstood,
                },
            },
            // The packet opens a flow.
            Field::State => {
                let is = if packet.is_untracked { "untracked" } else { "new" };
                Fit::of(Some(value.split(',').any(|state| state == is)))
            }
            Field::Status => Fit::of(Some(value.split(',').any(|status| status == "dnat") && packet.is_dnated)),
            Field::SourceType => is_type(packet.source_is_local, packet.source, value),
            Field::DestinationType => is_type(packet.destination_is_local, packet.destination, value),
            Field::Ipsec => Fit::of(Some(value == "missing")),
        }
    }
}

/// True for what can only be a target of iptables behind conditions in the words of nft.
fn is_target(token: &str) -> bool {
    token.len() > 1
        && token.starts_with(|c: char| c.is_ascii_uppercase())
        && token.chars().all(|c| c.is_ascii_uppercase())
}

fn is_interface(name: Option<&str>, written: &str) -> Fit {
    let Some(name) = name else { return if matches!(written, "*" | "+") { Fit::Yes } else { Fit::Unsaid } };
    let prefix = written.strip_suffix('*').or_else(|| written.strip_suffix('+'));
    Fit::of(Some(prefix.map_or(name == written, |prefix| name.starts_with(prefix))))
}

fn is_port(packet: &Packet, written: &str) -> Fit {
    let written = written.replace(':', "-");
    let (first, last) = written.split_once('-').unwrap_or((&written, &written));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return Fit::NotUnderstood };
    let has_ports = packet.protocol.is_none_or(|of| matches!(of, Protocol::Tcp | Protocol::Udp | Protocol::Sctp));
    if !has_ports {
        return Fit::No;
    }
    match packet.destination_port {
        Some(ports) if ports.last < first || last < ports.first => Fit::No,
        Some(ports) if first <= ports.first && ports.last <= last => Fit::Yes,
        _ => Fit::Unsaid,
    }
}

fn is_type(is_local: Option<bool>, address: Option<Prefix>, written: &str) -> Fit {
    let is_multicast = address.map(|prefix| prefix.address().is_multicast());
    match (written, is_local) {
        ("local", is_local) => Fit::of(is_local),
        ("multicast", Some(true)) => Fit::No,
        ("multicast", _) => Fit::of(is_multicast),
        ("unicast", Some(true)) => Fit::No,
        ("unicast", Some(false)) if is_multicast == Some(false) => Fit::Yes,
        _ => Fit::Unsaid,
    }
}

fn hexadecimal(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `192.0.2.1`, `192.0.2.1:1024-2000`, `[2001:db8::1]:80`.
fn single_address(word: &str) -> Option<IpAddr> {
    if let Ok(address) = word.parse() {
        return Some(address);
    }
    let host = match word.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => word.split_once(':').filter(|(_, rest)| !rest.contains(':'))?.0,
    };
    host.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PortRange;

    fn packet() -> Packet {
        Packet {
            source: "192.168.10.20/32".parse().ok(),
            destination: "203.0.113.77/32".parse().ok(),
            in_interface: Some("lan0".to_owned()),
            out_interface: Some("wan0".to_owned()),
            protocol: Some(Protocol::Tcp),
            destination_port: Some(PortRange::one(443)),
            mark: Some(1),
            source_is_local: Some(false),
            destination_is_local: Some(false),
            ..Packet::any(Family::V4)
        }
    }

    #[track_caller]
    fn fits(text: &str, expected: Fit) {
        let found = outcomes(text, &packet());
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert_eq!(found[0].0, expected, "{text}: {found:?}");
    }

    #[test]
    fn conditions_of_nft_and_of_iptables_are_asked_of_a_packet() {
        let yes = [
            "oifname \"wan0\" masquerade",
            "oifname != \"lan0\" ip saddr 192.168.0.0/16 masquerade",
            "oifname { \"wan1\", \"wan*\" } masquerade",
            "ip saddr 192.168.10.0-192.168.10.99 masquerade",
            "ip saddr != { 10.0.0.0/8, 172.16.0.0/12 } masquerade",
            "meta l4proto { tcp, udp } th dport 400-500 masquerade",
            "tcp dport != { 80, 25 } masquerade",
            "meta mark 0x1 masquerade",
            "meta mark & 0xff == 0x1 MASQUERADE",
            "meta mark & 0x4000 != 0x4000 return",
            "ct state new,related masquerade",
            "ct state != established masquerade",
            "fib daddr type != local masquerade",
            "rt ipsec missing counter masquerade",
            "-m conntrack --ctstate NEW,RELATED MASQUERADE",
            "-m conntrack ! --ctstate DNAT MASQUERADE",
            "-m addrtype ! --dst-type LOCAL MASQUERADE",
            "meta l4proto tcp -m multiport --dports 80,443,1000:2000 MASQUERADE",
            "! -o lan+ -s 192.168.0.0/16 -p tcp -m tcp --dport 440:450 -j MASQUERADE",
            "-m comment --comment \"-j DROP \\\" x\" -j MASQUERADE",
            "-m policy --dir out --pol none -j ACCEPT",
            "-m mark --mark 0x1/0xf -j MASQUERADE --random-fully",
            "log prefix \"drop \" group 5 masquerade",
            "dnat to tcp dport map { 80 : 10.0.0.1, 443 : 10.0.0.2 . 8443 }",
            "dnat ip to ip saddr map { 192.168.10.0/24 : 10.0.0.1 }",
            "dnat to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }",
            "ip saddr 0.0.0.0/0 masquerade",
        ];
        yes.into_iter().for_each(|text| fits(text, Fit::Yes));
        let no = [
            "oifname \"wan1\" masquerade",
            "ip6 saddr 2001:db8::/32 masquerade",
            "meta nfproto ipv6 masquerade",
            "ip daddr 10.0.0.0/8 masquerade",
            "udp dport 443 masquerade",
            "tcp dport { 53, 80-90 } masquerade",
            "meta mark 0x2 masquerade",
            "ct state established,related accept",
            "ct status dnat masquerade",
            "-m policy --dir out --pol ipsec accept",
            "ip saddr 192.168.10.20 limit rate 5/second burst 5 packets ip daddr 10.0.0.1 masquerade",
            "-o wan1 -j MASQUERADE",
            "! -s 192.168.0.0/16 -j MASQUERADE",
            "-m conntrack --ctstate DNAT MASQUERADE",
            "-m physdev --physdev-is-bridged accept",
            "dnat to tcp dport map { 80 : 10.0.0.1, 8443 : 10.0.0.2 }",
            "udp dport 443 redirect to udp dport map { 443 : 1443 }",
        ];
        for text in no {
            let found = outcomes(text, &packet());
            assert!(found.iter().all(|(fit, _)| *fit <= Fit::NotUnderstood), "{text}: {found:?}");
        }
        let doubtful = [
            "-m ttl … MASQUERADE",
            "ip saddr @lan masquerade",
            "meta skuid 1000 masquerade",
            "ip saddr . tcp dport { 10.0.0.1 . 25 } masquerade",
            "meta mark > 0x5 masquerade",
            "-m set --match-set lan src -j MASQUERADE",
            "numgen random mod 10 < 3 masquerade",
            "dnat to tcp dport map @published",
            "dnat to ip daddr . tcp dport map { 203.0.113.77 . 443 : 10.0.0.1 . 443 }",
        ];
        doubtful.into_iter().for_each(|text| fits(text, Fit::NotUnderstood));
        fits("tcp sport 1024-65535 masquerade", Fit::Unsaid);
        assert_eq!(outcomes("ip saddr 10.0.0.1 masquerade", &Packet::any(Family::V4))[0].0, Fit::Unsaid);
    }

    #[test]
    fn what_a_rule_does_is_read_with_the_address_that_it_gives() {
        let verdict = |text: &str| outcomes(text, &packet()).remove(0).1;
        let to = |statement: &str, address: &str| RuleVerdict::Translate(statement.to_owned(), address.parse().ok());
        assert_eq!(verdict("oifname \"wan0\" snat to 198.51.100.2"), to("snat to 198.51.100.2", "198.51.100.2"));
        assert_eq!(
            verdict("-o wan0 -j SNAT --to-source 198.51.100.2:1024-2000"),
            to("SNAT --to-source 198.51.100.2:1024-2000", "198.51.100.2")
        );
        assert_eq!(
            verdict("tcp dport 80 dnat ip6 to [2001:db8::1]:80"),
            to("dnat ip6 to [2001:db8::1]:80", "2001:db8::1")
        );
        let map = "dnat to tcp dport map { 80 : 10.0.0.1, 443 : 10.0.0.2 }";
        assert_eq!(verdict(map), to(map, "10.0.0.2"));
        let range = "SNAT --to-source 198.51.100.2-198.51.100.9";
        assert_eq!(verdict(range), RuleVerdict::Translate(range.to_owned(), None));
        assert_eq!(verdict("ip daddr 10.0.0.0/8 jump SUB"), RuleVerdict::Jump("SUB".to_owned()));
        assert_eq!(verdict("-g SUB"), RuleVerdict::Goto("SUB".to_owned()));
        assert_eq!(verdict("-j SUB"), RuleVerdict::Jump("SUB".to_owned()));
        assert_eq!(verdict("meta mark set 0x5"), RuleVerdict::SetMark);
        assert_eq!(verdict("counter"), RuleVerdict::Continue);
        for text in
            ["notrack", "oifname \"wan0\" notrack", "-j CT --notrack", "oifname \"wan0\" CT --notrack", "NOTRACK"]
        {
            assert_eq!(verdict(text), RuleVerdict::Untrack, "{text}");
        }
        assert_eq!(verdict("-j CT --helper ftp"), RuleVerdict::Continue);
        assert_eq!(
            outcomes("ip saddr @lan notrack udp dport 53 accept", &packet()),
            [(Fit::NotUnderstood, RuleVerdict::Untrack), (Fit::No, RuleVerdict::Accept)]
        );
        let untracked = Packet { is_untracked: true, ..packet() };
        assert_eq!(outcomes("ct state untracked accept", &untracked)[0].0, Fit::Yes);
        assert_eq!(outcomes("ct state new accept", &untracked)[0].0, Fit::No);
        assert_eq!(verdict("reject with icmpx admin-prohibited"), RuleVerdict::Drop);
    }

    #[test]
    fn a_verdict_map_has_an_answer_for_each_element_that_can_fit() {
        let fitting = |text: &str| {
            let mut found = outcomes(text, &packet());
            found.retain(|(fit, _)| *fit != Fit::No);
            found
        };
        let found = fitting("oifname vmap { \"lan0\" : drop, \"wan0\" : goto wan, * : accept }");
        assert_eq!(found[0], (Fit::Yes, RuleVerdict::Goto("wan".to_owned())));
        assert_eq!(fitting("ct state vmap { established : accept, related : accept, new : jump fresh }").len(), 1);
        assert_eq!(fitting("ip saddr vmap @zones"), [(Fit::Yes, RuleVerdict::NotUnderstood)]);
    }

    #[test]
    fn a_map_translates_what_it_has_an_element_for() {
        let told = |text: &str| {
            let [(fit, RuleVerdict::Translate(statement, address))] = &outcomes(text, &packet())[..] else {
                panic!("{text}")
            };
            assert_eq!(statement, text);
            (*fit, address.map(|address| address.to_string()))
        };
        let of = |network: &str| {
            format!("snat ip to ip saddr map {{ 192.168.11.0/24 : 198.51.100.8, {network} : 198.51.100.7 }}")
        };
        assert_eq!(told(&of("192.168.10.0/24")), (Fit::Yes, Some("198.51.100.7".to_owned())));
        assert_eq!(told(&of("192.168.10.33")), (Fit::No, None));
        let with_port =
            "snat ip to ip saddr map { 192.168.11.0/24 : 198.51.100.8 . 81, 192.168.10.0/24 : 198.51.100.7 . 80 }";
        assert_eq!(told(with_port), (Fit::Yes, Some("198.51.100.7".to_owned())));
        assert_eq!(told("snat to numgen inc mod 2 map { 0 : 198.51.100.7, 1 : 198.51.100.8 }"), (Fit::Yes, None));
        for text in
            ["snat to ip saddr map @hosts", "snat to ip saddr . tcp dport map { 192.168.10.0/24 . 25 : 198.51.100.7 }"]
        {
            assert_eq!(told(text), (Fit::NotUnderstood, None), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_others_wrote_is_read_without_a_panic(text in "[ -~é…]{0,80}") {
            outcomes(&text, &packet());
        }

        #[test]
        fn words_in_any_order_are_read_without_a_panic(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "ip", "saddr", "{", "}", ",", "10.0.0.0/8", "vmap", ":", "!=", "!", "-m", "--dport", "-j", "jump",
                "meta", "mark", "&", "==", "0x1", "snat", "to", "map", "\"", "*", "…", "set", "ct", "state", "tcp", "dport", "-s", ".",
            ]), 0..24),
        ) {
            outcomes(&words.join(" "), &packet());
        }
    }
}
