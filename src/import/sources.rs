//! Rules that rewrite sources → the top level and entries of `egress`.
//!
//! The rules are asked for every packet that they tell apart: classes of interfaces, sources, destinations. What comes of
//! that is said again from the beginning, so that no order of theirs can be lost on the way; where one key can't say it,
//! a rule is refused and the rest asked again.

use super::rule::{Action, Hook, Refusal, Rule, Rules, Translation, both, but, either, whole};
use crate::policy::{AddressSet, Family, InterfaceClass, InterfacePattern, MAX_ENTRIES, MaskedMark, Prefix};

/// How many rules are asked together. Each can double what is told apart.
const MAX_RULES: usize = 128;
/// How many groups of sources are told apart on one interface.
const MAX_SOURCES: usize = 256;

/// A part of a configuration: the top level or an entry of `egress`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Part {
    pub out: Vec<InterfacePattern>,
    pub sources: Vec<Prefix>,
    pub excluded: Vec<Prefix>,
    /// For each family that it translates.
    pub treatments: Vec<Treatment>,
}

/// What happens to some packets of a family.
#[derive(Debug, Clone)]
pub struct Treatment {
    pub family: Family,
    /// `None` where all keep their source.
    pub translation: Option<Translation>,
    /// The destinations that see the source.
    kept: AddressSet,
    /// Destinations of rules that keep sources, for a shorter way to say it.
    written: AddressSet,
}

impl PartialEq for Treatment {
    fn eq(&self, other: &Self) -> bool {
        (self.family, self.translation, &self.kept) == (other.family, other.translation, &other.kept)
    }
}

impl Treatment {
    /// `masqueradeExceptionCIDRs` and `nonMasqueradeCIDRs`, the shortest that say it.
    pub fn lists(&self) -> (Vec<Prefix>, Vec<Prefix>) {
        let candidate = |exempt: AddressSet| (exempt.without(&self.kept).prefixes(), exempt.prefixes());
        let all = [self.kept.clone(), either(&self.kept, &self.written), whole(self.family)];
        let length = |(exceptions, exempt): &(Vec<Prefix>, Vec<Prefix>)| exceptions.len() + exempt.len();
        all.map(candidate).into_iter().min_by_key(length).unwrap_or_default()
    }

    /// True when some destination of these is translated.
    pub fn translates(&self, ranges: &[Prefix]) -> bool {
        self.translation.is_some() && !AddressSet::of(ranges.iter().copied()).without(&self.kept).is_empty()
    }
}

/// What the rules say of sources.
#[derive(Debug, Default)]
pub struct Sources {
    pub exempt_marks: Vec<MaskedMark>,
    pub exempt_ipsec: bool,
    pub top: Part,
    pub egress: Vec<Part>,
    /// Of flows that leave through interfaces that no rule names.
    anywhere: Vec<Cell>,
}

impl Sources {
    /// Whose source a rule rewrites on the way to an address, whatever interface leads there.
    pub fn translated_towards(&self, address: std::net::IpAddr) -> AddressSet {
        let one = AddressSet::of([Prefix::of(address)]);
        let family = Family::of(address);
        let cells = self.anywhere.iter().filter(|cell| cell.treatment.family == family);
        let translated =
            cells.filter(|cell| cell.treatment.translation.is_some() && !one.without(&cell.treatment.kept).is_empty());
        translated.fold(AddressSet::default(), |all, cell| either(&all, &cell.sources))
    }

    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.top).chain(&self.egress)
    }

    pub fn uses(&self, family: Family) -> bool {
        self.parts().flat_map(|part| &part.treatments).any(|one| one.family == family && one.translation.is_some())
    }
}

/// Sources that are treated alike.
#[derive(Debug, Clone, PartialEq)]
struct Cell {
    sources: AddressSet,
    treatment: Treatment,
}

/// Packets that no rule translates.
#[derive(Debug, Clone, Default, PartialEq)]
struct Guard {
    marks: Vec<MaskedMark>,
    ipsec: bool,
}

/// Takes the rules of the hook out of what was found. `also_ipv6`: something else enables IPv6.
pub fn read(found: &mut Rules, also_ipv6: bool) -> Sources {
    let (rules, others) = std::mem::take(&mut found.rules).into_iter().partition(|rule| rule.hook == Hook::Postrouting);
    found.rules = others;
    let rules = without_unsaid(rules, found);
    let (guard, mut rules) = guarded(rules, found);
    for rule in rules.split_off(rules.len().min(MAX_RULES)) {
        found.refuse_rule(rule, "too many rules that differ in more than an address");
    }
    let mut refused: Vec<Refusal> = Vec::new();
    let classes = loop {
        match all_cells(&rules) {
            Ok(cells) => break cells,
            Err(losers) => {
                for (at, reason) in losers.into_iter().rev() {
                    let rule = rules.remove(at);
                    refused.extend(rule.lines.into_iter().map(|line| Refusal { line, reason: reason.clone() }));
                }
            }
        }
    };
    refused.into_iter().for_each(|refusal| found.refuse(refusal.line, refusal.reason));
    let mut sources = parts(&classes, also_ipv6);
    if sources.egress.len() > MAX_ENTRIES {
        let reason = format!(
            "all together need {} entries of egress, of which there can be {MAX_ENTRIES}",
            sources.egress.len()
        );
        rules.into_iter().for_each(|rule| found.refuse_rule(rule, &reason));
        sources = Sources::default();
    } else {
        warn_of_order(&rules, found);
    }
    Sources { exempt_marks: guard.marks, exempt_ipsec: guard.ipsec, ..sources }
}

/// Refuses what an entry of `egress` has no key for.
fn without_unsaid(rules: Vec<Rule>, found: &mut Rules) -> Vec<Rule> {
    let mut left = Vec::new();
    for rule in rules {
        let condition = &rule.condition;
        let empty = |set: &Option<AddressSet>| set.as_ref().is_some_and(AddressSet::is_empty);
        let keeps = rule.action == Action::Keep;
        let reason = if matches!(rule.action, Action::Forward(_)) {
            "a destination can't be rewritten after routing"
        } else if condition.to_local == Some(true) {
            "what goes to the host itself is not looked at"
        } else if !condition.incoming.is_empty() {
            "the incoming interface has no key where sources are rewritten"
        } else if !condition.protocols.is_empty() || !condition.ports.is_empty() {
            "protocols and ports have no key where sources are rewritten"
        } else if condition.dnated {
            "only for connections that were forwarded, and none of portForwards' is among them"
        } else if condition.mark.is_some() && !keeps {
            "what has a mark can be left alone (exemptMarks), not be translated"
        } else if condition.mark.is_some() && !is_alone(&rule) {
            "exemptMarks is for every packet, this is for some"
        } else if condition.ipsec == Some(true) && !keeps {
            "what is for IPsec can be left alone (exemptIpsec), not be translated"
        } else if keeps && (condition.ipsec == Some(false) || !condition.without_marks.is_empty()) {
            "what has no mark or IPsec policy can't be left alone"
        } else if empty(&condition.sources) || empty(&condition.destinations) {
            found.note(format!("line {} matches no packet", rule.lines.first().map_or(0, |line| line.number)));
            continue;
        } else {
            left.push(rule);
            continue;
        };
        found.refuse_rule(rule, reason);
    }
    left
}

fn is_alone(rule: &Rule) -> bool {
    let condition = &rule.condition;
    condition.out.is_empty() && condition.sources.is_none() && condition.destinations.is_none()
}

/// The packets that every rule leaves alone by mark or IPsec policy, and the rules without those that say so.
fn guarded(rules: Vec<Rule>, found: &mut Rules) -> (Guard, Vec<Rule>) {
    let mut translated: Vec<Rule> = Vec::new();
    // By family, what was exempt so far.
    let mut exempt = [Guard::default(), Guard::default()];
    let mut guards = Vec::new();
    let (mut left, mut exemptions) = (Vec::new(), Vec::new());
    for rule in rules {
        let family = usize::from(rule.family == Family::V6);
        let condition = &rule.condition;
        if rule.action == Action::Keep && (condition.mark.is_some() || condition.ipsec == Some(true)) {
            if let Some(before) = translated.iter().find(|one| one.family == rule.family) {
                let number = before.lines.first().map_or(0, |line| line.number);
                let reason =
                    format!("asked after line {number}; exemptMarks and exemptIpsec are asked before everything");
                found.refuse_rule(rule, &reason);
                continue;
            }
            exempt[family].marks.extend(condition.mark);
            exempt[family].ipsec |= condition.ipsec == Some(true);
            exemptions.push(rule);
            continue;
        }
        if matches!(rule.action, Action::Translate(_)) {
            let mut guard = exempt[family].clone();
            guard.marks.extend(&condition.without_marks);
            guard.ipsec |= condition.ipsec == Some(false);
            guard.marks.sort();
            guard.marks.dedup();
            guards.push(guard);
            translated.push(rule.clone());
        }
        left.push(rule);
    }
    let narrower = exemptions.iter().find(|exemption| {
        translated.iter().filter(|rule| rule.family == exemption.family).any(|rule| !is_within(rule, exemption))
    });
    if let Some(line) = narrower.and_then(|rule| rule.lines.first()) {
        found.refuse(line.clone(), "exemptIpsec is for every packet, this is for some that others translate");
        let reason = "what is exempt before it can't be said";
        left.into_iter().for_each(|rule| found.refuse_rule(rule, reason));
        return (Guard::default(), Vec::new());
    }
    let count = |guard: &Guard| guards.iter().filter(|one| *one == guard).count();
    let Some(guard) = guards.iter().max_by_key(|guard| count(guard)).cloned() else {
        let [mut v4, v6] = exempt;
        v4.marks.extend(v6.marks);
        return (Guard { ipsec: v4.ipsec || v6.ipsec, marks: v4.marks }, left);
    };
    for rule in exemptions {
        let condition = &rule.condition;
        let is_said =
            condition.mark.is_none_or(|mark| guard.marks.contains(&mark)) && (condition.ipsec.is_none() || guard.ipsec);
        if !is_said {
            found
                .refuse_rule(rule, "exemptMarks and exemptIpsec are for every packet, and other rules translate these");
        }
    }
    let mut guards = guards.into_iter();
    let (same, other): (Vec<Rule>, Vec<Rule>) = left.into_iter().partition(|rule| {
        !matches!(rule.action, Action::Translate(_)) || guards.next().is_some_and(|one| one == guard)
    });
    for rule in other {
        found.refuse_rule(
            rule,
            "translates marks or IPsec packets that another rule leaves alone; exemptMarks and exemptIpsec are for all",
        );
    }
    (guard, same)
}

/// True when all that a rule is for is in the scope of another one.
fn is_within(rule: &Rule, scope: &Rule) -> bool {
    let (ours, theirs) = (&rule.condition, &scope.condition);
    let set = |ours: &Option<AddressSet>, theirs: &Option<AddressSet>| match (ours, theirs) {
        (_, None) => true,
        (Some(ours), Some(theirs)) => ours.without(theirs).is_empty(),
        (None, Some(theirs)) => whole(rule.family).without(theirs).is_empty(),
    };
    (theirs.out.is_empty() || ours.out == theirs.out)
        && set(&ours.sources, &theirs.sources)
        && set(&ours.destinations, &theirs.destinations)
}

/// A class of interfaces, and the sources that are told apart there.
struct Class {
    /// A pattern for the class; `None` for interfaces that no rule names.
    pattern: Option<InterfacePattern>,
    cells: Vec<Cell>,
}

/// Places of rules, in ascending order, that can't stay beside the others, each with the reason.
type Losers = Vec<(usize, String)>;

fn all_cells(rules: &[Rule]) -> Result<Vec<Class>, Losers> {
    let patterns: Vec<InterfacePattern> = rules.iter().flat_map(|rule| rule.condition.out.clone()).collect();
    let mut classes = Vec::new();
    let mut losers = Losers::new();
    for class in InterfaceClass::all(&patterns) {
        let pattern = match class {
            InterfaceClass::Named(name) => {
                Some(InterfacePattern { negated: false, name: name.to_owned(), prefix: false })
            }
            InterfaceClass::Beginning(name) => {
                Some(InterfacePattern { negated: false, name: name.to_owned(), prefix: true })
            }
            InterfaceClass::Other => None,
        };
        let mut cells = Vec::new();
        for family in Family::ALL {
            let asked =
                rules.iter().enumerate().filter(|(_, rule)| rule.family == family && class.is_in(&rule.condition.out));
            match cells_of(&asked.collect::<Vec<_>>(), family) {
                Ok(found) => cells.extend(found),
                Err(found) => losers.extend(found),
            }
        }
        classes.push(Class { pattern, cells });
    }
    losers.sort();
    losers.dedup_by_key(|(at, _)| *at);
    if losers.is_empty() { Ok(classes) } else { Err(losers) }
}

fn cells_of(rules: &[(usize, &Rule)], family: Family) -> Result<Vec<Cell>, Losers> {
    let mut atoms = vec![whole(family)];
    for (at, rule) in rules {
        let Some(sources) = &rule.condition.sources else { continue };
        let split = |atom: &AddressSet| [both(atom, sources), atom.without(sources)];
        atoms = atoms.iter().flat_map(split).filter(|atom| !atom.is_empty()).collect();
        if atoms.len() > MAX_SOURCES {
            return Err(vec![(*at, "too many sources are told apart".to_owned())]);
        }
    }
    let mut cells: Vec<Cell> = Vec::new();
    let mut losers = Losers::new();
    for atom in atoms {
        let is_for = |rule: &Rule| rule.condition.sources.as_ref().is_none_or(|sources| sources.touches(&atom));
        match treatment(rules.iter().copied().filter(|(_, rule)| is_for(rule)), family) {
            Ok(treatment) => match cells.iter_mut().find(|cell| cell.treatment == treatment) {
                Some(cell) => cell.sources = either(&cell.sources, &atom),
                None => cells.push(Cell { sources: atom, treatment }),
            },
            Err(found) => losers.extend(found),
        }
    }
    if losers.is_empty() { Ok(cells) } else { Err(losers) }
}

/// What the rules do, in their order, to one source on one interface.
fn treatment<'r>(rules: impl Iterator<Item = (usize, &'r Rule)>, family: Family) -> Result<Treatment, Losers> {
    let (mut left, mut kept, mut written) = (whole(family), AddressSet::default(), AddressSet::default());
    let mut translations: Vec<(usize, usize, Translation)> = Vec::new();
    for (at, rule) in rules {
        let all = whole(family);
        let destinations = rule.condition.destinations.as_ref().unwrap_or(&all);
        if !left.touches(destinations) {
            continue;
        }
        match rule.action {
            Action::Keep => {
                kept = either(&kept, &both(&left, destinations));
                written = either(&written, destinations);
            }
            Action::Translate(translation) => {
                translations.push((at, rule.lines.first().map_or(0, |line| line.number), translation));
            }
            Action::Forward(_) => {}
        }
        left = left.without(destinations);
    }
    let Some((_, number, last)) = translations.last().copied() else {
        return Ok(Treatment { family, translation: None, kept: whole(family), written });
    };
    let losers: Losers = translations
        .iter()
        .filter(|(_, _, one)| *one != last)
        .map(|(at, ..)| {
            (
                *at,
                format!("some destinations get another source than by line {number}; an entry of egress has one snat"),
            )
        })
        .collect();
    match losers.is_empty() {
        true => Ok(Treatment { family, translation: Some(last), kept: either(&kept, &left), written }),
        false => Err(losers),
    }
}

/// Where a rule that stays is asked before one that was taken, which was asked first.
fn warn_of_order(taken: &[Rule], found: &mut Rules) {
    let first = taken.iter().flat_map(|rule| &rule.lines).map(|line| line.number).min();
    let Some(first) = first else { return };
    if found.refused.iter().any(|refusal| refusal.line.number > first && refusal.line.number != usize::MAX) {
        found.note(
            "What stays by hand is asked before ip-masq-agent's rules (jumpPosition: last), also where a line that was \
             taken came first; look at those it overlaps with",
        );
    }
}

fn parts(classes: &[Class], also_ipv6: bool) -> Sources {
    let families: Vec<Family> = Family::ALL
        .into_iter()
        .filter(|family| {
            let cells = classes.iter().flat_map(|class| &class.cells);
            cells.into_iter().any(|cell| cell.treatment.family == *family && cell.treatment.translation.is_some())
        })
        .collect();
    let anywhere = classes.last().map(|class| class.cells.clone()).unwrap_or_default();
    if let Some(top) = one_part(classes, &families, also_ipv6) {
        return Sources { top, anywhere, ..Sources::default() };
    }
    Sources { egress: entries(classes, &families, also_ipv6), anywhere, ..Sources::default() }
}

/// The top level alone, where one scope and one treatment say it all.
fn one_part(classes: &[Class], families: &[Family], also_ipv6: bool) -> Option<Part> {
    let mut part = Part::default();
    let mut wanted: Option<Vec<bool>> = None;
    let mut sets = Vec::new();
    for family in families {
        let translating = |class: &Class| -> Vec<Cell> {
            let cells = class.cells.iter().filter(|cell| cell.treatment.family == *family);
            cells.filter(|cell| cell.treatment.translation.is_some()).cloned().collect()
        };
        let of_classes: Vec<Vec<Cell>> = classes.iter().map(translating).collect();
        let is_in: Vec<bool> = of_classes.iter().map(|cells| !cells.is_empty()).collect();
        if wanted.as_ref().is_some_and(|wanted| *wanted != is_in) {
            return None;
        }
        wanted = Some(is_in);
        let mut cells = of_classes.iter().filter(|cells| !cells.is_empty());
        let [cell] = cells.next()?.as_slice() else { return None };
        if !cells.all(|cells| cells.as_slice() == [cell.clone()]) {
            return None;
        }
        sets.push((*family, cell.sources.clone()));
        part.treatments.push(cell.treatment.clone());
    }
    if !are_said_together(&part.treatments) {
        return None;
    }
    part.out = patterns(classes, &wanted?)?;
    scope(&mut part, &sets, families.len() == 2 || families == [Family::V4] && !also_ipv6);
    Some(part)
}

/// The scope of sources; `open`: no source has to be named that no set leaves out.
fn scope(part: &mut Part, sets: &[(Family, AddressSet)], open: bool) {
    let left_out: Vec<Prefix> = sets.iter().flat_map(|(family, set)| but(*family, set).prefixes()).collect();
    let named: Vec<Prefix> = sets.iter().flat_map(|(_, set)| set.prefixes()).collect();
    match open && left_out.len() < named.len() {
        true => part.excluded = left_out,
        false => part.sources = named,
    }
}

/// True when one `snat` and one `randomFully` say the translations of both families.
fn are_said_together(treatments: &[Treatment]) -> bool {
    let translations: Vec<Translation> = treatments.iter().filter_map(|one| one.translation).collect();
    let same = |one: &Translation, other: &Translation| {
        one.random_fully == other.random_fully && one.to.is_some() == other.to.is_some()
    };
    translations.windows(2).all(|pair| same(&pair[0], &pair[1]))
        && (translations.is_empty() || translations.len() == treatments.len())
}

/// A list of patterns for some of the classes, where there is one.
fn patterns(classes: &[Class], wanted: &[bool]) -> Option<Vec<InterfacePattern>> {
    let (last, _) = wanted.split_last()?;
    let named = classes.iter().zip(wanted);
    let named: Vec<(InterfacePattern, bool)> =
        named.filter_map(|(class, wanted)| Some((class.pattern.clone()?, *wanted))).collect();
    let list: Vec<InterfacePattern> = named
        .iter()
        .filter(|(pattern, wanted)| match (*last, *wanted) {
            // Those that a shorter beginning already has need not be named.
            (false, true) => true,
            (true, false) => true,
            (false, false) => named.iter().any(|(other, is)| *is && other.prefix && other.matches(&pattern.name)),
            (true, true) => false,
        })
        .map(|(pattern, wanted)| InterfacePattern { negated: !wanted, ..pattern.clone() })
        .collect();
    let all: Vec<InterfacePattern> = named.into_iter().map(|(pattern, _)| pattern).collect();
    let fits = InterfaceClass::all(&all).into_iter().zip(wanted).all(|(class, wanted)| class.is_in(&list) == *wanted);
    fits.then_some(list)
}

/// Entries for each class of interfaces, the narrow ones first.
fn entries(classes: &[Class], families: &[Family], also_ipv6: bool) -> Vec<Part> {
    let mut entries = Vec::new();
    let mut done: Vec<&Vec<Cell>> = Vec::new();
    for (at, class) in classes.iter().enumerate() {
        let is_name = |class: &Class| class.pattern.as_ref().is_some_and(|pattern| !pattern.prefix);
        let out: Vec<InterfacePattern> = match is_name(class) {
            true if done.contains(&&class.cells) => continue,
            true => {
                done.push(&class.cells);
                let alike = classes.iter().filter(|other| is_name(other) && other.cells == class.cells);
                alike.filter_map(|class| class.pattern.clone()).collect()
            }
            false => class.pattern.iter().cloned().collect(),
        };
        entries.extend(of_class(class, &classes[at + 1..], families, &out, also_ipv6));
    }
    entries
}

fn of_class(
    class: &Class,
    behind: &[Class],
    families: &[Family],
    out: &[InterfacePattern],
    also_ipv6: bool,
) -> Vec<Part> {
    let whole_class: Vec<&Cell> = class.cells.iter().filter(|cell| families.contains(&cell.treatment.family)).collect();
    let treatments: Vec<Treatment> = whole_class.iter().map(|cell| cell.treatment.clone()).collect();
    let one_each = whole_class.len() == families.len();
    let translates = treatments.iter().any(|one| one.translation.is_some());
    if one_each && families.len() == 2 && translates && !out.is_empty() && are_said_together(&treatments) {
        return vec![Part { out: out.to_vec(), treatments, ..Part::default() }];
    }
    let alone = families == [Family::V4] && !also_ipv6;
    families.iter().flat_map(|family| of_family(class, behind, *family, alone, out)).collect()
}

fn of_family(class: &Class, behind: &[Class], family: Family, alone: bool, out: &[InterfacePattern]) -> Vec<Part> {
    let of_it = |class: &Class| -> Vec<Cell> {
        class.cells.iter().filter(|cell| cell.treatment.family == family).cloned().collect()
    };
    // What the next class that they are in says of them, too.
    if behind.iter().find(|wider| leads_on(class, wider)).is_some_and(|wider| of_it(wider) == of_it(class)) {
        return Vec::new();
    }
    let mut cells: Vec<&Cell> = class.cells.iter().filter(|cell| cell.treatment.family == family).collect();
    // What has the most prefixes is said last, as the rest.
    cells.sort_by_key(|cell| cell.sources.prefixes().len());
    let may_be_taken = |sources: &AddressSet| {
        behind.iter().filter(|other| leads_on(class, other)).flat_map(|other| &other.cells).any(|cell| {
            cell.treatment.family == family && cell.treatment.translation.is_some() && cell.sources.touches(sources)
        })
    };
    let Some((rest, named)) = cells.split_last() else { return Vec::new() };
    let mut parts = Vec::new();
    let rest_translates = rest.treatment.translation.is_some();
    for cell in named {
        if cell.treatment.translation.is_some() || rest_translates || may_be_taken(&cell.sources) {
            parts.push(part(cell.sources.prefixes(), &cell.treatment, out));
        }
    }
    if rest_translates || may_be_taken(&rest.sources) {
        let sources = if alone && !out.is_empty() { Vec::new() } else { vec![family.whole()] };
        parts.push(part(sources, &rest.treatment, out));
    }
    parts
}

fn part(sources: Vec<Prefix>, treatment: &Treatment, out: &[InterfacePattern]) -> Part {
    Part { out: out.to_vec(), sources, excluded: Vec::new(), treatments: vec![treatment.clone()] }
}

/// True when interfaces of a class are those of a wider one, too.
fn leads_on(class: &Class, wider: &Class) -> bool {
    match (&class.pattern, &wider.pattern) {
        (_, None) => true,
        (Some(class), Some(wider)) => wider.prefix && wider.matches(&class.name),
        (None, Some(_)) => false,
    }
}
