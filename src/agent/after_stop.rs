//! What becomes of masqueraded connections when our rules go, as it can be said beforehand.
//!
//! A connection that exists is translated packet by packet. The kernel does that for a family while two things are
//! there: a rule that needs connection tracking, and a nat chain, wherever they are. Ours are both.

use super::cause::Cause;
use crate::policy::Family;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What stays that keeps a family's connections translated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keepers {
    /// Where a rule is that needs connection tracking; `None` when none is known.
    pub tracking: Option<String>,
    /// Where a nat chain is; `None` when there is none.
    pub translation: Option<String>,
}

/// What was found of each family, or why it could not be.
#[derive(Debug, Clone, Default)]
pub struct AfterStop(pub Vec<(Family, Result<Keepers, Cause>)>);

/// What a stop will do, as `status` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtStop {
    /// What becomes of the rules.
    pub rules: RulesAtStop,
    /// What becomes of masqueraded connections, per family; nothing while the rules stay.
    pub families: Vec<FamilyAtStop>,
}

/// What a stop will do to the connections of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyAtStop {
    /// `IPv4` or `IPv6`.
    pub family: Family,
    /// What becomes of them.
    pub connections: ConnectionsAtStop,
    /// Why, in words.
    pub because: String,
}

/// What becomes of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulesAtStop {
    /// They stay in the kernel.
    Kept,
    /// They are taken out of it.
    Removed,
}

/// What becomes of connections that are masqueraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionsAtStop {
    /// They are translated until they end by themselves.
    GoOn,
    /// They are translated no longer: they break.
    End,
    /// The kernel could not be asked.
    Unknown,
}

impl AtStop {
    /// A stop that leaves the rules where they are.
    pub fn keeping() -> Self {
        AtStop { rules: RulesAtStop::Kept, families: Vec::new() }
    }

    /// A stop that removes the rules.
    pub fn removing(after: &AfterStop) -> Self {
        let families = after.0.iter().map(|(family, found)| FamilyAtStop {
            family: *family,
            connections: fate(found),
            because: reason(found),
        });
        AtStop { rules: RulesAtStop::Removed, families: families.collect() }
    }

    /// The worst of the families.
    pub fn connections(&self) -> ConnectionsAtStop {
        let is = |fate: &ConnectionsAtStop| self.families.iter().any(|family| family.connections == *fate);
        [ConnectionsAtStop::End, ConnectionsAtStop::Unknown].into_iter().find(is).unwrap_or(ConnectionsAtStop::GoOn)
    }
}

fn fate(found: &Result<Keepers, Cause>) -> ConnectionsAtStop {
    match found {
        Ok(Keepers { tracking: Some(_), translation: Some(_) }) => ConnectionsAtStop::GoOn,
        Ok(_) => ConnectionsAtStop::End,
        Err(_) => ConnectionsAtStop::Unknown,
    }
}

fn reason(found: &Result<Keepers, Cause>) -> String {
    match found {
        Ok(Keepers { tracking: None, .. }) => "no other rule keeps connection tracking on".to_owned(),
        Ok(Keepers { translation: None, .. }) => "no other nat chain keeps address translation on".to_owned(),
        Ok(Keepers { tracking: Some(tracking), translation: Some(translation) }) => {
            format!("'{tracking}' keeps connection tracking on, '{translation}' address translation")
        }
        Err(error) => format!("the rules of others can't be read: {error}"),
    }
}

impl fmt::Display for AtStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules == RulesAtStop::Kept {
            return f.write_str("the rules stay: onStop is 'keep'");
        }
        f.write_str("the rules are removed")?;
        let same = |other: &FamilyAtStop| {
            self.families.iter().all(|one| (one.connections, &one.because) == (other.connections, &other.because))
        };
        for (place, one) in self.families.iter().enumerate() {
            let family = match same(one) {
                true if place > 0 => continue,
                true => String::new(),
                false => format!("{} ", one.family),
            };
            write!(f, "; masqueraded {family}connections {}: {}", one.connections, one.because)?;
        }
        f.write_str(if self.connections() == ConnectionsAtStop::End { " ('onStop: keep' prevents it)" } else { "" })
    }
}

impl fmt::Display for ConnectionsAtStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConnectionsAtStop::GoOn => "go on",
            ConnectionsAtStop::End => "end with them",
            ConnectionsAtStop::Unknown => "may end with them",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keepers(tracking: Option<&str>, translation: Option<&str>) -> Result<Keepers, Cause> {
        Ok(Keepers { tracking: tracking.map(str::to_owned), translation: translation.map(str::to_owned) })
    }

    #[test]
    fn connections_go_on_only_where_tracking_and_translation_both_stay() {
        let (rule, chain) = (Some("inet fw forward"), Some("ip nat POSTROUTING"));
        let said = |v4: Result<Keepers, Cause>, v6: Result<Keepers, Cause>| {
            let at_stop = AtStop::removing(&AfterStop(vec![(Family::V4, v4), (Family::V6, v6)]));
            (at_stop.connections(), at_stop.to_string())
        };
        let go_on = "connections go on: 'inet fw forward' keeps connection tracking on, 'ip nat POSTROUTING' address \
                     translation";
        let remedy = " ('onStop: keep' prevents it)";
        let both = keepers(rule, chain);
        assert_eq!(
            said(both.clone(), both.clone()),
            (ConnectionsAtStop::GoOn, format!("the rules are removed; masqueraded {go_on}"))
        );
        let (connections, text) = said(both.clone(), keepers(rule, None));
        let end = "IPv6 connections end with them: no other nat chain keeps address translation on";
        assert_eq!(connections, ConnectionsAtStop::End);
        assert_eq!(text, format!("the rules are removed; masqueraded IPv4 {go_on}; masqueraded {end}{remedy}"));
        let (_, text) = said(keepers(None, None), keepers(None, chain));
        let end = "connections end with them: no other rule keeps connection tracking on";
        assert_eq!(text, format!("the rules are removed; masqueraded {end}{remedy}"));
        let no: Cause = std::sync::Arc::new(std::io::Error::other("no"));
        assert_eq!(said(both, Err(no.clone())).0, ConnectionsAtStop::Unknown);
        assert_eq!(said(Err(no.clone()), keepers(None, None)).0, ConnectionsAtStop::End);
        assert_eq!(AtStop::keeping().to_string(), "the rules stay: onStop is 'keep'");
    }
}
