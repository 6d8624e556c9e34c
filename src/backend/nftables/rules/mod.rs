//! What a table holds, and what makes one into another: pure.

pub mod apply;
pub mod change;
pub mod compile;
pub mod content;
pub mod drift;
pub mod family_table;
pub mod forwards;
pub mod interval;
pub mod name;
pub mod part;
pub mod plan;
pub mod planned;
pub mod port_set;
pub mod ports;
pub mod rule;
pub mod shared;
pub mod stranger;
pub mod table;
pub mod target;
pub mod text;
