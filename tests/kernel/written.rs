//! A plan that was committed, after which nothing differs.

use ip_masq_agent::backend::Backend;
use ip_masq_agent::policy::Family;
use ip_masq_agent::ruleset::Ruleset;

pub struct Written {
    pub drift: Vec<String>,
    transaction: String,
}

impl Written {
    pub fn transaction(&self) -> &str {
        &self.transaction
    }
}

/// Plans and commits one family, as a service does, and sees that the kernel then holds what was wanted.
pub fn write(backend: &mut dyn Backend, family: Family, desired: Option<&Ruleset>) -> Written {
    let plan = backend.plan(family, desired).unwrap();
    let written =
        Written { drift: plan.drift.iter().map(ToString::to_string).collect(), transaction: plan.transaction() };
    backend.commit(plan).unwrap();
    let again = backend.plan(family, desired).unwrap();
    let rest = (&again.drift, again.transaction());
    assert!(again.is_in_sync(), "after\n{}\nstill {rest:?}", written.transaction);
    assert_eq!(rest, (&Vec::new(), String::new()), "in sync");
    let (observed, desired) = (&*again.observed, &*again.desired);
    assert!(observed == desired, "observed\n{observed:.2000}\ndesired\n{desired:.2000}");
    written
}
