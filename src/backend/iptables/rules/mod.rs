//! What the rules of a chain are, as text: pure. [`mod@render`] says a ruleset in rules, [`parse`] reads a listing, [`plan`]
//! compares.

pub mod ownership;
pub mod parse;
pub mod plan;
pub mod render;
pub mod rule;
pub mod sets;
