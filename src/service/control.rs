//! The control socket: `reload` and `status` are asked here and answered with one JSON object.
//!
//! A request is one word and a newline. Nobody but root (or whoever runs the service) is listened to; a client that
//! asks too long or too slowly is dropped, and the loop never waits for one. A socket that somebody removes is made
//! again.

use super::lock::Lock;
use crate::agent::{Client, Entry, Kind};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// The name of the socket in the runtime directory.
pub const NAME: &str = "control.sock";
const MOST_CLIENTS: usize = 16;
const LONGEST_REQUEST: usize = 64;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nobody is accepted when there is no descriptor or no memory for it: whoever waits would wake the loop at
/// once, again and again.
const REST: Duration = Duration::from_secs(1);

/// The socket and who is connected to it.
#[derive(Debug)]
pub struct Control {
    lock: Lock,
    place: Place,
    clients: BTreeMap<u64, Connection>,
    next: u64,
    /// Nobody is accepted before.
    rests: Option<Instant>,
    /// Why the socket is not at its path, as it was last said.
    displaced: Option<String>,
    note: Option<Entry>,
}

/// The socket at its path.
#[derive(Debug)]
struct Place {
    listener: UnixListener,
    /// Device and inode of what was bound.
    inode: (u64, u64),
    /// Wakes the loop when something goes from the directory. Without it a later pass notices.
    watch: Option<OwnedFd>,
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
    Status,
}

impl Request {
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
    /// Listens in the runtime directory whose lock this is: what lies there is a dead service's.
    ///
    /// # Errors
    /// When the socket can't be made.
    pub fn listen(lock: Lock) -> io::Result<Self> {
        let place = Place::new(lock.directory())?;
        let clients = BTreeMap::new();
        Ok(Control { lock, place, clients, next: 0, rests: None, displaced: None, note: None })
    }

    pub fn poll_fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        let clients = self.clients.values().filter_map(|client| {
            let flags = match client.state {
                Conversation::Asking => PollFlags::IN,
                // Not polled: that it went away would be reported again and again, and is noticed with the answer.
                Conversation::Waiting => return None,
                Conversation::Answered => PollFlags::OUT,
            };
            Some(PollFd::from_borrowed_fd(client.stream.as_fd(), flags))
        });
        // The others wait in the kernel until there is room.
        let is_open = self.clients.len() < MOST_CLIENTS && self.rests.is_none();
        let listener = is_open.then(|| PollFd::new(&self.place.listener, PollFlags::IN));
        let watch = self.place.watch.iter().map(|watch| PollFd::new(watch, PollFlags::IN));
        listener.into_iter().chain(watch).chain(clients)
    }

    /// When the slowest client is to be dropped, or the next one accepted.
    pub fn deadline(&self) -> Option<Instant> {
        let slow = self.clients.values().filter(|client| client.state != Conversation::Waiting);
        slow.map(|client| client.deadline).chain(self.rests).min()
    }

    /// What the journal should know, once.
    pub fn note(&mut self) -> Option<Entry> {
        self.note.take()
    }

    /// Drops, accepts, reads and writes; returns the requests that are whole by now.
    pub fn serve(&mut self, now: Instant) -> Vec<(Client, Request)> {
        self.stay();
        self.rests.take_if(|until| *until <= now);
        let mut requests = self.converse(now);
        if self.accept(now) {
            requests.extend(self.converse(now));
        }
        requests
    }

    fn converse(&mut self, now: Instant) -> Vec<(Client, Request)> {
        let mut requests = Vec::new();
        let before = self.clients.len();
        self.clients.retain(|id, client| match client.state {
            // However long it takes us: whoever waits for an answer gets one.
            Conversation::Waiting => true,
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
        if self.clients.len() < before {
            // Who has gone has left a descriptor.
            self.rests = None;
        }
        requests
    }

    /// Answers a client, if it is still there.
    pub fn answer(&mut self, client: Client, answer: &impl serde::Serialize, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client.0) else { return };
        connection.answer = serde_json::to_vec(answer).unwrap_or_default();
        connection.answer.push(b'\n');
        connection.state = Conversation::Answered;
        connection.deadline = now + CLIENT_TIMEOUT;
        if !connection.write() {
            self.clients.remove(&client.0);
        }
    }

    /// True when somebody was.
    fn accept(&mut self, now: Instant) -> bool {
        let before = self.next;
        // Those who are hung up on at once must not keep the loop either.
        for _ in 0..MOST_CLIENTS {
            if self.clients.len() == MOST_CLIENTS || self.rests.is_some() {
                break;
            }
            let stream = match self.place.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                // EMFILE, ENFILE, ENOMEM, ENOBUFS.
                Err(_) => {
                    self.rests = Some(now + REST);
                    break;
                }
            };
            if !is_trusted(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                request: Vec::new(),
                answer: Vec::new(),
                state: Conversation::Asking,
                deadline: now + CLIENT_TIMEOUT,
            };
            self.clients.insert(self.next, connection);
            self.next += 1;
        }
        self.next > before
    }

    fn make_again(&mut self, socket_stays: bool) -> Result<(), Box<dyn std::error::Error>> {
        self.lock.stay()?;
        if !socket_stays {
            self.place = Place::new(self.lock.directory())?;
        }
        Ok(())
    }

    /// Makes lock and socket again where somebody removed them, and says so; two calls of stat(2) where nobody did.
    fn stay(&mut self) {
        if let Some(watch) = &self.place.watch {
            while matches!(rustix::io::read(watch, &mut [0; 4096]), Ok(1..)) {}
        }
        let (lock_stays, socket_stays) = (self.lock.is_in_place(), self.place.stays(self.lock.directory()));
        if lock_stays && socket_stays {
            return;
        }
        let lost = format!("the lock or the control socket was removed from '{}'", self.lock.directory().display());
        let made = self.make_again(socket_stays);
        let message = match &made {
            Ok(()) => format!("{lost}; both are there again"),
            Err(why) => format!("{lost}, and can't be created again: {why}"),
        };
        if made.is_ok() || self.displaced.as_ref() != Some(&message) {
            self.note = Some(Entry::new(Kind::Warning, &message));
        }
        self.displaced = made.err().map(|_| message);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next service removes it as well; here it is for the eye of whoever looks. Never another one's.
        if self.place.stays(self.lock.directory()) {
            let _ = fs::remove_file(self.lock.directory().join(NAME));
        }
    }
}

impl Place {
    fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let bound = fs::symlink_metadata(&path)?;
        Ok(Place { listener, inode: (bound.dev(), bound.ino()), watch: watch(directory).ok() })
    }

    fn stays(&self, directory: &Path) -> bool {
        fs::symlink_metadata(directory.join(NAME)).is_ok_and(|found| (found.dev(), found.ino()) == self.inode)
    }
}

/// Watches what goes from a directory or is replaced by a rename, and the directory itself.
fn watch(directory: &Path) -> io::Result<OwnedFd> {
    let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let in_it = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
    let itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
    inotify::add_watch(&queue, directory, in_it | itself)?;
    Ok(queue)
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

/// Root, or whoever runs us: the one of a client, the other of the service.
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
            return Err(io::Error::new(error.kind(), "this needs root"));
        }
        Err(error) => return Err(error),
    };
    if !is_trusted(&stream) {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "its control socket belongs to another user"));
    }
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
        let control = Control::listen(Lock::take(directory.path()).unwrap()).unwrap();
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
        assert_eq!(control.deadline(), Some(now + CLIENT_TIMEOUT), "somebody will go");
        let requests = control.serve(now + CLIENT_TIMEOUT);
        let [(client, Request::Status)] = requests[..] else { panic!("{requests:?}") };
        control.answer(client, &"well", now + CLIENT_TIMEOUT);
        let mut answer = String::new();
        late.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "\"well\"\n");
        drop(silent);
    }

    #[test]
    fn a_client_that_hangs_up_while_it_waits_does_not_wake_the_loop_again_and_again() {
        let (_directory, mut control, connect) = socket();
        let now = Instant::now();
        let mut client = connect();
        client.write_all(b"reload\n").unwrap();
        let requests = control.serve(now);
        let [(waiting, Request::Reload)] = requests[..] else { panic!("{requests:?}") };
        drop(client);
        let ready = |control: &Control| {
            let mut fds: Vec<PollFd<'_>> = control.poll_fds().collect();
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap()
        };
        assert_eq!(ready(&control), 0);
        control.answer(waiting, &"done", now);
        assert_eq!(control.serve(now), []);
        assert_eq!((ready(&control), control.deadline()), (0, None));
    }

    #[test]
    fn what_was_asked_while_the_service_was_busy_is_not_forgotten() {
        let (_directory, mut control, connect) = socket();
        let now = Instant::now();
        let mut client = connect();
        assert_eq!(control.serve(now), []);
        client.write_all(b"reload\n").unwrap();
        assert!(matches!(control.serve(now + 2 * CLIENT_TIMEOUT)[..], [(_, Request::Reload)]));
        let mut half = connect();
        half.write_all(b"rel").unwrap();
        assert_eq!(control.serve(now), []);
        assert_eq!(control.serve(now + CLIENT_TIMEOUT), []);
        assert_eq!(half.read(&mut [0; 8]).unwrap(), 0, "half a word is no question");
    }

    #[test]
    fn a_service_that_says_nothing_is_given_up_in_words() {
        let (directory, _stopped, _connect) = socket();
        let error = ask(directory.path(), Request::Status, Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, "it took longer than 0 s"));
    }
}
