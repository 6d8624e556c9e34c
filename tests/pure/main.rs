//! What needs no kernel: the decisions, the texts, the documents, and what holds for the source itself.

mod agent;
mod commands;
mod completions;
mod diagnostics;
mod docs;
mod forwards;
mod golden;
mod import;
mod install;
#[path = "../interpreter/mod.rs"]
mod interpreter;
mod layering;
#[path = "../random/mod.rs"]
mod random;
mod rendering;
mod security;
mod unit;
