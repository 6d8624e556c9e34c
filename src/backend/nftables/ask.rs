//! A question about our tables, and why it was not answered.

use super::rules::name::TABLE;
use super::wire::batch::INET;
use crate::backend::error::{Error, ErrorKind};
use crate::sys::nfnetlink::message::{Malformed, Message, Writer};
use crate::sys::nfnetlink::{Nfnetlink, Request, is_passing};
use std::io;

/// NFT_MSG_GETFLOWTABLE, Linux 4.16; not in libc.
pub const GETFLOWTABLE: i32 = 23;

/// Why an attempt to read the table ended.
pub enum Failure {
    /// What was asked for went away: look again.
    Moved,
    /// An element that was expected was not there: look again, at everything.
    Unexpected,
    /// The error for the caller.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

/// Asks for all of something. `what` it is stands in errors. Whether somebody committed meanwhile, the generation tells.
pub fn dump(
    netlink: &mut Nfnetlink,
    message: i32,
    what: &str,
    body: impl FnOnce(&mut Writer),
    each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
) -> Result<(), Failure> {
    netlink.dump(Request { message, family: INET }, body, each).map(drop).map_err(|error| not_read(what, error))
}

/// As [`dump`], until `each` has seen enough; says whether it saw all.
pub fn dump_until(
    netlink: &mut Nfnetlink,
    message: i32,
    what: &str,
    body: impl FnOnce(&mut Writer),
    each: impl FnMut(&Message<'_>) -> Result<bool, Malformed>,
) -> Result<bool, Failure> {
    let all = netlink.dump_until(Request { message, family: INET }, body, each);
    all.map(|consistency| consistency.is_some()).map_err(|error| not_read(what, error))
}

fn not_read(what: &str, error: io::Error) -> Failure {
    match error.raw_os_error() {
        // The table or the set went away since its name was read.
        Some(libc::ENOENT) => Failure::Moved,
        _ => failed(&format!("{what} of table inet {TABLE}"), error).into(),
    }
}

/// An error of reading, sorted.
pub fn failed(what: &str, error: io::Error) -> Error {
    let (kind, why) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => (ErrorKind::Permission, ": CAP_NET_ADMIN is missing"),
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => {
            (ErrorKind::Unsupported, ": this kernel has no nf_tables")
        }
        _ if is_passing(&error) => (ErrorKind::Busy, ""),
        _ => (ErrorKind::Other, ""),
    };
    Error::new(kind, format!("reading {what}: {error}{why}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::nfnetlink::lost;

    #[test]
    fn what_the_kernel_says_to_a_question_is_sorted() {
        let cases = [
            (libc::EPERM, ErrorKind::Permission, "CAP_NET_ADMIN is missing"),
            (libc::EINVAL, ErrorKind::Unsupported, "this kernel has no nf_tables"),
            (libc::EOPNOTSUPP, ErrorKind::Unsupported, "this kernel has no nf_tables"),
            (libc::EBUSY, ErrorKind::Busy, "reading the sets"),
            (libc::ENOBUFS, ErrorKind::Busy, "reading the sets"),
            (libc::ENOMEM, ErrorKind::Other, "reading the sets"),
        ];
        for (errno, kind, words) in cases {
            let error = failed("the sets", io::Error::from_raw_os_error(errno));
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }

    /// A start waits for what may come, and ends at once, with the reason, where waiting is in vain.
    #[test]
    fn an_answer_that_is_missing_may_come_and_one_without_sense_will_not() {
        let missing = failed("the sets", lost("to a dump"));
        assert_eq!(missing.message, "reading the sets: the kernel's answer to a dump is missing");
        let malformed = failed("the sets", Malformed("an attribute is cut short").into());
        assert_eq!(malformed.message, "reading the sets: malformed netlink message: an attribute is cut short");
        assert_eq!([missing.is_transient(), malformed.is_transient()], [true, false]);
    }
}
