//! The programs that the service runs, tampered with: in its own view of the gateway, and in no other.

use crate::lab::{Namespace, REAL, SHADOW};

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

/// What a program leaves behind when it was run.
fn once(program: &str) -> String {
    format!("{SHADOW}/.{program}.failed")
}

/// Makes a program behave like that.
pub fn tamper(view: &Namespace, program: &str, fault: Fault) {
    let real = format!("{REAL}/{program}");
    let once = once(program);
    let script = match fault {
        Fault::Hangs => "exec sleep 100".to_owned(),
        Fault::LeavesChild => format!("sleep 20 &\nexec {real} \"$@\""),
        Fault::Fails => "echo 'Bad day' >&2; exit 1".to_owned(),
        Fault::FailsOnce => format!("[ -e {once} ] && exec {real} \"$@\"\n: >{once}; exit 1"),
        Fault::Slow(tenths) => format!("sleep {}.{}; exec {real} \"$@\"", tenths / 10, tenths % 10),
        Fault::SaysNothing => "cat >/dev/null; exit 0".to_owned(),
        Fault::SaysHalf => format!("{real} \"$@\" >{once}; head -c $(($(stat -c %s {once}) / 2)) {once}"),
        Fault::SaysGarbage => "cat >/dev/null; head -c 3000 /dev/urandom".to_owned(),
        Fault::Vanishes => return view.hide(program),
    };
    view.replace(program, &script);
}

/// Puts the real program back.
pub fn mend(view: &Namespace, program: &str) {
    view.give_back(program);
    view.must("rm", &["-f", &once(program)]);
}
