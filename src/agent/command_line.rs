//! How the service was started, for commands that are to read what it reads.

use crate::config::{Flags, KEYS, Key, Locations};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// What the service was told of the configuration on its command line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandLine {
    /// The main file, from the root directory.
    pub config: Option<PathBuf>,
    /// The directory of further files.
    pub config_dir: Option<PathBuf>,
    /// The flags, by their names without the dashes.
    flags: Vec<(String, Vec<String>)>,
}

impl CommandLine {
    pub fn new(locations: &Locations, flags: &Flags) -> Self {
        let flag = |(key, values): (Key, &[String])| (key.info().flag.clone(), values.to_vec());
        CommandLine {
            config: locations.file.clone(),
            config_dir: locations.directory.clone(),
            flags: flags.iter().map(flag).collect(),
        }
    }

    /// The flags as they are typed.
    pub fn options(&self) -> impl Iterator<Item = String> {
        self.flags.iter().map(|(name, values)| option(name, values))
    }

    /// The flags; without those of another version that are not known here.
    pub fn flags(&self) -> Flags {
        let mut flags = Flags::default();
        for (name, values) in &self.flags {
            if let Some(info) = KEYS.iter().find(|info| info.flag == *name) {
                flags.add(info.key, values.iter().cloned());
            }
        }
        flags
    }
}

/// A flag as it is typed.
pub fn option(name: &str, values: &[String]) -> String {
    format!("--{name}={}", values.join(","))
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = [("config", &self.config), ("config-dir", &self.config_dir)].into_iter();
        let places = places.filter_map(|(name, path)| Some(format!("--{name}={}", path.as_ref()?.display())));
        f.write_str(&places.chain(self.options()).collect::<Vec<_>>().join(" "))
    }
}
