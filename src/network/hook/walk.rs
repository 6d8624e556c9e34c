//! The way of a packet through the chains of a hook.

use super::{BaseChain, Fit, Hook, Packet, Rule, RuleVerdict, words};
use std::net::IpAddr;

/// Chains jump no deeper than that (NFT_JUMP_STACK_SIZE, and what others allow).
const DEEPEST: usize = 16;
/// So many rules are gone through at the most: chains can refer to each other in more ways than can be followed.
const MOST_RULES: usize = 20_000;

/// What a rule does to the packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HitEffect {
    /// It rewrites an address: the statement, and the new address where there is exactly one.
    Translate(String, Option<IpAddr>),
    /// It ends the chain in which our rules are asked later.
    Accept,
    Drop,
    /// Connection tracking leaves the packet alone, and with it every nat rule.
    Untrack,
    /// Our own rules are asked here.
    Ours,
    /// What it does is not understood.
    NotUnderstood,
}

/// A rule that does something, and how certain it is that the packet gets there and fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub fit: Fit,
    pub effect: HitEffect,
    /// `ip nat POSTROUTING #2`.
    pub place: String,
    /// `ip nat POSTROUTING (priority 100): masquerade`.
    pub line: String,
    /// It is in a chain of the same priority as ours, which may be asked first or last.
    pub is_unordered: bool,
}

/// What happens to a packet at a hook of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// It may get through.
    Open,
    /// It does not, because of this.
    Closed(String),
    /// It does not unless one of the rules that are not understood lets it; because of this otherwise.
    Doubtful(String),
}

/// When a passage that is doubtful is closed.
pub const DOUBTFUL: &str = "where no rule accepts that is not understood";

/// The walk through one base chain.
struct Walk<'a> {
    base: &'a BaseChain,
    packet: Packet,
    rules_left: usize,
    hits: Vec<Hit>,
    /// A packet that connection tracking leaves alone is not followed any further.
    only_tracked: bool,
}

/// How a chain was left.
struct Left {
    /// Whatever the packet is like, nothing of the base chain follows.
    ended: bool,
    /// For some packets nothing follows: so certain is what the least certain of them fits.
    lost: Option<Fit>,
}

/// A chain that is gone through.
struct Here<'a> {
    name: &'a str,
    depth: usize,
    /// So certain it is that its next rule is reached.
    reached: Fit,
    lost: Option<Fit>,
    /// Some packets went back to the chain before.
    some_returned: bool,
}

impl Here<'_> {
    /// For what fits so, nothing follows. True when that is all that is left.
    fn lose(&mut self, fit: Fit) -> bool {
        if fit == Fit::Yes {
            return true;
        }
        self.lost = Some(self.lost.map_or(fit, |lost| lost.min(fit)));
        self.reached = self.reached.min(fit);
        false
    }

    /// As with [`Here::lose`], in the chain that was jumped to.
    fn lose_in(&mut self, left: &Left, fit: Fit) -> bool {
        match left.lost {
            _ if left.ended => self.lose(fit),
            Some(lost) => self.lose(lost.min(fit)),
            None => false,
        }
    }

    fn ended(self) -> Left {
        let lost = self.lost.map_or(Fit::Unsaid, |lost| lost.min(Fit::Unsaid));
        Left { ended: !self.some_returned, lost: Some(lost) }
    }

    fn left(self) -> Left {
        Left { ended: false, lost: self.lost }
    }
}

impl<'a> Walk<'a> {
    fn through(base: &'a BaseChain, packet: &Packet) -> Self {
        Walk { base, packet: packet.clone(), rules_left: MOST_RULES, hits: Vec::new(), only_tracked: false }
    }

    fn done(mut self, reached: Fit) -> (Vec<Hit>, Left) {
        let left = self.chain(&self.base.name, &self.base.rules, reached, 0);
        (self.hits, left)
    }

    fn hit(&mut self, fit: Fit, effect: HitEffect, chain: &str, number: usize, rule: &Rule) {
        let BaseChain { family, table, name, priority, .. } = self.base;
        let comment = rule.comment.as_ref().map(|comment| format!(" comment \"{comment}\"")).unwrap_or_default();
        let from = if chain == name { String::new() } else { format!("from {name}, ") };
        let line = format!("{family} {table} {chain} ({from}priority {priority}): {}{comment}", rule.text);
        // Names and comments are whatever another program made of them.
        let line = line.replace(char::is_control, "\u{fffd}");
        let place = format!("{family} {table} {chain} #{number}").replace(char::is_control, "\u{fffd}");
        self.hits.push(Hit { fit, effect, place, line, is_unordered: false });
    }

    fn chain(&mut self, name: &str, rules: &'a [Rule], reached: Fit, depth: usize) -> Left {
        let mut here = Here { name, depth, reached, lost: None, some_returned: false };
        for (number, rule) in (1..).zip(rules) {
            if self.rules_left == 0 {
                here.lose(Fit::NotUnderstood);
                return here.left();
            }
            self.rules_left -= 1;
            if rule.is_ours {
                self.hit(here.reached, HitEffect::Ours, name, number, rule);
                continue;
            }
            for (fit, verdict) in words::outcomes(&rule.text, &self.packet) {
                let is_left_alone = self.only_tracked && verdict == RuleVerdict::Untrack;
                match self.rule(&mut here, (number, rule), fit, verdict) {
                    Next::Rule => {}
                    Next::Nothing => return here.ended(),
                    Next::ChainBefore => return here.left(),
                }
                // What else the rule does is for the same packets.
                if is_left_alone {
                    break;
                }
            }
        }
        here.left()
    }

    fn rule(&mut self, here: &mut Here<'_>, (number, rule): (usize, &Rule), fit: Fit, verdict: RuleVerdict) -> Next {
        let reached = fit.min(here.reached);
        if fit == Fit::No {
            return Next::Rule;
        }
        let mut ends = |walk: &mut Self, effect| {
            walk.hit(reached, effect, here.name, number, rule);
            if here.lose(fit) { Next::Nothing } else { Next::Rule }
        };
        match verdict {
            RuleVerdict::Continue => Next::Rule,
            RuleVerdict::SetMark => {
                self.packet.mark = None;
                Next::Rule
            }
            RuleVerdict::Untrack if self.only_tracked => ends(self, HitEffect::Untrack),
            RuleVerdict::Untrack => {
                self.hit(reached, HitEffect::Untrack, here.name, number, rule);
                Next::Rule
            }
            RuleVerdict::Accept => ends(self, HitEffect::Accept),
            RuleVerdict::Drop => ends(self, HitEffect::Drop),
            RuleVerdict::Translate(statement, address) => ends(self, HitEffect::Translate(statement, address)),
            RuleVerdict::Return if fit == Fit::Yes => Next::ChainBefore,
            RuleVerdict::Return => {
                (here.some_returned, here.reached) = (true, reached);
                Next::Rule
            }
            RuleVerdict::NotUnderstood => {
                self.hit(reached, HitEffect::NotUnderstood, here.name, number, rule);
                here.lose(Fit::NotUnderstood);
                Next::Rule
            }
            RuleVerdict::Jump(target) | RuleVerdict::Goto(target) if !self.follows(&target, here.depth) => {
                self.hit(reached, HitEffect::NotUnderstood, here.name, number, rule);
                here.lose(Fit::NotUnderstood);
                Next::Rule
            }
            RuleVerdict::Jump(target) => {
                let left = self.follow(&target, reached, here.depth);
                if here.lose_in(&left, fit) { Next::Nothing } else { Next::Rule }
            }
            RuleVerdict::Goto(target) => {
                let left = self.follow(&target, reached, here.depth);
                match here.lose_in(&left, fit) {
                    true => Next::Nothing,
                    false if fit == Fit::Yes => Next::ChainBefore,
                    false => {
                        (here.some_returned, here.reached) = (true, here.reached.min(fit));
                        Next::Rule
                    }
                }
            }
        }
    }

    fn follows(&self, target: &str, depth: usize) -> bool {
        depth < DEEPEST && self.base.chains.contains_key(target)
    }

    fn follow(&mut self, target: &str, reached: Fit, depth: usize) -> Left {
        let base = self.base;
        match base.chains.get_key_value(target) {
            Some((name, rules)) => self.chain(name, rules, reached, depth + 1),
            None => Left { ended: false, lost: Some(Fit::NotUnderstood) },
        }
    }
}

/// What comes after a rule.
enum Next {
    Rule,
    /// What the chain was jumped to from goes on.
    ChainBefore,
    /// The base chain has ended.
    Nothing,
}

fn walk(base: &BaseChain, packet: &Packet, reached: Fit) -> (Vec<Hit>, Left) {
    Walk::through(base, packet).done(reached)
}

/// What nat rules do to a packet, around ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translations {
    /// True when rules of ours are there, whether or not the packet gets to them.
    pub has_ours: bool,
    /// What happens before our rules are asked, in order: translations, and what keeps the packet from our rules.
    pub before: Vec<Hit>,
    /// Translations by rules that are asked after ours; by all where none are ours.
    pub after: Vec<Hit>,
}

impl Translations {
    /// The first rule that certainly decides before ours are asked.
    pub fn first_before(&self) -> Option<&Hit> {
        self.before
            .iter()
            .find(|hit| hit.fit == Fit::Yes && !hit.is_unordered && hit.effect != HitEffect::NotUnderstood)
    }

    /// The first rule that certainly translates what ours leave.
    pub fn first_after(&self) -> Option<&Hit> {
        self.after.iter().find(|hit| hit.fit == Fit::Yes)
    }
}

/// Sends a packet through the nat chains of a hook. The first address that a rule gives stays; that a chain accepts does
/// not keep the next one from being asked.
pub fn translations(chains: &[&BaseChain], packet: &Packet) -> Translations {
    let mut sorted: Vec<&BaseChain> = chains.iter().copied().filter(|chain| chain.is_nat).collect();
    sorted.sort_by_key(|chain| chain.priority);
    let is_ours = |chain: &&&BaseChain| chain.is_ours || chain.rules.iter().any(|rule| rule.is_ours);
    let ours = sorted.iter().find(is_ours).map(|chain| chain.priority);
    let mut found = Translations { has_ours: ours.is_some(), ..Translations::default() };
    let (mut reached, mut passed) = (Fit::Yes, ours.is_none());
    for chain in sorted {
        if chain.is_ours {
            passed = true;
            continue;
        }
        let holds_ours = chain.rules.iter().any(|rule| rule.is_ours);
        let is_unordered = ours == Some(chain.priority) && !holds_ours;
        let (hits, left) = walk(chain, packet, reached);
        // What follows a translation sees nothing of the packet.
        let translated =
            left.ended && matches!(hits.last(), Some(hit) if matches!(hit.effect, HitEffect::Translate(..)));
        for hit in hits {
            match (&hit.effect, passed) {
                (HitEffect::Ours, _) => passed = true,
                // What is asked here is tracked.
                (HitEffect::Untrack, _) => {}
                // It ends this chain, and with it the way to our rules in it.
                (HitEffect::Accept, false) if holds_ours => found.before.push(hit),
                (HitEffect::Accept, _) => {}
                (_, false) => found.before.push(Hit { is_unordered, ..hit }),
                (_, true) => found.after.push(Hit { is_unordered, ..hit }),
            }
        }
        if translated && !is_unordered {
            break;
        }
        passed |= holds_ours;
        let hits = found.before.iter().chain(&found.after);
        if hits.clone().any(|hit| matches!(hit.effect, HitEffect::Translate(..) | HitEffect::NotUnderstood)) {
            reached = reached.min(Fit::Unsaid);
        }
    }
    found
}

/// The filters among the chains of a hook, in order.
fn filters<'a>(chains: &[&'a BaseChain]) -> Vec<&'a BaseChain> {
    let mut sorted: Vec<&BaseChain> = chains.iter().copied().filter(|chain| !chain.is_nat && !chain.is_ours).collect();
    sorted.sort_by_key(|chain| chain.priority);
    sorted
}

/// What of the filters of a hook, through which a packet [`pass`]es, may drop it all the same: rules that are not
/// understood, and policies where it depends on what is not said.
pub fn doubts(chains: &[&BaseChain], packet: &Packet) -> Vec<String> {
    let mut found = Vec::new();
    for chain in filters(chains) {
        let (hits, left) = walk(chain, packet, Fit::Yes);
        let may_drop = |hit: &&Hit| match hit.effect {
            HitEffect::Drop => hit.fit == Fit::NotUnderstood,
            HitEffect::NotUnderstood => true,
            HitEffect::Accept | HitEffect::Ours | HitEffect::Translate(..) | HitEffect::Untrack => false,
        };
        found.extend(hits.iter().filter(may_drop).map(|hit| hit.line.clone()));
        let accepts = |fit| hits.iter().any(|hit| hit.effect == HitEffect::Accept && hit.fit == fit);
        if chain.drops && !left.ended && !accepts(Fit::Yes) && accepts(Fit::Unsaid) {
            let BaseChain { family, table, name, .. } = chain;
            found.push(format!(
                "{family} {table} {name}: policy drop, and what it accepts depends on what was not said"
            ));
        }
    }
    found
}

/// The priority of connection tracking where packets come in and where the host sends them, NF_IP_PRI_CONNTRACK.
const TRACKING: i32 = -200;

/// True of a chain that is asked before connection tracking: elsewhere `notrack` has no effect.
pub fn is_before_tracking(hook: Option<Hook>, priority: i32) -> bool {
    match hook {
        Some(Hook::Ingress) => true,
        Some(Hook::Prerouting | Hook::Output) => priority < TRACKING,
        Some(Hook::Input | Hook::Forward | Hook::Postrouting | Hook::Egress) | None => false,
    }
}

fn before_tracking<'a>(chains: &[&'a BaseChain]) -> impl Iterator<Item = &'a BaseChain> {
    filters(chains).into_iter().filter(|chain| is_before_tracking(chain.hook, chain.priority))
}

/// The rules that keep a packet from connection tracking. At hooks that it passes later they have no effect.
pub fn untracking(chains: &[&BaseChain], packet: &Packet) -> Vec<Hit> {
    let hits = before_tracking(chains).flat_map(|chain| walk(chain, packet, Fit::Yes).0);
    hits.filter(|hit| hit.effect == HitEffect::Untrack).collect()
}

/// Whether a packet gets to connection tracking: closed where a rule keeps it from that, whatever else it is like.
pub fn tracked(chains: &[&BaseChain], packet: &Packet) -> Passage {
    let walk = |chain| Walk { only_tracked: true, ..Walk::through(chain, packet) }.done(Fit::Yes);
    passage(before_tracking(chains), walk, &HitEffect::Untrack, |_| None)
}

/// Sends a packet through the filters of a hook.
pub fn pass(chains: &[&BaseChain], packet: &Packet) -> Passage {
    let policy = |BaseChain { family, table, name, .. }: &BaseChain| {
        Some(format!("{family} {table} {name}: policy drop, and no rule accepts it"))
    };
    passage(filters(chains).into_iter(), |chain| walk(chain, packet, Fit::Yes), &HitEffect::Drop, policy)
}

/// What becomes of a packet that certain rules end the way of, or else the policies.
fn passage<'a>(
    chains: impl Iterator<Item = &'a BaseChain>,
    walk: impl Fn(&'a BaseChain) -> (Vec<Hit>, Left),
    end: &HitEffect,
    policy: impl Fn(&BaseChain) -> Option<String>,
) -> Passage {
    let mut doubtful = None;
    for chain in chains {
        let (hits, left) = walk(chain);
        let lets = |fit: Fit| {
            hits.iter()
                .filter(move |hit| hit.fit == fit)
                .any(|hit| matches!(hit.effect, HitEffect::Accept | HitEffect::NotUnderstood))
        };
        let may_fall_through = !left.ended && !chain.drops;
        if may_fall_through || lets(Fit::Yes) || lets(Fit::Unsaid) {
            continue;
        }
        let certain = hits.iter().find(|hit| hit.effect == *end && hit.fit == Fit::Yes);
        // It takes what rules before it have left that are not understood.
        let last = || hits.last().filter(|hit| left.ended && hit.effect == *end);
        let by = certain.or_else(last).map(|hit| hit.line.clone());
        let Some(why) = by.or_else(|| policy(chain)) else { continue };
        match lets(Fit::NotUnderstood) || hits.iter().any(|hit| hit.effect == HitEffect::NotUnderstood) {
            false => return Passage::Closed(why),
            true => doubtful = doubtful.or(Some(why)),
        }
    }
    doubtful.map_or(Passage::Open, Passage::Doubtful)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Family, Protocol};

    fn rules(texts: &[&str]) -> Vec<Rule> {
        let rule = |text: &&str| Rule { text: (*text).to_owned(), comment: None, is_ours: *text == "OURS" };
        texts.iter().map(rule).collect()
    }

    fn nat(name: &str, priority: i32, texts: &[&str]) -> BaseChain {
        let (table, name) = ("nat".to_owned(), name.to_owned());
        BaseChain { family: "ip", table, name, priority, is_nat: true, rules: rules(texts), ..BaseChain::default() }
    }

    fn filter(drops: bool, texts: &[&str], chains: &[(&str, &[&str])]) -> BaseChain {
        let chains = chains.iter().map(|(name, texts)| ((*name).to_owned(), rules(texts))).collect();
        BaseChain { is_nat: false, drops, chains, ..nat("FORWARD", 0, texts) }
    }

    fn packet() -> Packet {
        Packet {
            source: "192.168.10.0/24".parse().ok(),
            in_interface: Some("lan0".to_owned()),
            out_interface: Some("wan0".to_owned()),
            protocol: Some(Protocol::Tcp),
            ..Packet::any(Family::V4)
        }
    }

    fn told(hits: &[Hit]) -> Vec<(Fit, &str)> {
        hits.iter().map(|hit| (hit.fit, hit.place.as_str())).collect()
    }

    #[test]
    fn the_first_rule_that_translates_wins_and_what_follows_it_is_not_asked() {
        let chains = [
            nat("late", 200, &["masquerade"]),
            nat("early", 50, &["oifname \"wan1\" masquerade", "accept"]),
            nat("POSTROUTING", 100, &["ip daddr 10.0.0.0/8 masquerade", "OURS", "snat to 198.51.100.7", "masquerade"]),
        ];
        let found = translations(&[&chains[0], &chains[1], &chains[2]], &packet());
        assert!(found.has_ours);
        assert_eq!(told(&found.before), [(Fit::Unsaid, "ip nat POSTROUTING #1")]);
        // What the first one may have taken does not come so far.
        assert_eq!(told(&found.after), [(Fit::Unsaid, "ip nat POSTROUTING #3")]);
        let found = translations(
            &[&chains[0], &chains[1], &chains[2]],
            &Packet { destination: "203.0.113.77/32".parse().ok(), ..packet() },
        );
        assert_eq!(told(&found.before), []);
        assert_eq!(told(&found.after), [(Fit::Yes, "ip nat POSTROUTING #3")]);
        assert_eq!(found.first_before(), None);
        assert_eq!(
            found.first_after().map(|hit| &hit.effect),
            Some(&HitEffect::Translate("snat to 198.51.100.7".to_owned(), "198.51.100.7".parse().ok()))
        );
    }

    #[test]
    fn an_accept_before_our_jump_keeps_the_packet_from_our_rules_in_that_chain_only() {
        let before = |chains: &[BaseChain]| {
            translations(&chains.iter().collect::<Vec<_>>(), &packet()).first_before().map(|hit| hit.effect.clone())
        };
        let same = [nat("POSTROUTING", 100, &["ip saddr 192.168.0.0/16 accept", "OURS"])];
        assert_eq!(before(&same), Some(HitEffect::Accept));
        let other = [nat("early", 50, &["accept"]), nat("POSTROUTING", 100, &["OURS"])];
        assert_eq!(before(&other), None);
    }

    #[test]
    fn a_rule_that_is_asked_before_connection_tracking_keeps_the_packet_from_it_and_a_later_one_does_not() {
        let chain = |hook, priority, texts: &[&str]| BaseChain {
            hook: Some(hook),
            priority,
            is_nat: false,
            ..nat("PREROUTING", priority, texts)
        };
        let found = |chain: &BaseChain| untracking(&[chain], &packet()).iter().map(|hit| hit.fit).collect::<Vec<_>>();
        assert_eq!(found(&chain(Hook::Prerouting, -300, &["ip saddr 192.168.0.0/16 notrack accept"])), [Fit::Yes]);
        assert_eq!(found(&chain(Hook::Output, -300, &["-p tcp -j CT --notrack"])), [Fit::Yes]);
        assert_eq!(
            found(&chain(Hook::Prerouting, -300, &["tcp dport 80 notrack", "accept", "notrack"])),
            [Fit::Unsaid]
        );
        assert_eq!(found(&chain(Hook::Prerouting, -150, &["notrack"])), []);
        assert_eq!(found(&chain(Hook::Forward, -300, &["notrack"])), []);
        assert_eq!(pass(&[&chain(Hook::Prerouting, -300, &["notrack"])], &packet()), Passage::Open);
    }

    #[test]
    fn a_packet_that_a_rule_keeps_from_connection_tracking_whatever_else_it_is_like_does_not_get_there() {
        let raw = |texts: &[&str]| BaseChain {
            hook: Some(Hook::Prerouting),
            is_nat: false,
            ..nat("PREROUTING", -300, texts)
        };
        let arriving = Packet { out_interface: None, ..packet() };
        let found = |chain: &BaseChain| tracked(&[chain], &arriving);
        let by = "ip nat PREROUTING (priority -300): notrack".to_owned();
        for texts in [
            &["notrack"][..],
            &["iifname \"lan0\" udp dport 53 accept", "notrack"],
            &["ip saddr 192.168.10.9 drop", "notrack"],
            &["fib saddr . iif oif missing drop", "notrack"],
            &["ip saddr @lan notrack accept", "notrack"],
        ] {
            assert_eq!(found(&raw(texts)), Passage::Closed(by.clone()), "{texts:?}");
        }
        for texts in [
            &["tcp dport 53 notrack"][..],
            &["tcp dport 53 notrack", "drop"],
            &["ip daddr 10.0.0.0/8 accept", "notrack"],
            &["ip daddr 10.0.0.0/8 notrack"],
            &["ip saddr @lan notrack"],
            &["iifname \"wan0\" notrack"],
            &["accept", "notrack"],
            &["drop"],
        ] {
            assert_eq!(found(&raw(texts)), Passage::Open, "{texts:?}");
            assert_eq!(found(&BaseChain { drops: true, ..raw(texts) }), Passage::Open, "{texts:?}");
        }
        assert_eq!(found(&raw(&["ip saddr @lan accept", "notrack"])), Passage::Doubtful(by.clone()));
        let mut chain = raw(&["iifname \"lan0\" jump lan"]);
        assert_eq!(found(&chain), Passage::Open);
        chain.chains.insert("lan".to_owned(), rules(&["notrack"]));
        assert_eq!(found(&chain), Passage::Closed("ip nat lan (from PREROUTING, priority -300): notrack".to_owned()));
        assert_eq!(tracked(&[&raw(&["accept"]), &raw(&["notrack"])], &arriving), Passage::Closed(by));
        for chain in [
            BaseChain { priority: -150, ..raw(&["notrack"]) },
            BaseChain { hook: Some(Hook::Forward), ..raw(&["notrack"]) },
            BaseChain { is_ours: true, ..raw(&["notrack"]) },
        ] {
            assert_eq!(found(&chain), Passage::Open);
        }
    }

    #[test]
    fn what_may_drop_a_packet_that_passes_is_told() {
        let told = |chain: BaseChain| {
            assert_eq!(pass(&[&chain], &packet()), Passage::Open, "{chain:?}");
            doubts(&[&chain], &packet())
        };
        let line = |rule: &str| vec![format!("ip nat FORWARD (priority 0): {rule}")];
        assert!(
            told(filter(false, &["iifname \"wan0\" ip saddr @blocked drop", "ct state invalid drop"], &[])).is_empty()
        );
        assert_eq!(told(filter(false, &["ip saddr @blocked drop"], &[])), line("ip saddr @blocked drop"));
        assert_eq!(told(filter(false, &["queue"], &[])), line("queue"));
        assert!(told(filter(true, &["accept", "ip saddr @blocked drop"], &[])).is_empty());
        assert!(told(filter(true, &["ip saddr 192.168.10.0/24 accept"], &[])).is_empty());
        assert_eq!(
            told(filter(true, &["tcp dport 443 accept"], &[])),
            ["ip nat FORWARD: policy drop, and what it accepts depends on what was not said"]
        );
    }

    #[test]
    fn jumps_are_followed_and_a_circle_ends() {
        let mut chain = nat("POSTROUTING", 100, &["jump a", "OURS"]);
        chain.chains.insert("a".to_owned(), rules(&["oifname \"wan0\" jump b", "masquerade"]));
        chain.chains.insert("b".to_owned(), rules(&["ip saddr 192.168.10.0/24 return", "masquerade"]));
        assert_eq!(told(&translations(&[&chain], &packet()).before), [(Fit::Yes, "ip nat a #2")]);
        chain.chains.insert("b".to_owned(), rules(&["jump a"]));
        let circle = translations(&[&chain], &packet());
        assert!(circle.before.iter().any(|hit| hit.effect == HitEffect::NotUnderstood), "{circle:?}");
        let mut wide = nat("POSTROUTING", 100, &["jump a"]);
        wide.chains.insert("a".to_owned(), rules(&["ip daddr 10.0.0.1 jump a"; 40]));
        assert!(translations(&[&wide], &packet()).first_after().is_none());
    }

    #[test]
    fn a_forward_chain_that_lets_nothing_new_through_is_closed() {
        let established = "ct state established,related accept";
        let closed = |chain: BaseChain| pass(&[&chain], &packet());
        let policy = "ip nat FORWARD: policy drop, and no rule accepts it".to_owned();
        assert_eq!(closed(filter(true, &[], &[])), Passage::Closed(policy.clone()));
        assert_eq!(
            closed(filter(true, &[established, "jump user"], &[("user", &[])])),
            Passage::Closed(policy.clone())
        );
        assert_eq!(closed(filter(true, &["oifname \"docker0\" accept"], &[])), Passage::Closed(policy.clone()));
        assert_eq!(closed(filter(true, &["iifname \"lan0\" accept"], &[])), Passage::Open);
        // Somebody may go somewhere.
        assert_eq!(closed(filter(true, &["ip daddr 192.0.2.0/24 accept"], &[])), Passage::Open);
        assert_eq!(closed(filter(true, &["ip saddr @allowed accept"], &[])), Passage::Doubtful(policy));
        let drop = "ip nat FORWARD (priority 0): drop".to_owned();
        assert_eq!(closed(filter(false, &["ip saddr @allowed accept", "drop"], &[])), Passage::Doubtful(drop));
        let reject = "ip nat FORWARD (priority 0): reject with icmpx admin-prohibited";
        let zones = filter(
            false,
            &[
                established,
                "iifname vmap { \"lan0\" : jump lan, \"wan0\" : jump wan }",
                "reject with icmpx admin-prohibited",
            ],
            &[("lan", &["oifname \"wan0\" jump out"]), ("out", &["ip daddr 10.0.0.1 accept"]), ("wan", &["accept"])],
        );
        assert_eq!(closed(zones.clone()), Passage::Open);
        let none = [("out".to_owned(), Vec::new())];
        let zones = BaseChain { chains: zones.chains.into_iter().chain(none).collect(), ..zones };
        assert_eq!(closed(zones), Passage::Closed(reject.to_owned()));
    }
}
