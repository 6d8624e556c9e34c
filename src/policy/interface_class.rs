//! Interfaces that no pattern of a policy tells apart.

use super::InterfacePattern;
use std::collections::BTreeSet;

/// Interfaces that every pattern of some lists treats alike. Of the classes of a name the first one is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterfaceClass<'p> {
    /// The interface of that name.
    Named(&'p str),
    /// Those whose name begins so, and that are in no class before this one.
    Beginning(&'p str),
    /// All that are in no class before this one.
    Other,
}

impl<'p> InterfaceClass<'p> {
    /// The classes that patterns make: names, then beginnings, the longest first, then the rest.
    pub fn all(patterns: impl IntoIterator<Item = &'p InterfacePattern>) -> Vec<Self> {
        let (mut names, mut beginnings) = (BTreeSet::new(), BTreeSet::new());
        for pattern in patterns {
            match pattern.prefix {
                true => beginnings.insert((usize::MAX - pattern.name.len(), pattern.name.as_str())),
                false => names.insert(pattern.name.as_str()),
            };
        }
        let names = names.into_iter().map(InterfaceClass::Named);
        let beginnings = beginnings.into_iter().map(|(_, name)| InterfaceClass::Beginning(name));
        names.chain(beginnings).chain([InterfaceClass::Other]).collect()
    }

    /// True when a list of patterns lets the interfaces of the class through. The class has to be one that its patterns
    /// made, too.
    pub fn is_in(self, patterns: impl IntoIterator<Item = &'p InterfacePattern>) -> bool {
        let matches = |pattern: &InterfacePattern| match self {
            InterfaceClass::Named(name) => pattern.matches(name),
            InterfaceClass::Beginning(name) => pattern.prefix && pattern.matches(name),
            InterfaceClass::Other => false,
        };
        let (refused, wanted): (Vec<_>, Vec<_>) = patterns.into_iter().partition(|pattern| pattern.negated);
        !refused.into_iter().any(matches) && (wanted.is_empty() || wanted.into_iter().any(matches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<InterfacePattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_class_is_in_a_list_when_each_of_its_interfaces_is() {
        use InterfaceClass::*;
        let all = patterns(&["eth+", "eth1+", "eth0", "!wg0"]);
        let classes = InterfaceClass::all(&all);
        assert_eq!(classes, [Named("eth0"), Named("wg0"), Beginning("eth1"), Beginning("eth"), Other]);
        let those_in = |texts: &[&str]| -> Vec<usize> {
            let list = patterns(texts);
            (0..5).filter(|number| classes[*number].is_in(&list)).collect()
        };
        assert_eq!(those_in(&[]), [0, 1, 2, 3, 4]);
        assert_eq!(those_in(&["eth+"]), [0, 2, 3]);
        assert_eq!(those_in(&["eth+", "!eth1+"]), [0, 3]);
        assert_eq!(those_in(&["!wg0"]), [0, 2, 3, 4]);
        assert_eq!(those_in(&["eth0", "!eth0"]), [0; 0]);
    }
}
