//! What to do when something happens, and when to do the next thing. Pure: time is an argument.

pub mod advice;
