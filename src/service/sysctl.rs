//! Sysctls that the service sets where the configuration asks for that, and what they were before.
//!
//! `net.ipv4.conf.INTERFACE.route_localnet`: without it the kernel drops what leaves through the interface from 127.0.0.0/8,
//! as local processes do through a forward with `localhost`. Everybody who reaches the interface reaches services on
//! 127.0.0.1 then, but for the guard in raw prerouting: it is there before the value is set, and goes after the old one is
//! back.
//!
//! `net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`: with `manageSysctl`. Whoever writes them writes others, too: the
//! kernel gives each interface the same value, and `net.ipv4.conf.all.accept_redirects` the opposite one.

use super::directories;
use super::replace::replace;
use crate::policy::Family;
use crate::sys;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;

const ROUTE_LOCALNET: &str = "route_localnet";
const ROUTE_LOCALNET_PURPOSE: &str = "localhost of portForwards needs it";
const FORWARDING: &str = "forwarding";
const ACCEPT_REDIRECTS: &str = "accept_redirects";
/// In the file: the forwarding of interfaces to come.
const TO_COME: &str = "default";
const ON: &str = "1";

/// A sysctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Whether packets of a family are forwarded.
    Forwarding(Family),
    /// Of the interface of this index, whatever its name becomes.
    RouteLocalnet(u32),
    /// Never set by us: the kernel does when `Forwarding` of the family is. `None` for interfaces to come.
    ForwardingOf(Family, Option<u32>),
    /// The same, `net.ipv4.conf.all`.
    AcceptRedirects,
}

impl Setting {
    /// The family whose packets it is about.
    pub fn family(self) -> Family {
        match self {
            Setting::Forwarding(family) | Setting::ForwardingOf(family, _) => family,
            Setting::RouteLocalnet(_) | Setting::AcceptRedirects => Family::V4,
        }
    }

    /// That with which the kernel sets it, too, where we never do by ourselves.
    fn follows(self) -> Option<Self> {
        match self {
            Setting::Forwarding(_) | Setting::RouteLocalnet(_) => None,
            Setting::ForwardingOf(family, _) => Some(Setting::Forwarding(family)),
            Setting::AcceptRedirects => Some(Setting::Forwarding(Family::V4)),
        }
    }

    /// What it is needed for.
    fn purpose(self) -> &'static str {
        match self {
            Setting::Forwarding(_) | Setting::ForwardingOf(..) | Setting::AcceptRedirects => "manageSysctl asks for it",
            Setting::RouteLocalnet(_) => ROUTE_LOCALNET_PURPOSE,
        }
    }
}

/// Those that were set, with what they were before: in a file, for whoever comes after a crash. The file is of one network
/// namespace.
#[derive(Debug)]
pub struct Sysctls {
    /// `/proc/sys/net`.
    root: PathBuf,
    runtime: PathBuf,
    interfaces: Box<dyn Interfaces>,
    /// `None` until the file was read.
    before: Option<BTreeMap<Setting, String>>,
    /// Those that were last asked for.
    wanted: BTreeSet<Setting>,
    /// Those that were seen to be on since, and that nobody but others switches off.
    held: BTreeSet<Setting>,
}

/// The interfaces of the network namespace, and which one that is.
trait Interfaces: fmt::Debug {
    fn index(&self, name: &str) -> io::Result<u32>;
    fn name(&self, index: u32) -> io::Result<String>;
    fn namespace(&self) -> io::Result<u64>;
}

/// What the kernel makes of `net.ipv4.conf.all.accept_redirects` where forwarding is switched off.
const REDIRECTS_OF_HOSTS: &str = "1";
/// And of forwarding of each interface.
const OFF: &str = "0";

#[derive(Debug)]
struct Present;

impl Interfaces for Present {
    fn index(&self, name: &str) -> io::Result<u32> {
        Ok(nix::net::if_::if_nametoindex(name)?)
    }

    fn name(&self, index: u32) -> io::Result<String> {
        sys::interface_name(index)
    }

    fn namespace(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/thread-self/ns/net")?))
    }
}

impl Default for Sysctls {
    fn default() -> Self {
        Sysctls::new("/proc/sys/net".into(), directories::runtime(), Box::new(Present))
    }
}

impl Sysctls {
    fn new(root: PathBuf, runtime: PathBuf, interfaces: Box<dyn Interfaces>) -> Self {
        Sysctls { root, runtime, interfaces, before: None, wanted: BTreeSet::new(), held: BTreeSet::new() }
    }

    /// `route_localnet` of the interface that has this name now.
    ///
    /// # Errors
    /// When there is no such setting.
    pub fn route_localnet(&self, interface: &str) -> Result<Setting, SysctlError> {
        // These are everybody's, and the kernel has no others for an interface of such a name.
        let index = match ["all", "default"].contains(&interface) {
            true => Err(io::Error::new(ErrorKind::InvalidInput, "no interface has settings of this name")),
            false => self.interfaces.index(interface),
        };
        index.map(Setting::RouteLocalnet).map_err(|error| SysctlError::Set {
            name: route_localnet(interface),
            purpose: ROUTE_LOCALNET_PURPOSE,
            error,
        })
    }

    /// True while all are set that were last asked for.
    pub fn is_in_place(&self) -> bool {
        self.wanted.iter().all(|setting| self.is_on(*setting))
    }

    /// Sets those of a family. Returns why not, for each where that failed.
    pub fn set(&mut self, family: Family, settings: &BTreeSet<Setting>) -> Vec<SysctlError> {
        self.wanted.retain(|setting| setting.family() != family);
        self.wanted.extend(settings.iter().filter(|setting| setting.family() == family));
        let mut failures = Vec::new();
        for setting in self.wanted.clone().into_iter().filter(|setting| setting.family() == family) {
            match self.set_one(setting) {
                Ok(()) => _ = self.held.insert(setting),
                // Nothing leaves through it any more.
                Err(error) if matches!(setting, Setting::RouteLocalnet(_)) && self.is_gone(setting, &error) => {}
                Err(error) => {
                    failures.push(SysctlError::Set { name: self.name(setting), purpose: setting.purpose(), error });
                }
            }
        }
        failures
    }

    /// Those that somebody has switched off since they were set.
    pub fn switched_off(&self) -> Vec<Setting> {
        let is_off = |setting: &&Setting| {
            self.path(**setting).and_then(fs::read_to_string).is_ok_and(|value| value.trim() != ON)
        };
        self.held.intersection(&self.wanted).filter(is_off).copied().collect()
    }

    fn set_one(&mut self, setting: Setting) -> io::Result<()> {
        let path = self.path(setting)?;
        let value = fs::read_to_string(&path)?.trim().to_owned();
        if value != ON {
            // What it was when it was first set: somebody may have written it since.
            if !self.before()?.contains_key(&setting) {
                let (beside, before) = (self.beside(setting), self.before()?);
                beside.into_iter().for_each(|(setting, value)| _ = before.entry(setting).or_insert(value));
                before.insert(setting, value);
            }
            // First: a value whose predecessor nobody knows would stay for ever.
            self.save()?;
            return fs::write(path, ON);
        }
        let is_lost = !self.before()?.is_empty() && !self.file()?.exists();
        if is_lost { self.save() } else { Ok(()) }
    }

    /// What the kernel sets with a setting, and would not set back.
    fn beside(&self, setting: Setting) -> Vec<(Setting, String)> {
        let Setting::Forwarding(family) = setting else { return Vec::new() };
        let conf = fs::read_dir(self.conf(family)).into_iter().flatten().flatten();
        let names = conf.filter_map(|entry| entry.file_name().into_string().ok());
        let interfaces = names.filter(|name| !["all", "default"].contains(&name.as_str()));
        let indices = interfaces.filter_map(|name| self.interfaces.index(&name).ok());
        let forwarding = indices.map(Some).chain([None]).map(|of| (Setting::ForwardingOf(family, of), OFF));
        let redirects = (family == Family::V4).then_some((Setting::AcceptRedirects, REDIRECTS_OF_HOSTS));
        let others = forwarding.chain(redirects).filter_map(|(setting, put_back)| {
            let value = self.path(setting).and_then(fs::read_to_string).ok()?.trim().to_owned();
            (value != put_back).then_some((setting, value))
        });
        others.collect()
    }

    /// Puts back what was before, but for these. Returns why not, for each where that failed.
    pub fn put_back_except(&mut self, kept: &BTreeSet<Setting>) -> Vec<SysctlError> {
        let before = match self.before() {
            Ok(before) => before.clone(),
            Err(error) => return vec![SysctlError::ReadBefore(error)],
        };
        let mut failures = Vec::new();
        let is_kept = |setting: &Setting| kept.contains(&setting.follows().unwrap_or(*setting));
        for (setting, value) in before.iter().filter(|(setting, _)| !is_kept(setting)) {
            self.held.remove(setting);
            match self.put_back(*setting, value) {
                // The interface went, and its settings with it.
                Err(error) if !self.is_gone(*setting, &error) => {
                    failures.push(SysctlError::PutBack { name: self.name(*setting), value: value.clone(), error });
                }
                _ => {
                    self.before.iter_mut().for_each(|before| _ = before.remove(setting));
                    if let Err(error) = self.save() {
                        failures.push(SysctlError::WriteBefore(error));
                    }
                }
            }
        }
        failures
    }

    /// Puts every `route_localnet` back: its guard may be gone.
    pub fn put_back_route_localnet(&mut self) -> Vec<SysctlError> {
        let others = self.set_by_us().map(|(setting, _)| *setting);
        let others = others.filter(|setting| !matches!(setting, Setting::RouteLocalnet(_))).collect();
        self.put_back_except(&others)
    }

    /// True when an interface has `route_localnet` from us, or may: without the guard its neighbours would reach services
    /// on 127.0.0.1.
    pub fn exposes_loopback(&self) -> bool {
        let ours = |setting: &Setting| matches!(setting, Setting::RouteLocalnet(_)) && self.is_on(*setting);
        self.before.as_ref().is_none_or(|before| before.keys().any(ours))
    }

    /// What is set by us, as `NAME=1 (was 0)`.
    pub fn told(&self) -> Vec<String> {
        let set = self.set_by_us().filter(|(setting, _)| self.is_on(**setting));
        set.map(|(setting, value)| format!("{}={ON} (was {value})", self.name(*setting))).collect()
    }

    fn set_by_us(&self) -> impl Iterator<Item = (&Setting, &String)> {
        self.before.iter().flatten().filter(|(setting, _)| setting.follows().is_none())
    }

    /// What differs from these being set and no others; nothing is written.
    pub fn differences(&mut self, wanted: &BTreeSet<Setting>) -> Vec<String> {
        let missing = wanted.iter().filter(|setting| !self.is_on(**setting));
        let mut found: Vec<String> = missing.map(|setting| self.missing(*setting)).collect();
        // Who may not read the file may not see the rules either.
        _ = self.before();
        let left = self.set_by_us().filter(|(setting, _)| !wanted.contains(*setting) && self.is_on(**setting));
        found.extend(left.map(|(setting, value)| {
            format!("{} is {ON} and not needed any more: it was {value}", self.name(*setting))
        }));
        found
    }

    /// That it is not on, and why it should be.
    pub fn missing(&self, setting: Setting) -> String {
        format!("{} is not {ON}, and {}", self.name(setting), setting.purpose())
    }

    fn is_on(&self, setting: Setting) -> bool {
        self.path(setting).and_then(fs::read_to_string).is_ok_and(|value| value.trim() == ON)
    }

    fn put_back(&self, setting: Setting, value: &str) -> io::Result<()> {
        let path = self.path(setting)?;
        // Where it could not be set, it can't be written now either.
        if fs::read_to_string(&path)?.trim() == value { Ok(()) } else { fs::write(path, value) }
    }

    /// True when there is no such interface any more. While one gets another name, its settings are under neither.
    fn is_gone(&self, setting: Setting, error: &io::Error) -> bool {
        let of_nothing = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV));
        match setting {
            Setting::RouteLocalnet(index) | Setting::ForwardingOf(_, Some(index))
                if error.kind() == ErrorKind::NotFound =>
            {
                self.interfaces.name(index).is_err_and(|error| of_nothing(&error))
            }
            _ => of_nothing(error) || error.kind() == ErrorKind::NotFound,
        }
    }

    fn path(&self, setting: Setting) -> io::Result<PathBuf> {
        Ok(match setting {
            Setting::Forwarding(Family::V4) => self.root.join("ipv4/ip_forward"),
            Setting::Forwarding(Family::V6) => self.root.join("ipv6/conf/all/forwarding"),
            Setting::RouteLocalnet(index) => {
                self.conf(Family::V4).join(self.interfaces.name(index)?).join(ROUTE_LOCALNET)
            }
            Setting::ForwardingOf(family, None) => self.conf(family).join("default").join(FORWARDING),
            Setting::ForwardingOf(family, Some(index)) => {
                self.conf(family).join(self.interfaces.name(index)?).join(FORWARDING)
            }
            Setting::AcceptRedirects => self.conf(Family::V4).join("all").join(ACCEPT_REDIRECTS),
        })
    }

    fn conf(&self, family: Family) -> PathBuf {
        self.root.join(directory(family)).join("conf")
    }

    /// As sysctl(8) has it.
    pub fn name(&self, setting: Setting) -> String {
        match setting {
            Setting::Forwarding(Family::V4) => "net.ipv4.ip_forward".to_owned(),
            Setting::Forwarding(Family::V6) => "net.ipv6.conf.all.forwarding".to_owned(),
            Setting::RouteLocalnet(index) => route_localnet(&self.interface(index)),
            Setting::ForwardingOf(family, of) => {
                let interface = of.map_or("default".to_owned(), |index| self.interface(index));
                format!("net.{}.conf.{interface}.{FORWARDING}", directory(family))
            }
            Setting::AcceptRedirects => format!("net.ipv4.conf.all.{ACCEPT_REDIRECTS}"),
        }
    }

    fn interface(&self, index: u32) -> String {
        self.interfaces.name(index).unwrap_or_else(|_| format!("(interface {index})"))
    }

    /// Indices of interfaces mean something in one network namespace only.
    fn file(&self) -> io::Result<PathBuf> {
        Ok(self.runtime.join(format!("sysctls.{}", self.interfaces.namespace()?)))
    }

    fn before(&mut self) -> io::Result<&mut BTreeMap<Setting, String>> {
        if self.before.is_none() {
            let text = match fs::read_to_string(self.file()?) {
                Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
                text => text?,
            };
            self.before = Some(text.lines().filter_map(read).collect());
        }
        Ok(self.before.get_or_insert_default())
    }

    fn save(&mut self) -> io::Result<()> {
        let text: String = self.before()?.iter().map(|(setting, value)| written(*setting, value)).collect();
        let file = self.file()?;
        if text.is_empty() {
            return match fs::remove_file(&file) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        replace(&file, text.as_bytes(), |_| Ok(())).map_err(|failed| failed.error)
    }
}

/// As sysctl(8) has it.
fn route_localnet(interface: &str) -> String {
    format!("net.ipv4.conf.{interface}.{ROUTE_LOCALNET}")
}

/// Why a sysctl is not what it should be.
#[derive(Debug)]
pub enum SysctlError {
    /// It can't be set, and what it is needed for.
    Set { name: String, purpose: &'static str, error: io::Error },
    /// It can't be put back to what it was.
    PutBack { name: String, value: String, error: io::Error },
    /// The file that says what was before can't be read.
    ReadBefore(io::Error),
    /// It can't be written.
    WriteBefore(io::Error),
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SysctlError::Set { name, purpose, error } => {
                write!(f, "{name} can't be set to {ON}, and {purpose}: {error}")
            }
            SysctlError::PutBack { name, value, error } => write!(f, "{name} can't be put back to {value}: {error}"),
            SysctlError::ReadBefore(error) => {
                write!(f, "what sysctls were before can't be read in the runtime directory: {error}")
            }
            SysctlError::WriteBefore(error) => write!(f, "what sysctls were before can't be written: {error}"),
        }
    }
}

impl Error for SysctlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            SysctlError::Set { error, .. }
            | SysctlError::PutBack { error, .. }
            | SysctlError::ReadBefore(error)
            | SysctlError::WriteBefore(error) => Some(error),
        }
    }
}

fn written(setting: Setting, value: &str) -> String {
    match setting {
        Setting::Forwarding(family) => format!("forwarding {family} {value}\n"),
        Setting::RouteLocalnet(index) => format!("{ROUTE_LOCALNET} {index} {value}\n"),
        Setting::ForwardingOf(family, of) => {
            let of = of.map_or(TO_COME.to_owned(), |index| index.to_string());
            format!("{} {of} {value}\n", directory(family))
        }
        Setting::AcceptRedirects => format!("{ACCEPT_REDIRECTS} all {value}\n"),
    }
}

/// Where the settings of a family are.
fn directory(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

fn read(line: &str) -> Option<(Setting, String)> {
    let (what, rest) = line.split_once(' ')?;
    let (of, value) = rest.split_once(' ')?;
    let setting = match what {
        "forwarding" => Setting::Forwarding(Family::ALL.into_iter().find(|family| family.to_string() == of)?),
        ROUTE_LOCALNET => Setting::RouteLocalnet(of.parse().ok()?),
        ACCEPT_REDIRECTS => Setting::AcceptRedirects,
        "ipv4" | "ipv6" => {
            let family = Family::ALL.into_iter().find(|family| directory(*family) == what)?;
            Setting::ForwardingOf(family, if of == TO_COME { None } else { Some(of.parse().ok()?) })
        }
        _ => return None,
    };
    Some((setting, value.to_owned()))
}

/// Reads a text as such a file, for `tests/fuzz`: what would be written again.
#[cfg(fuzzing)]
pub fn read_any(text: &str) -> String {
    let before: BTreeMap<Setting, String> = text.lines().filter_map(read).collect();
    before.iter().map(|(setting, value)| written(*setting, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interfaces of a directory: the index of each is in a file.
    #[derive(Debug)]
    struct Directory(PathBuf, u64);

    impl Interfaces for Directory {
        fn index(&self, name: &str) -> io::Result<u32> {
            let text = fs::read_to_string(self.0.join(name).join("index"))?;
            text.parse().map_err(|_| io::Error::from(ErrorKind::InvalidData))
        }

        fn name(&self, index: u32) -> io::Result<String> {
            let names = fs::read_dir(&self.0)?.flatten().map(|entry| entry.file_name().into_string().unwrap());
            names
                .into_iter()
                .find(|name| self.index(name).is_ok_and(|of| of == index))
                .ok_or_else(|| io::Error::from_raw_os_error(libc::ENXIO))
        }

        fn namespace(&self) -> io::Result<u64> {
            Ok(self.1)
        }
    }

    /// A host that forwards nothing, with interfaces, all of them off.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new(interfaces: &[&str]) -> Self {
            let host = Host(tempfile::tempdir().unwrap());
            for (index, interface) in (1..).zip(interfaces) {
                fs::create_dir_all(host.conf().join(interface)).unwrap();
                fs::write(host.conf().join(interface).join("index"), index.to_string()).unwrap();
                host.write(&format!("ipv4/conf/{interface}/route_localnet"), "0");
            }
            fs::create_dir_all(host.0.path().join("ipv6/conf/all")).unwrap();
            host.write("ipv4/ip_forward", "0");
            host.write("ipv6/conf/all/forwarding", "0");
            host
        }

        fn conf(&self) -> PathBuf {
            self.0.path().join("ipv4/conf")
        }

        fn write(&self, path: &str, value: &str) {
            fs::write(self.0.path().join(path), format!("{value}\n")).unwrap();
        }

        fn value(&self, path: &str) -> String {
            fs::read_to_string(self.0.path().join(path)).unwrap().trim().to_owned()
        }

        fn localnet(&self, interface: &str) -> String {
            self.value(&format!("ipv4/conf/{interface}/route_localnet"))
        }

        fn sysctls_in(&self, namespace: u64) -> Sysctls {
            let root = self.0.path().to_owned();
            Sysctls::new(root.clone(), root, Box::new(Directory(self.conf(), namespace)))
        }

        fn sysctls(&self) -> Sysctls {
            self.sysctls_in(7)
        }

        fn notes(&self) -> usize {
            let names = fs::read_dir(self.0.path()).unwrap().flatten().map(|entry| entry.file_name());
            names.filter(|name| name.to_string_lossy().starts_with("sysctls")).count()
        }
    }

    /// `route_localnet` of interfaces.
    fn of(sysctls: &Sysctls, interfaces: &[&str]) -> BTreeSet<Setting> {
        interfaces.iter().map(|name| sysctls.route_localnet(name).unwrap()).collect()
    }

    fn said(failures: Vec<SysctlError>) -> Vec<String> {
        failures.iter().map(ToString::to_string).collect()
    }

    const NONE: BTreeSet<Setting> = BTreeSet::new();

    #[test]
    fn the_old_value_is_back_when_the_interface_is_another_one() {
        let host = Host::new(&["lan0", "lan1.10"]);
        let mut sysctls = host.sysctls();
        let (lan0, lan1) = (of(&sysctls, &["lan0"]), of(&sysctls, &["lan1.10"]));
        assert_eq!(said(sysctls.set(Family::V4, &lan0)), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.localnet("lan1.10")), ("1".to_owned(), "0".to_owned()));
        assert_eq!(sysctls.told(), ["net.ipv4.conf.lan0.route_localnet=1 (was 0)"]);
        assert_eq!(said(sysctls.put_back_except(&lan1)), [""; 0]);
        assert_eq!(said(sysctls.set(Family::V4, &lan1)), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.localnet("lan1.10")), ("0".to_owned(), "1".to_owned()));
        assert_eq!(said(sysctls.put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan1.10"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn an_interface_that_got_another_name_gets_its_old_value_back() {
        let host = Host::new(&["lan0", "lan1"]);
        let mut sysctls = host.sysctls();
        sysctls.set(Family::V4, &of(&sysctls, &["lan0"]));
        fs::rename(host.conf().join("lan0"), host.conf().join("lan9")).unwrap();
        assert!(sysctls.exposes_loopback() && sysctls.is_in_place());
        assert_eq!(said(host.sysctls().put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan9"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn while_an_interface_gets_another_name_its_old_value_is_kept() {
        let host = Host::new(&["lan0"]);
        let mut sysctls = host.sysctls();
        sysctls.set(Family::V4, &of(&sysctls, &["lan0"]));
        let [settings, elsewhere] = ["route_localnet", "elsewhere"].map(|name| host.conf().join("lan0").join(name));
        fs::rename(&settings, &elsewhere).unwrap();
        assert_eq!(sysctls.put_back_except(&NONE).len(), 1);
        fs::rename(&elsewhere, &settings).unwrap();
        assert_eq!(said(sysctls.put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn what_was_set_in_another_network_namespace_is_left_to_whoever_runs_there() {
        let host = Host::new(&["lan0"]);
        let mut sysctls = host.sysctls();
        sysctls.set(Family::V4, &of(&sysctls, &["lan0"]));
        assert_eq!(said(host.sysctls_in(8).put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.notes()), ("1".to_owned(), 1));
        assert_eq!(said(host.sysctls_in(7).put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn whoever_comes_after_a_crash_puts_the_old_values_back() {
        let host = Host::new(&["lan0"]);
        let mut sysctls = host.sysctls();
        let mut all = of(&sysctls, &["lan0"]);
        all.extend(Family::ALL.map(Setting::Forwarding));
        for family in Family::ALL {
            assert_eq!(said(sysctls.set(family, &all)), [""; 0]);
        }
        assert_eq!((host.value("ipv4/ip_forward"), host.value("ipv6/conf/all/forwarding")), ("1".into(), "1".into()));
        let mut next = host.sysctls();
        assert_eq!((said(next.set(Family::V4, &all)), next.differences(&all)), (vec![], vec![]));
        let left = ["net.ipv6.conf.all.forwarding is 1 and not needed any more: it was 0"];
        let ipv4 = all.iter().copied().filter(|setting| setting.family() == Family::V4).collect();
        assert_eq!(next.differences(&ipv4), left);
        assert_eq!(said(next.put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.value("ipv4/ip_forward"), host.value("ipv6/conf/all/forwarding")), ("0".into(), "0".into()));
        assert_eq!((host.localnet("lan0"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn what_the_kernel_sets_with_forwarding_is_put_back_too() {
        let host = Host::new(&["lan0", "wan0"]);
        let beside = [
            ("ipv4/conf/all/accept_redirects", "0", "1"),
            ("ipv4/conf/default/forwarding", "0", "0"),
            ("ipv4/conf/lan0/forwarding", "1", "0"),
            ("ipv4/conf/wan0/forwarding", "0", "0"),
            ("ipv6/conf/default/forwarding", "1", "0"),
            ("ipv6/conf/lan0/forwarding", "1", "0"),
        ];
        for (path, before, _) in beside {
            fs::create_dir_all(host.0.path().join(path).parent().unwrap()).unwrap();
            host.write(path, before);
        }
        let mut sysctls = host.sysctls();
        let all: BTreeSet<Setting> = Family::ALL.map(Setting::Forwarding).into();
        for family in Family::ALL {
            assert_eq!(said(sysctls.set(family, &all)), [""; 0]);
        }
        // As the kernel does when forwarding goes off.
        beside.iter().for_each(|(path, _, off)| host.write(path, off));
        let told = ["net.ipv4.ip_forward=1 (was 0)", "net.ipv6.conf.all.forwarding=1 (was 0)"];
        assert_eq!((sysctls.told(), sysctls.differences(&all)), (told.map(str::to_owned).to_vec(), vec![]));
        fs::remove_dir_all(host.conf().join("wan0")).unwrap();
        let mut next = host.sysctls();
        assert_eq!(said(next.put_back_except(&[Setting::Forwarding(Family::V4)].into())), [""; 0]);
        let values = || beside.map(|(path, ..)| fs::read_to_string(host.0.path().join(path)).unwrap_or_default());
        let words = |values: [String; 6]| values.map(|value| value.trim().to_owned()).join(" ");
        assert_eq!(words(values()), "1 0 0  1 1", "IPv4 stays on");
        assert_eq!(said(next.put_back_except(&NONE)), [""; 0]);
        assert_eq!((words(values()), host.notes()), ("0 0 1  1 1".to_owned(), 0));
    }

    #[test]
    fn without_its_guard_route_localnet_goes_back_and_forwarding_stays() {
        let host = Host::new(&["lan0"]);
        let mut sysctls = host.sysctls();
        let mut all = of(&sysctls, &["lan0"]);
        all.insert(Setting::Forwarding(Family::V4));
        sysctls.set(Family::V4, &all);
        assert_eq!(said(sysctls.put_back_route_localnet()), [""; 0]);
        assert_eq!((host.localnet("lan0"), host.value("ipv4/ip_forward")), ("0".to_owned(), "1".to_owned()));
        assert!(!sysctls.exposes_loopback() && !sysctls.is_in_place());
        let said = "net.ipv4.conf.lan0.route_localnet is not 1, and localhost of portForwards needs it";
        assert_eq!(sysctls.differences(&all), [said]);
    }

    #[test]
    fn what_somebody_switches_off_is_known_and_what_is_put_back_or_gone_is_not_that() {
        let host = Host::new(&["lan0"]);
        let mut sysctls = host.sysctls();
        let lan0 = of(&sysctls, &["lan0"]);
        assert_eq!(sysctls.switched_off(), []);
        sysctls.set(Family::V4, &lan0);
        host.write("ipv4/conf/lan0/route_localnet", "0");
        assert_eq!(sysctls.switched_off(), lan0.iter().copied().collect::<Vec<_>>());
        sysctls.set(Family::V4, &lan0);
        assert_eq!(sysctls.switched_off(), []);
        sysctls.put_back_route_localnet();
        assert_eq!((sysctls.switched_off(), host.localnet("lan0")), (vec![], "0".to_owned()));
        sysctls.set(Family::V4, &lan0);
        fs::remove_dir_all(host.conf().join("lan0")).unwrap();
        assert_eq!(sysctls.switched_off(), []);
    }

    #[test]
    fn what_somebody_else_set_stays_as_it_was() {
        let host = Host::new(&["lan0"]);
        host.write("ipv4/conf/lan0/route_localnet", "1");
        let mut sysctls = host.sysctls();
        sysctls.set(Family::V4, &of(&sysctls, &["lan0"]));
        sysctls.put_back_except(&NONE);
        assert_eq!(host.localnet("lan0"), "1");
    }

    #[test]
    fn an_interface_that_went_is_forgotten_and_a_file_that_went_is_written_again() {
        let host = Host::new(&["lan0", "lan1"]);
        let mut sysctls = host.sysctls();
        let both = of(&sysctls, &["lan0", "lan1"]);
        sysctls.set(Family::V4, &both);
        fs::remove_file(host.0.path().join("sysctls.7")).unwrap();
        sysctls.set(Family::V4, &both);
        fs::remove_dir_all(host.conf().join("lan0")).unwrap();
        assert_eq!(said(host.sysctls().put_back_except(&NONE)), [""; 0]);
        assert_eq!((host.localnet("lan1"), host.notes()), ("0".to_owned(), 0));
    }

    #[test]
    fn nothing_is_set_for_everybody_or_without_a_note_of_what_it_was() {
        let host = Host::new(&["all", "default", "lan0"]);
        let mut sysctls = host.sysctls();
        for name in ["all", "default", "away"] {
            let error = sysctls.route_localnet(name).unwrap_err();
            let why = error.source().unwrap();
            let said = format!(
                "net.ipv4.conf.{name}.route_localnet can't be set to 1, and localhost of portForwards needs it: {why}"
            );
            assert_eq!(error.to_string(), said);
        }
        let lan0 = of(&sysctls, &["lan0"]);
        sysctls.runtime = host.0.path().join("away");
        let said = said(sysctls.set(Family::V4, &lan0));
        assert!(said[0].starts_with("net.ipv4.conf.lan0.route_localnet can't be set to 1"), "{said:?}");
        for interface in ["all", "default", "lan0"] {
            assert_eq!(host.localnet(interface), "0", "{interface}");
        }
    }
}
