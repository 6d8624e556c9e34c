//! The programs that the service runs, tampered with: in its own view of the gateway, and in no other.

use crate::lab::Namespace;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Where the service finds programs, and where the real ones are.
const SHADOW: &str = "/run/sbin";
const REAL: &str = "/run/real";

/// What is wrong with a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It never ends.
    Hangs,
    /// It ends and leaves a child behind that holds its output open.
    LeavesChild,
    Fails,
    /// The first time.
    FailsOnce,
    /// So many tenths of a second.
    Slow(u64),
    /// It does nothing and says that all went well.
    SaysNothing,
    /// It prints half of what it would.
    SaysHalf,
    SaysGarbage,
    Vanishes,
}

/// Puts a directory of links before the directory of the real programs.
pub fn prepare(view: &Namespace) {
    let script = format!(
        "mkdir {REAL} {SHADOW} && mount --bind /usr/sbin {REAL} && ln -s {REAL}/* {SHADOW} && mount --bind {SHADOW} /usr/sbin"
    );
    view.must("sh", &["-c", &script]);
}

/// Makes a program behave like that.
pub fn tamper(view: &Namespace, program: &str, fault: Fault) {
    let real = format!("{REAL}/{program}");
    let once = format!("{SHADOW}/.{program}.failed");
    let script = match fault {
        Fault::Hangs => "exec sleep 100".to_owned(),
        Fault::LeavesChild => format!("sleep 20 &\nexec {real} \"$@\""),
        Fault::Fails => "echo 'Bad day' >&2; exit 1".to_owned(),
        Fault::FailsOnce => format!("[ -e {once} ] && exec {real} \"$@\"\n: >{once}; exit 1"),
        Fault::Slow(tenths) => format!("sleep {}.{}; exec {real} \"$@\"", tenths / 10, tenths % 10),
        Fault::SaysNothing => "cat >/dev/null; exit 0".to_owned(),
        Fault::SaysHalf => format!("{real} \"$@\" >{once}; head -c $(($(stat -c %s {once}) / 2)) {once}"),
        Fault::SaysGarbage => "cat >/dev/null; head -c 3000 /dev/urandom".to_owned(),
        Fault::Vanishes => return view.enter(|| fs::remove_file(format!("{SHADOW}/{program}"))).expect("a link"),
    };
    let put = || {
        let new = format!("{SHADOW}/.new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, format!("{SHADOW}/{program}"))
    };
    view.enter(put).expect("a script in the place of a program");
}

/// Puts the real program back.
pub fn mend(view: &Namespace, program: &str) {
    let put = || {
        let new = format!("{SHADOW}/.new");
        symlink(format!("{REAL}/{program}"), &new)?;
        let _ = fs::remove_file(format!("{SHADOW}/.{program}.failed"));
        fs::rename(&new, format!("{SHADOW}/{program}"))
    };
    view.enter(put).expect("a link in the place of a script");
}
