//! The control socket: `reload` and `status` are asked here and answered with one JSON object.
//!
//! A request is one word and a newline. Nobody but root (or whoever runs the service) is listened to; a client that
//! asks too long or too slowly is dropped, and the loop never waits for one.

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::agent::Client;

/// The name of the socket in the runtime directory.
pub const NAME: &str = "control.sock";
const MOST_CLIENTS: usize = 16;
const LONGEST_REQUEST: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket and who is connected to it.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    clients: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    state: Conversation,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversation {
    Asking,
    Waiting,
    Answered,
}

/// What a client asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration and put it into the kernel.
    Reload,
    /// Say how things are.
    Status,
}

impl Request {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Request::Reload => "reload",
            Request::Status => "status",
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        [Request::Reload, Request::Status].into_iter().find(|request| request.word().as_bytes() == line)
    }
}

impl Control {
    /// Listens in the runtime directory. The lock must be held: what lies there is a dead service's.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub fn listen(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Control { listener, path, clients: BTreeMap::new(), next: 0 })
    }

    /// What to poll for.
    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let clients = self.clients.values().map(|client| {
            // A client that waits is polled for its going away, which poll(2) always reports.
            let flags = match client.state {
                Conversation::Asking => PollFlags::IN,
                Conversation::Waiting => PollFlags::empty(),
                Conversation::Answered => PollFlags::OUT,
            };
            PollFd::from_borrowed_fd(client.stream.as_fd(), flags)
        });
        // The others wait in the kernel until there is room.
        let listener = (self.clients.len() < MOST_CLIENTS).then(|| PollFd::new(&self.listener, PollFlags::IN));
        listener.into_iter().chain(clients)
    }

    /// When the slowest client is to be dropped.
    pub fn deadline(&self) -> Option<Instant> {
        self.clients.values().map(|client| client.deadline).min()
    }

    /// Drops, accepts, reads and writes; returns the requests that are whole by now.
    pub fn serve(&mut self, now: Instant) -> Vec<(Client, Request)> {
        let mut requests = self.converse(now);
        if self.accept(now) {
            requests.extend(self.converse(now));
        }
        requests
    }

    fn converse(&mut self, now: Instant) -> Vec<(Client, Request)> {
        let mut requests = Vec::new();
        self.clients.retain(|id, client| match client.state {
            Conversation::Waiting => client.deadline > now,
            Conversation::Answered => client.write() && client.deadline > now,
            // What was asked in time counts, however late it is read.
            Conversation::Asking => match client.read() {
                Reading::Partial => client.deadline > now,
                Reading::Bad => false,
                Reading::Whole(request) => {
                    client.state = Conversation::Waiting;
                    requests.push((Client(*id), request));
                    true
                }
            },
        });
        requests
    }

    /// Answers a client, if it is still there.
    pub fn answer(&mut self, client: Client, answer: &impl serde::Serialize, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client.0) else { return };
        connection.answer = serde_json::to_vec(answer).unwrap_or_default();
        connection.answer.push(b'\n');
        connection.state = Conversation::Answered;
        connection.deadline = now + PATIENCE;
        if !connection.write() {
            self.clients.remove(&client.0);
        }
    }

    /// True when somebody was.
    fn accept(&mut self, now: Instant) -> bool {
        let before = self.next;
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if !is_trusted(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                request: Vec::new(),
                answer: Vec::new(),
                state: Conversation::Asking,
                deadline: now + PATIENCE,
            };
            self.clients.insert(self.next, connection);
            self.next += 1;
        }
        self.next > before
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next service removes it as well; here it is for the eye of whoever looks.
        let _ = std::fs::remove_file(&self.path);
    }
}

enum Reading {
    Partial,
    Whole(Request),
    Bad,
}

impl Connection {
    fn read(&mut self) -> Reading {
        let mut buffer = [0; LONGEST_REQUEST];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Reading::Bad,
            Ok(count) => self.request.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Reading::Partial;
            }
            Err(_) => return Reading::Bad,
        }
        match self.request.iter().position(|byte| *byte == b'\n') {
            Some(end) => Request::parse(&self.request[..end]).map_or(Reading::Bad, Reading::Whole),
            None if self.request.len() < LONGEST_REQUEST => Reading::Partial,
            None => Reading::Bad,
        }
    }

    /// True while there is more to write.
    fn write(&mut self) -> bool {
        while !self.answer.is_empty() {
            match self.stream.write(&self.answer) {
                Ok(count) => drop(self.answer.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

fn is_trusted(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

/// Asks the running service; `None` when none answers there.
///
/// # Errors
/// When the service is there and the conversation fails.
pub fn ask(directory: &Path, request: Request, patience: Duration) -> io::Result<Option<Vec<u8>>> {
    let mut stream = match UnixStream::connect(directory.join(NAME)) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(io::Error::new(error.kind(), "only root may ask it"));
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{}\n", request.word()).as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| match error.kind() {
        // What read(2) says when SO_RCVTIMEO has passed.
        ErrorKind::WouldBlock => {
            io::Error::new(ErrorKind::TimedOut, format!("it took longer than {} s", patience.as_secs()))
        }
        _ => error,
    })?;
    if answer.is_empty() {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "the service hung up without an answer"));
    }
    Ok(Some(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket, and a way to connect to it.
    fn socket() -> (tempfile::TempDir, Control, impl Fn() -> UnixStream) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        let control = Control::listen(directory.path()).unwrap();
        (directory, control, move || UnixStream::connect(&path).unwrap())
    }

    #[test]
    fn who_comes_when_there_is_no_room_waits_for_it() {
        let (_directory, mut control, connect) = socket();
        let now = Instant::now();
        let silent: Vec<UnixStream> = (0..MOST_CLIENTS).map(|_| connect()).collect();
        assert_eq!(control.serve(now), []);
        let mut late = connect();
        late.write_all(b"status\n").unwrap();
        assert_eq!(control.serve(now), []);
        assert_eq!(control.deadline(), Some(now + PATIENCE), "somebody will go");
        let requests = control.serve(now + PATIENCE);
        let [(client, Request::Status)] = requests[..] else { panic!("{requests:?}") };
        control.answer(client, &"well", now + PATIENCE);
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "\"well\"\n");
        drop(silent);
    }

    #[test]
    fn what_was_asked_while_the_service_was_busy_is_not_forgotten() {
        let (_directory, mut control, connect) = socket();
        let now = Instant::now();
        let mut client = connect();
        assert_eq!(control.serve(now), []);
        client.write_all(b"reload\n").unwrap();
        assert!(matches!(control.serve(now + 2 * PATIENCE)[..], [(_, Request::Reload)]));
        let mut half = connect();
        half.write_all(b"rel").unwrap();
        assert_eq!(control.serve(now), []);
        assert_eq!(control.serve(now + PATIENCE), []);
        assert_eq!(half.read(&mut [0; 8]).unwrap(), 0, "half a word is no question");
    }

    #[test]
    fn a_service_that_says_nothing_is_given_up_in_words() {
        let (directory, _stopped, _connect) = socket();
        let error = ask(directory.path(), Request::Status, Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, "it took longer than 0 s"));
    }
}
