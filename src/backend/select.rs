//! Which backend a host gets, and why.
