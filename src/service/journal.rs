//! The journal, in its native protocol and never blocking; standard error where there is none.
//!
//! The protocol: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use crate::agent::{Entry, Kind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{self, IoSlice, IsTerminal, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Less than PIPE_BUF.
const LONGEST_LINE: usize = 4000;
const SOCKET: &str = "/run/systemd/journal/socket";

/// Where entries go.
#[derive(Debug)]
pub struct Journal {
    sink: Sink,
    /// Entries that nobody took.
    dropped: u64,
}

#[derive(Debug)]
enum Sink {
    Native(UnixDatagram),
    /// With `<N>` before each line, as sd-daemon(3) says.
    Prefixed,
    Terminal,
}

impl Journal {
    /// The journal if our standard error is connected to it, else standard error.
    pub fn open() -> Self {
        let sink = match native() {
            Some(socket) => Sink::Native(socket),
            None if io::stderr().is_terminal() => Sink::Terminal,
            None => Sink::Prefixed,
        };
        Journal { sink, dropped: 0 }
    }

    /// Writes an entry, or counts it as lost where it would have to wait.
    pub fn write(&mut self, entry: &Entry) {
        if self.dropped > 0 {
            let message = format!("{} earlier entries were lost because the journal did not read", self.dropped);
            let lost = Entry::new(Kind::Dropped, message).with("LOST", self.dropped);
            if self.send(&lost).is_err() {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if self.send(entry).is_err() {
            self.dropped += 1;
        }
    }

    fn send(&self, entry: &Entry) -> io::Result<()> {
        match &self.sink {
            Sink::Native(socket) => send_native(socket, &encode(entry)),
            Sink::Prefixed => write_lines(entry, &format!("<{}>", entry.kind.priority() as u8)),
            Sink::Terminal => write_lines(entry, ""),
        }
    }
}

/// Whether our standard error is connected to the journal: JOURNAL_STREAM, systemd.exec(5).
pub fn is_stderr() -> bool {
    let (Ok(stream), Ok(stat)) = (std::env::var("JOURNAL_STREAM"), fstat(io::stderr())) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}

fn native() -> Option<UnixDatagram> {
    if !is_stderr() {
        return None;
    }
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.connect(SOCKET).ok()?;
    Some(socket)
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + entry.message.len());
    field(&mut bytes, "MESSAGE", &entry.message);
    field(&mut bytes, "PRIORITY", &(entry.kind.priority() as u8).to_string());
    field(&mut bytes, "MESSAGE_ID", entry.kind.message_id());
    field(&mut bytes, "SYSLOG_IDENTIFIER", "ip-masq-agent");
    for (name, value) in &entry.fields {
        field(&mut bytes, &format!("IP_MASQ_{name}"), value);
    }
    bytes
}

/// A value with a newline is preceded by its length, 64 bits little endian, and not by `=`.
fn field(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

fn send_native(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    match socket.send(bytes) {
        Ok(_) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::ENOBUFS)) => {
            send_sealed(socket, bytes)
        }
        // journald was restarted: its socket is another one now.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::ENOTCONN)) => {
            socket.connect(SOCKET)?;
            socket.send(bytes).map(|_| ())
        }
        Err(error) => Err(error),
    }
}

/// What is too long for a datagram goes as a sealed memory file.
fn send_sealed(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<()> {
    let file = memfd_create("ip-masq-agent-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(&[])], &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// A pipe that nobody reads would stop us: it is asked first whether it takes PIPE_BUF bytes without waiting (pipe(7)),
/// and no line is longer.
fn write_lines(entry: &Entry, prefix: &str) -> io::Result<()> {
    for line in entry.message.lines() {
        let end = (0..=LONGEST_LINE.min(line.len())).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        let line = format!("{prefix}{}\n", &line[..end]);
        let stderr = io::stderr();
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let ready = poll(&mut fds, Some(&Timespec::default()))?;
        if ready == 0 || !fds[0].revents().contains(PollFlags::OUT) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stderr.lock().write_all(line.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_not_escaped() {
        let entry = Entry::lines(Kind::ConfigRefused, "two\nlines").with("FAMILY", "IPv4");
        let expected = [
            b"MESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\nPRIORITY=3\nMESSAGE_ID=680f1ca559394933a72ec755122c0391\n"
                .as_slice(),
            b"SYSLOG_IDENTIFIER=ip-masq-agent\nIP_MASQ_FAMILY=IPv4\n",
        ];
        assert_eq!(encode(&entry), expected.concat());
    }

    #[test]
    fn a_long_entry_goes_as_a_sealed_file() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let long = vec![b'x'; 4 << 20];
        send_native(&ours, &long).unwrap();
        assert_eq!(theirs.recv(&mut [0; 16]).unwrap(), 0, "the datagram itself is empty");
    }

    #[test]
    fn a_full_socket_loses_entries_and_counts_them() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut journal = Journal { sink: Sink::Native(ours), dropped: 0 };
        let entry = Entry::new(Kind::Applied, "x".repeat(1000));
        let mut written = 0;
        while journal.dropped < 3 {
            journal.write(&entry);
            written += 1;
        }
        let mut buffer = [0; 4096];
        while theirs.recv(&mut buffer).is_ok() {}
        journal.write(&entry);
        let length = theirs.recv(&mut buffer).unwrap();
        assert!(written > 3 && String::from_utf8_lossy(&buffer[..length]).contains("IP_MASQ_LOST=3\n"));
        assert_eq!(journal.dropped, 0);
    }
}
