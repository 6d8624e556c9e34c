//! A batch: messages that nf_tables commits together or not at all.

use super::message::{FAMILY_HEADER, HEADER, Malformed, Message, MessageHead, Messages, Writer};
use super::{is_loss, lost, nft, read_error};
use std::fmt;
use std::io;

/// `enum nfnl_batch_attributes` of linux/netfilter/nfnetlink.h.
const BATCH_GENID: u16 = libc::NFNL_BATCH_GENID as u16;

/// Messages to be committed together.
#[derive(Debug, Clone)]
pub struct Batch {
    writer: Writer,
    starts: Vec<usize>,
    is_dry: bool,
}

impl Batch {
    /// An empty batch. The kernel refuses it with ERESTART when the rule set is no longer of this generation.
    pub fn new(generation: u32) -> Self {
        let mut batch = Batch { writer: Writer::new(), starts: Vec::new(), is_dry: false };
        batch.message(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u16, |writer| {
            writer.be32(BATCH_GENID, generation);
        });
        batch
    }

    /// The same batch for another generation of the rule set.
    pub fn at(mut self, generation: u32) -> Self {
        // BATCH_GENID is the one attribute of the first message.
        const VALUE: usize = HEADER + FAMILY_HEADER + 4;
        self.writer.overwrite(VALUE, &generation.to_be_bytes());
        self
    }

    /// The same batch without its end: the kernel checks it and commits nothing.
    pub fn dry(mut self) -> Self {
        self.is_dry = true;
        self
    }

    /// Adds a message NFT_MSG_* with its flags (NLM_F_REQUEST need not be given); returns its number in the batch.
    pub fn push(&mut self, message: i32, flags: i32, family: u8, body: impl FnOnce(&mut Writer)) -> usize {
        self.message(nft(message), flags as u16, family, 0, body)
    }

    fn message(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: impl FnOnce(&mut Writer)) -> usize {
        let flags = flags | libc::NLM_F_REQUEST as u16;
        let head = MessageHead { kind, flags, sequence: 0, family, resource };
        self.starts.push(self.writer.message(head, body));
        self.starts.len() - 1
    }

    /// The datagram, its messages numbered from `first` on, and how many they are. The last message before the end
    /// asks for an acknowledgement: without it success would look like a reply that was lost.
    pub(super) fn finish(mut self, first: u32) -> (Vec<u8>, u32) {
        let last = self.starts.last().copied();
        if !self.is_dry {
            self.message(libc::NFNL_MSG_BATCH_END as u16, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u16, |_| {});
        }
        let mut bytes = self.writer.into_bytes();
        for (sequence, start) in (first..).zip(&self.starts) {
            bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
        if let Some(start) = last {
            let flags = u16::from_ne_bytes([bytes[start + 6], bytes[start + 7]]) | libc::NLM_F_ACK as u16;
            bytes[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
        (bytes, self.starts.len() as u32)
    }
}

/// Why a batch was not committed.
#[derive(Debug)]
pub struct BatchRefusal {
    /// The number of the refused message, as [`Batch::push`] gave it; `None` when the batch as a whole was refused.
    pub message: Option<usize>,
    pub error: io::Error,
    /// The size of a batch that was too large to send.
    pub bytes: Option<usize>,
}

impl BatchRefusal {
    /// True when the kernel's answer was lost or makes no sense: the batch may have been committed all the same.
    pub fn is_silence(&self) -> bool {
        self.message.is_none() && is_loss(&self.error)
    }
}

impl fmt::Display for BatchRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            Some(bytes) => write!(f, "a batch of {bytes} bytes is more than net.core.wmem_max allows: {}", self.error),
            None => self.error.fmt(f),
        }
    }
}

impl std::error::Error for BatchRefusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// The answers to a batch, as they come in.
pub(super) struct BatchAnswer {
    first: u32,
    count: u32,
    acknowledged: bool,
    refusal: Option<BatchRefusal>,
    lost: Option<io::Error>,
}

impl BatchAnswer {
    pub(super) fn new(first: u32, count: u32) -> Self {
        BatchAnswer { first, count, acknowledged: false, refusal: None, lost: None }
    }

    pub(super) fn read(&mut self, datagram: &[u8]) {
        for message in Messages(datagram) {
            let result = match message {
                Ok(message) if message.sequence.wrapping_sub(self.first) < self.count => self.take(&message),
                Ok(_) => Ok(()),
                Err(malformed) => Err(malformed),
            };
            if let Err(malformed) = result {
                self.fail(malformed.into());
            }
        }
    }

    fn take(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        if i32::from(message.kind) != libc::NLMSG_ERROR {
            return Ok(());
        }
        match read_error(message)? {
            None => self.acknowledged = true,
            Some(error) => {
                // The first message is the frame of the batch, not one of its own.
                let number = message.sequence.wrapping_sub(self.first) as usize;
                let refusal = BatchRefusal { message: (number > 0).then_some(number), error, bytes: None };
                // Those behind the first one follow from it.
                self.refusal.get_or_insert(refusal);
            }
        }
        Ok(())
    }

    /// An answer is lost: perhaps a refusal, so that the acknowledgement of the last message proves nothing.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.lost.get_or_insert(error);
    }

    pub(super) fn end(self) -> Result<(), BatchRefusal> {
        let silence = |error| BatchRefusal { message: None, error, bytes: None };
        match (self.refusal, self.lost) {
            (Some(refusal), _) => Err(refusal),
            (None, Some(error)) => Err(silence(error)),
            (None, None) if self.acknowledged => Ok(()),
            (None, None) => Err(silence(lost("to a batch"))),
        }
    }
}
