//! Rules and files of other programs. What is printed is a good configuration, whatever was read.
#![no_main]

use ip_masq_agent::config::{self, Flags, SourceText};
use ip_masq_agent::import::import;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|text: &str| match import(text) {
    Ok(imported) => {
        let sources = [SourceText { path: Path::new("a.yaml").into(), text: imported.text }];
        assert!(config::parse(&sources, &Flags::default()).is_ok());
    }
    Err(error) => assert!(!error.to_string().is_empty()),
});
