//! Tables, rules and elements as messages of nf_tables: pure.

pub mod batch;
pub mod expression;
pub mod translate;
pub mod userdata;
