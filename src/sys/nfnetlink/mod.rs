//! nfnetlink as far as we need it: requests to nf_tables, the generation of the rule set, and who moved it.

mod batch;
pub mod digest;
mod events;
pub mod ipset;
pub mod message;
pub mod socket;

pub use batch::{Batch, BatchRefusal};
pub use events::{RuleEvent, RuleEvents};

use crate::policy::Family;
use batch::BatchAnswer;
use message::{Malformed, Message, MessageHead, Messages, Writer};
use socket::Socket;
use std::cell::Cell;
use std::io;

/// `nlmsg_type` of an nf_tables message.
const fn nft(message: i32) -> u16 {
    ((libc::NFNL_SUBSYS_NFTABLES << 8) | message) as u16
}

const NEWGEN: u16 = nft(libc::NFT_MSG_NEWGEN);

/// `enum nft_gen_attributes` of linux/netfilter/nf_tables.h.
const GEN_ID: u16 = 1;
const GEN_PROC_PID: u16 = 2;
const GEN_PROC_NAME: u16 = 3;

/// NFPROTO_IPV4 or NFPROTO_IPV6 (linux/netfilter.h).
pub fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => libc::NFPROTO_IPV4 as u8,
        Family::V6 => libc::NFPROTO_IPV6 as u8,
    }
}

/// A request socket. The kernel answers within the call, so nothing here ever waits.
#[derive(Debug)]
pub struct Nfnetlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// What is asked, without the header fields that are the socket's business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// NFT_MSG_*, without the subsystem.
    pub message: i32,
    /// NFPROTO_*.
    pub family: u8,
}

/// Whether a dump saw one state of the rule set from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// It did.
    Whole,
    /// Somebody committed meanwhile (NLM_F_DUMP_INTR); ask again.
    Interrupted,
}

impl Nfnetlink {
    /// The largest datagram that the kernel makes for a dump is 32 KiB (af_netlink.c, netlink_dump).
    const BUFFER: usize = 65536;

    /// Opens the socket.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> io::Result<Self> {
        Ok(Nfnetlink { socket: socket()?, sequence: 0, buffer: vec![0; Self::BUFFER] })
    }

    /// The generation of the nf_tables rule set of this network namespace: it moves once per commit.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN, EINVAL when the kernel has no nf_tables, [`io::ErrorKind::InvalidData`] for an
    /// answer that makes no sense, [`io::ErrorKind::UnexpectedEof`] for none.
    pub fn generation(&mut self) -> io::Result<u32> {
        let mut generation = None;
        let request = Request { message: libc::NFT_MSG_GETGEN, family: 0 };
        self.get(
            request,
            |_| {},
            |message| {
                generation = match message.attributes()?.find(GEN_ID)? {
                    Some(attribute) if message.kind == NEWGEN => Some(attribute.be32()?),
                    _ => None,
                };
                Ok(())
            },
        )?;
        generation.ok_or_else(|| lost("to a request for the generation"))
    }

    /// Asks for named objects; `each` sees every answer. None at all is no error: Linux 6.18 says nothing of some
    /// elements that are not in their set.
    ///
    /// # Errors
    /// What the kernel says, ENOENT when there is no such object.
    pub fn get(
        &mut self,
        request: Request,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<()> {
        self.ask(request, 0, body, each).map(drop)
    }

    /// Asks for all objects of a kind that `body` narrows down; `each` sees every one.
    ///
    /// # Errors
    /// What the kernel says, [`io::ErrorKind::UnexpectedEof`] when the end of the answer is missing,
    /// [`io::ErrorKind::InvalidData`] when the answer makes no sense.
    pub fn dump(
        &mut self,
        request: Request,
        body: impl FnOnce(&mut Writer),
        each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<Consistency> {
        self.ask(request, libc::NLM_F_DUMP as u16, body, each)
    }

    /// As [`Self::dump`], until `each` has seen enough; `None` then.
    ///
    /// # Errors
    /// As [`Self::dump`], and when there can't be another socket.
    pub fn dump_until(
        &mut self,
        request: Request,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<bool, Malformed>,
    ) -> io::Result<Option<Consistency>> {
        let mut answer = self.send(request, libc::NLM_F_DUMP as u16, body)?;
        let goes_on = Cell::new(true);
        let mut each = |message: &Message<'_>| {
            goes_on.set(goes_on.get() && each(message)?);
            Ok(())
        };
        while answer.receive_next(&self.socket, &mut self.buffer, &mut each)? {
            if !goes_on.get() {
                // The kernel goes on with a dump for as long as its socket lives.
                self.socket = socket()?;
                return Ok(None);
            }
        }
        answer.end().map(Some)
    }

    fn ask(
        &mut self,
        request: Request,
        flags: u16,
        body: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<Consistency> {
        let answer = self.send(request, flags, body)?;
        answer.receive(&self.socket, &mut self.buffer, &mut each)
    }

    /// Sends a request; what will be its answer.
    fn send(&mut self, request: Request, flags: u16, body: impl FnOnce(&mut Writer)) -> io::Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut writer = Writer::new();
        let head = MessageHead {
            kind: nft(request.message),
            flags: flags | libc::NLM_F_REQUEST as u16,
            sequence: self.sequence,
            family: request.family,
            resource: 0,
        };
        writer.message(head, body);
        self.socket.send(writer.bytes())?;
        Ok(Answer { sequence: self.sequence, has_end: flags != 0, ..Answer::default() })
    }

    /// Sends a batch, which the kernel takes whole or not at all.
    ///
    /// # Errors
    /// Which message of the batch was refused and why, or that it could not be sent at all.
    pub fn commit(&mut self, batch: Batch) -> Result<(), BatchRefusal> {
        let (bytes, count) = batch.finish(self.sequence.wrapping_add(1));
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(count);
        self.socket.set_send_buffer(bytes.len() + 4096).and_then(|()| self.socket.send(&bytes)).map_err(|error| {
            let too_long = error.raw_os_error() == Some(libc::EMSGSIZE);
            BatchRefusal { message: None, error, bytes: too_long.then_some(bytes.len()) }
        })?;
        let mut verdict = BatchAnswer::new(first, count);
        loop {
            match self.socket.receive(&mut self.buffer) {
                Ok(Some(datagram)) => verdict.read(datagram),
                Ok(None) => return verdict.end(),
                Err(error) => {
                    let ends = !is_loss(&error);
                    verdict.fail(error);
                    if ends {
                        return verdict.end();
                    }
                }
            }
        }
    }
}

/// A socket whose refusals quote the header of the refused message and not all of it (netlink(7), Linux 4.3).
pub(super) fn socket() -> io::Result<Socket> {
    let socket = Socket::open(libc::NETLINK_NETFILTER)?;
    socket.set(libc::NETLINK_CAP_ACK, 1)?;
    Ok(socket)
}

/// What is at its place, or is opened there now. Whoever closes a socket of nfnetlink waits until the kernel has let go of
/// all that the last commit took out (Linux 6.18, `nft_rcv_nl_event`: 5 to 20 ms), so those that are asked again are kept.
///
/// # Errors
/// As `open`.
pub fn kept<T>(place: &mut Option<T>, open: impl FnOnce() -> io::Result<T>) -> io::Result<&mut T> {
    let there = match place.take() {
        Some(there) => there,
        None => open()?,
    };
    Ok(place.insert(there))
}

/// A reply is lost, the socket is whole: the queue overran, or a datagram was longer than the buffer, or never came.
pub(super) fn is_loss(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
        || matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// True when asking the kernel the same again may well bring an answer; one that makes no sense ([`Malformed`]) will
/// make none the next time either.
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EAGAIN | libc::EINTR | libc::ENOBUFS))
        || error.kind() == io::ErrorKind::UnexpectedEof
}

/// An answer that the kernel owes us and that is not there.
pub fn lost(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the kernel's answer {what} is missing"))
}

/// The answers to one request, as they come in.
#[derive(Default)]
pub(super) struct Answer {
    sequence: u32,
    has_end: bool,
    done: bool,
    interrupted: bool,
    error: Option<io::Error>,
}

impl Answer {
    /// The answer to what was asked with this sequence number and has an end: a dump, or an acknowledgement.
    pub(super) fn with_end(sequence: u32) -> Self {
        Answer { sequence, has_end: true, ..Answer::default() }
    }

    /// Reads all of it. The queue is emptied whatever happens: a dump that is left half read blocks the next one (EBUSY).
    pub(super) fn receive(
        mut self,
        socket: &Socket,
        buffer: &mut [u8],
        each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<Consistency> {
        while self.receive_next(socket, buffer, each)? {}
        self.end()
    }

    /// Reads the next datagram; false when there is none.
    pub(super) fn receive_next(
        &mut self,
        socket: &Socket,
        buffer: &mut [u8],
        each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<bool> {
        match socket.receive(buffer) {
            Ok(Some(datagram)) => self.read(datagram, each),
            Ok(None) => return Ok(false),
            Err(error) if is_loss(&error) => self.fail(error),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn read(&mut self, datagram: &[u8], each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>) {
        for message in Messages(datagram) {
            let result = match message {
                Ok(message) if message.sequence == self.sequence => self.take(&message, each),
                Ok(_) => Ok(()),
                Err(malformed) => Err(malformed.into()),
            };
            if let Err(error) = result {
                self.fail(error);
            }
        }
    }

    fn take(
        &mut self,
        message: &Message<'_>,
        each: &mut impl FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> io::Result<()> {
        self.interrupted |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
        match i32::from(message.kind) {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                self.done = true;
                read_error(message)?.map_or(Ok(()), Err)
            }
            _ if self.error.is_some() => Ok(()),
            _ => Ok(each(message)?),
        }
    }

    /// Keeps the first error.
    fn fail(&mut self, error: io::Error) {
        self.error.get_or_insert(error);
    }

    pub(super) fn end(self) -> io::Result<Consistency> {
        match self.error {
            Some(error) => Err(error),
            None if self.has_end && !self.done => Err(lost("or its end")),
            None if self.interrupted => Ok(Consistency::Interrupted),
            None => Ok(Consistency::Whole),
        }
    }
}

/// The errno of an NLMSG_ERROR or NLMSG_DONE message; `None` for an acknowledgement.
pub(super) fn read_error(message: &Message<'_>) -> Result<Option<io::Error>, Malformed> {
    let code = message.payload.first_chunk::<4>().ok_or(Malformed("an error without its number"))?;
    match i32::from_ne_bytes(*code) {
        0 => Ok(None),
        code => Ok(Some(io::Error::from_raw_os_error(code.saturating_neg()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(has_end: bool) -> Answer {
        Answer { sequence: 7, has_end, ..Answer::default() }
    }

    fn reply(kind: i32, sequence: u32, code: i32) -> Vec<u8> {
        let mut writer = Writer::new();
        let head = MessageHead { kind: kind as u16, sequence, ..Default::default() };
        let start = writer.message(head, |_| {});
        let mut bytes = writer.bytes().to_vec();
        bytes[start + message::HEADER..].copy_from_slice(&code.to_ne_bytes());
        bytes
    }

    #[test]
    fn an_error_of_the_kernel_is_the_answer() {
        let mut answer = answer(false);
        answer.read(&reply(libc::NLMSG_ERROR, 7, -libc::ENOENT), &mut |_| Ok(()));
        assert_eq!(answer.end().unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn a_reply_to_another_request_is_passed_over() {
        let mut answer = answer(false);
        answer.read(&reply(libc::NLMSG_ERROR, 6, -libc::ENOENT), &mut |_| Ok(()));
        answer.read(&reply(0xa00, 8, 0), &mut |_| panic!("the answer to another request"));
        assert_eq!(answer.end().unwrap(), Consistency::Whole);
    }

    #[test]
    fn a_lost_reply_is_the_error_whatever_follows() {
        let mut answer = answer(true);
        answer.fail(io::Error::from_raw_os_error(libc::ENOBUFS));
        answer.read(&reply(libc::NLMSG_DONE, 7, 0), &mut |_| Ok(()));
        assert_eq!(answer.end().unwrap_err().raw_os_error(), Some(libc::ENOBUFS));
    }

    #[test]
    fn a_batch_is_committed_only_when_the_kernel_says_so() {
        let refused = |datagrams: &[Vec<u8>]| {
            let mut verdict = BatchAnswer::new(7, 3);
            datagrams.iter().for_each(|datagram| verdict.read(datagram));
            verdict.end().err()
        };
        let acknowledged = reply(libc::NLMSG_ERROR, 9, 0);
        assert!(refused(std::slice::from_ref(&acknowledged)).is_none());
        // Of other batches, before and after; none at all; cut short.
        let others = [reply(libc::NLMSG_ERROR, 6, 0), reply(libc::NLMSG_ERROR, 10, 0)];
        let cut = [acknowledged[..acknowledged.len() - 1].to_vec()];
        for silence in [&others[..], &[], &cut] {
            assert!(refused(silence).unwrap().is_silence());
        }
        let half_way = [reply(libc::NLMSG_ERROR, 8, -libc::EEXIST), reply(libc::NLMSG_ERROR, 9, -libc::ENOENT)];
        let refusal = refused(&half_way).unwrap();
        assert_eq!((refusal.message, refusal.error.raw_os_error()), (Some(1), Some(libc::EEXIST)));
        let mut lost = BatchAnswer::new(7, 3);
        lost.fail(io::Error::from_raw_os_error(libc::ENOBUFS));
        lost.read(&acknowledged);
        let silence = lost.end().unwrap_err();
        assert!(silence.is_silence() && silence.error.raw_os_error() == Some(libc::ENOBUFS));
        // More refusals than the queue holds: the first that was read says more than the overrun.
        let mut overrun = BatchAnswer::new(7, 3);
        overrun.fail(io::Error::from_raw_os_error(libc::ENOBUFS));
        overrun.read(&reply(libc::NLMSG_ERROR, 8, -libc::EPERM));
        assert_eq!(overrun.end().unwrap_err().error.raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn a_dump_that_the_kernel_broke_off_is_no_whole_one() {
        for kind in [libc::NLMSG_DONE, libc::NLMSG_ERROR] {
            let ended = |code| {
                let mut answer = answer(true);
                answer.read(&reply(kind, 7, code), &mut |_| Ok(()));
                answer.end()
            };
            assert_eq!(ended(0).unwrap(), Consistency::Whole);
            assert_eq!(ended(-libc::ENOMEM).unwrap_err().raw_os_error(), Some(libc::ENOMEM));
        }
    }

    #[test]
    fn a_dump_cut_short_is_an_error() {
        let mut answer = answer(true);
        answer.read(&reply(0xa06, 7, 0), &mut |_| Ok(()));
        assert_eq!(answer.end().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn random_replies_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), dump: bool) {
            let mut answer = answer(dump);
            answer.read(&bytes, &mut |message| message.attributes().map(drop));
            let _ = answer.end();
            let mut verdict = BatchAnswer::new(1, 3);
            verdict.read(&bytes);
            let _ = verdict.end();
        }
    }
}
