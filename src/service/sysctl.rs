//! `net.ipv4.conf.INTERFACE.route_localnet`: without it the kernel drops what leaves through the interface from 127.0.0.0/8,
//! as local processes do through a forward with `localhost`.
//!
//! Everybody who reaches the interface reaches services on 127.0.0.1 then, but for the guard in raw prerouting: it is
//! there before the value is set, and goes after the old one is back.

use super::directories;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

const SETTING: &str = "route_localnet";
const ON: &str = "1";

/// The interfaces where it was set, with what it was before: in a file, for whoever comes after a crash.
#[derive(Debug)]
pub struct RouteLocalnet {
    /// `/proc/sys/net/ipv4/conf`.
    interfaces: PathBuf,
    file: PathBuf,
    /// `None` until the file was read.
    before: Option<BTreeMap<String, String>>,
    /// Where it was last asked for.
    wanted: BTreeSet<String>,
}

impl Default for RouteLocalnet {
    fn default() -> Self {
        RouteLocalnet::new("/proc/sys/net/ipv4/conf".into(), &directories::runtime())
    }
}

impl RouteLocalnet {
    fn new(interfaces: PathBuf, runtime: &Path) -> Self {
        RouteLocalnet { interfaces, file: runtime.join("route-localnet"), before: None, wanted: BTreeSet::new() }
    }

    /// True while it is set wherever it was last asked for.
    pub fn is_in_place(&self) -> bool {
        self.wanted.iter().all(|interface| self.is_on(interface))
    }

    /// Sets it on interfaces. Returns why not, for each where that failed.
    pub fn set(&mut self, interfaces: &BTreeSet<String>) -> Vec<String> {
        self.wanted.clone_from(interfaces);
        let failed = |interface: &str, error| {
            format!("{} can't be set to {ON}, and localhost of portForwards needs it: {error}", name(interface))
        };
        let results = interfaces.iter().map(|interface| (interface, self.set_one(interface)));
        results.filter_map(|(interface, result)| Some(failed(interface, result.err()?))).collect()
    }

    fn set_one(&mut self, interface: &str) -> io::Result<()> {
        // These are everybody's, and the kernel has no others for an interface of such a name.
        if ["all", "default"].contains(&interface) {
            return Err(io::Error::new(ErrorKind::InvalidInput, "no interface has settings of this name"));
        }
        let path = self.path(interface);
        let value = fs::read_to_string(&path)?.trim().to_owned();
        if value != ON {
            // What it was when it was first set: somebody may have written it since.
            self.before()?.entry(interface.to_owned()).or_insert(value);
            // First: a value whose predecessor nobody knows would stay for ever.
            self.save()?;
            return fs::write(path, ON);
        }
        let is_lost = !self.before()?.is_empty() && !self.file.exists();
        if is_lost { self.save() } else { Ok(()) }
    }

    /// Puts back what was before, but for these interfaces. Returns why not, for each where that failed.
    pub fn put_back_except(&mut self, kept: &BTreeSet<String>) -> Vec<String> {
        let before = match self.before() {
            Ok(before) => before.clone(),
            Err(error) => return vec![format!("{SETTING} can't be put back: '{}': {error}", self.file.display())],
        };
        let mut failures = Vec::new();
        for (interface, value) in before.iter().filter(|(interface, _)| !kept.contains(*interface)) {
            match self.put_back(interface, value) {
                // It went, and its settings with it.
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    failures.push(format!("{} can't be put back to {value}: {error}", name(interface)));
                }
                _ => {
                    self.before.iter_mut().for_each(|before| _ = before.remove(interface));
                    if let Err(error) = self.save() {
                        failures.push(format!("'{}' can't be written: {error}", self.file.display()));
                    }
                }
            }
        }
        failures
    }

    /// True when an interface has it from us: without the guard its neighbours would reach services on 127.0.0.1.
    pub fn is_left_on(&self) -> bool {
        self.before.iter().flatten().any(|(interface, _)| self.is_on(interface))
    }

    fn is_on(&self, interface: &str) -> bool {
        fs::read_to_string(self.path(interface)).is_ok_and(|value| value.trim() == ON)
    }

    fn put_back(&self, interface: &str, value: &str) -> io::Result<()> {
        let path = self.path(interface);
        // Where it could not be set, it can't be written now either.
        if fs::read_to_string(&path)?.trim() == value { Ok(()) } else { fs::write(path, value) }
    }

    fn path(&self, interface: &str) -> PathBuf {
        self.interfaces.join(interface).join(SETTING)
    }

    fn before(&mut self) -> io::Result<&mut BTreeMap<String, String>> {
        if self.before.is_none() {
            let text = match fs::read_to_string(&self.file) {
                Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
                text => text?,
            };
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            let entries = lines.filter(|(interface, _)| !interface.contains('/'));
            self.before = Some(entries.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        }
        Ok(self.before.get_or_insert_default())
    }

    fn save(&mut self) -> io::Result<()> {
        let lines = self.before()?.iter().map(|(interface, value)| format!("{interface} {value}\n"));
        let text: String = lines.collect();
        if text.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let new = self.file.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, &self.file)
    }
}

fn name(interface: &str) -> String {
    format!("net.ipv4.conf.{interface}.{SETTING}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with interfaces, all of them off.
    fn host(interfaces: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("conf");
        for interface in interfaces {
            fs::create_dir_all(conf.join(interface)).unwrap();
            fs::write(conf.join(interface).join(SETTING), "0\n").unwrap();
        }
        (directory, conf)
    }

    fn value(conf: &Path, interface: &str) -> String {
        fs::read_to_string(conf.join(interface).join(SETTING)).unwrap().trim().to_owned()
    }

    fn names(interfaces: &[&str]) -> BTreeSet<String> {
        interfaces.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_old_value_is_back_when_the_interface_is_another_one() {
        let (runtime, conf) = host(&["lan0", "lan1.10"]);
        let mut setting = RouteLocalnet::new(conf.clone(), runtime.path());
        assert_eq!(setting.set(&names(&["lan0"])), [""; 0]);
        assert_eq!((value(&conf, "lan0"), value(&conf, "lan1.10")), ("1".to_owned(), "0".to_owned()));
        assert_eq!(setting.put_back_except(&names(&["lan1.10"])), [""; 0]);
        assert_eq!(setting.set(&names(&["lan1.10"])), [""; 0]);
        assert_eq!((value(&conf, "lan0"), value(&conf, "lan1.10")), ("0".to_owned(), "1".to_owned()));
        assert_eq!(setting.put_back_except(&names(&[])), [""; 0]);
        assert_eq!(value(&conf, "lan1.10"), "0");
        assert!(!runtime.path().join("route-localnet").exists());
    }

    #[test]
    fn whoever_comes_after_a_crash_puts_the_old_value_back() {
        let (runtime, conf) = host(&["lan0"]);
        RouteLocalnet::new(conf.clone(), runtime.path()).set(&names(&["lan0"]));
        let mut next = RouteLocalnet::new(conf.clone(), runtime.path());
        assert_eq!(next.set(&names(&["lan0"])), [""; 0]);
        assert_eq!(next.put_back_except(&names(&[])), [""; 0]);
        assert_eq!(value(&conf, "lan0"), "0");
    }

    #[test]
    fn what_somebody_else_set_stays_as_it_was() {
        let (runtime, conf) = host(&["lan0"]);
        fs::write(conf.join("lan0").join(SETTING), "1\n").unwrap();
        let mut setting = RouteLocalnet::new(conf.clone(), runtime.path());
        setting.set(&names(&["lan0"]));
        setting.put_back_except(&names(&[]));
        assert_eq!(value(&conf, "lan0"), "1");
    }

    #[test]
    fn an_interface_that_went_is_forgotten_and_a_file_that_went_is_written_again() {
        let (runtime, conf) = host(&["lan0", "lan1"]);
        let mut setting = RouteLocalnet::new(conf.clone(), runtime.path());
        let both = names(&["lan0", "lan1"]);
        setting.set(&both);
        fs::remove_file(runtime.path().join("route-localnet")).unwrap();
        setting.set(&both);
        fs::remove_dir_all(conf.join("lan0")).unwrap();
        let mut next = RouteLocalnet::new(conf.clone(), runtime.path());
        assert_eq!(next.put_back_except(&names(&[])), [""; 0]);
        assert_eq!(value(&conf, "lan1"), "0");
        assert!(!runtime.path().join("route-localnet").exists());
    }

    #[test]
    fn nothing_is_set_for_everybody_or_without_a_note_of_what_it_was() {
        let (runtime, conf) = host(&["all", "default", "lan0"]);
        let mut setting = RouteLocalnet::new(conf.clone(), runtime.path());
        assert_eq!(setting.set(&names(&["all", "default", "away"])).len(), 3);
        let mut without = RouteLocalnet::new(conf.clone(), &runtime.path().join("away"));
        let said = without.set(&names(&["lan0"]));
        assert!(said[0].starts_with("net.ipv4.conf.lan0.route_localnet can't be set to 1"), "{said:?}");
        for interface in ["all", "default", "lan0"] {
            assert_eq!(value(&conf, interface), "0", "{interface}");
        }
    }
}
