//! The control sockets: what is asked at them is answered with one JSON object.
//!
//! A request is a line; that of `try` is followed by a text of the length that it names. At one socket nobody but root (or
//! whoever runs the service) is listened to; at the other everybody may ask for the status and how the service was started, for
//! nothing else, and takes no place there of root's. A client that asks too long or too slowly is dropped, and the loop never waits for one. A
//! socket that somebody removes is made again.

use super::lock::Lock;
use crate::agent::{Client, Entry, Kind, PolicyQuestion};
use crate::config::{MAX_FILE_BYTES, SourceText};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::net::sockopt::socket_peercred;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name of root's socket in the runtime directory.
pub const NAME: &str = "control.sock";
/// The name of everybody's.
pub const STATUS_NAME: &str = "status.sock";
/// At each socket.
const MOST_CLIENTS: usize = 16;
/// Of root's, that is; others have one word to say.
const LONGEST_LINE: usize = 64 << 10;
/// How much is read of a client at once.
const PORTION: u64 = 1 << 20;
/// So many others are let in between two rests: one who connects all the time must not keep the loop busy.
const GUESTS: u32 = 50;
const GUESTS_REST: Duration = Duration::from_millis(100);
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
    /// How many others were let in, and since when.
    guests: (u32, Option<Instant>),
    /// Why the socket is not at its path, as it was last said.
    displaced: Option<String>,
    note: Option<Entry>,
}

/// The sockets at their paths.
#[derive(Debug)]
struct Place {
    root: Door,
    everybody: Door,
    /// Wakes the loop when something goes from the directory. Without it a later pass notices.
    watch: Option<OwnedFd>,
}

#[derive(Debug)]
struct Door {
    listener: UnixListener,
    /// Device and inode of what was bound.
    inode: (u64, u64),
    name: &'static str,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    /// The user, of those who came to everybody's socket.
    guest: Option<u32>,
    request: Vec<u8>,
    answer: Arc<[u8]>,
    /// How much of it the client has.
    written: usize,
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
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Read the configuration and put it into the kernel.
    Reload,
    Status,
    /// How was the service started?
    CommandLine,
    /// What is in force for some destinations?
    Policy(PolicyQuestion),
    Try(TryRequest),
    /// What is being tried?
    Trial,
    /// Wait for the end of the trial of this number.
    Await(u64),
    Confirm(u64),
    /// Go back now.
    Back(u64),
}

/// A candidate, and for how long it is tried.
#[derive(Debug, Clone, PartialEq)]
pub struct TryRequest {
    pub timeout: Duration,
    /// Who asks, in words.
    pub by: String,
    /// What takes the place of the main file.
    pub file: Option<SourceText>,
}

/// The line of a [`TryRequest`]; the text of the file follows it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct TryLine {
    timeout: Duration,
    by: String,
    file: Option<(PathBuf, u64)>,
}

impl Request {
    const FOR_EVERYBODY: [Request; 2] = [Request::Status, Request::CommandLine];

    fn word(&self) -> &'static str {
        match self {
            Request::Reload => "reload",
            Request::Status => "status",
            Request::CommandLine => "command-line",
            Request::Policy(_) => "policy",
            Request::Try(_) => "try",
            Request::Trial => "trial",
            Request::Await(_) => "await",
            Request::Confirm(_) => "confirm",
            Request::Back(_) => "back",
        }
    }

    /// As it is sent.
    fn encode(&self) -> io::Result<Vec<u8>> {
        let word = self.word();
        let (line, text) = match self {
            Request::Reload | Request::Status | Request::CommandLine | Request::Trial => (word.to_owned(), ""),
            Request::Policy(question) => (format!("{word} {}", serde_json::to_string(question)?), ""),
            Request::Await(number) | Request::Confirm(number) | Request::Back(number) => {
                (format!("{word} {number}"), "")
            }
            Request::Try(TryRequest { timeout, by, file }) => {
                let named = file.as_ref().map(|file| (file.path.to_path_buf(), file.text.len() as u64));
                let line = serde_json::to_string(&TryLine { timeout: *timeout, by: by.clone(), file: named })?;
                (format!("{word} {line}"), file.as_ref().map_or("", |file| file.text.as_str()))
            }
        };
        Ok(format!("{line}\n{text}").into_bytes())
    }

    /// Reads what root has sent so far.
    fn decode(sent: &[u8]) -> Reading {
        let Some(end) = sent.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
            return if sent.len() < LONGEST_LINE { Reading::Partial } else { Reading::Bad };
        };
        let Ok(line) = std::str::from_utf8(&sent[..end]) else { return Reading::Bad };
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse().ok();
        let request = match (word, rest) {
            ("reload", "") => Some(Request::Reload),
            ("status", "") => Some(Request::Status),
            ("command-line", "") => Some(Request::CommandLine),
            ("policy", _) => serde_json::from_str(rest).ok().map(Request::Policy),
            ("trial", "") => Some(Request::Trial),
            ("await", _) => number().map(Request::Await),
            ("confirm", _) => number().map(Request::Confirm),
            ("back", _) => number().map(Request::Back),
            ("try", _) => return Request::decode_try(rest, &sent[end + 1..]),
            _ => None,
        };
        request.map_or(Reading::Bad, Reading::Whole)
    }

    fn decode_try(line: &str, text: &[u8]) -> Reading {
        let Ok(TryLine { timeout, by, file }) = serde_json::from_str(line) else { return Reading::Bad };
        let file = match file {
            None => None,
            Some((_, length)) if length > MAX_FILE_BYTES => return Reading::Bad,
            Some((_, length)) if (text.len() as u64) < length => return Reading::Partial,
            Some((path, length)) => match String::from_utf8(text[..length as usize].to_vec()) {
                Ok(text) => Some(SourceText { path: path.into(), text }),
                Err(_) => return Reading::Bad,
            },
        };
        Reading::Whole(Request::Try(TryRequest { timeout, by, file }))
    }

    /// Reads what others have sent so far.
    fn decode_guest(sent: &[u8]) -> Reading {
        let asks = |request: Request| {
            let line = format!("{}\n", request.word());
            line.as_bytes().starts_with(sent).then_some((line.len(), request))
        };
        match Request::FOR_EVERYBODY.into_iter().find_map(asks) {
            Some((length, request)) if length == sent.len() => Reading::Whole(request),
            Some(_) => Reading::Partial,
            None => Reading::Bad,
        }
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
        Ok(Control { lock, place, clients, next: 0, rests: None, guests: (0, None), displaced: None, note: None })
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
        let root = (self.rests.is_none() && self.count(false) < MOST_CLIENTS).then_some(&self.place.root);
        let everybody = (self.rests.is_none() && self.guests.0 < GUESTS).then_some(&self.place.everybody);
        let doors = root.into_iter().chain(everybody).map(|door| PollFd::new(&door.listener, PollFlags::IN));
        let watch = self.place.watch.iter().map(|watch| PollFd::new(watch, PollFlags::IN));
        doors.chain(watch).chain(clients)
    }

    /// When the slowest client is to be dropped, or the next one accepted.
    pub fn deadline(&self) -> Option<Instant> {
        let slow = self.clients.values().filter(|client| client.state != Conversation::Waiting);
        let guests = self.guests.1.filter(|_| self.guests.0 >= GUESTS).map(|since| since + GUESTS_REST);
        slow.map(|client| client.deadline).chain(self.rests).chain(guests).min()
    }

    /// True of a client at everybody's socket.
    pub fn is_guest(&self, client: Client) -> bool {
        self.clients.get(&client.0).is_none_or(|client| client.guest.is_some())
    }

    fn count(&self, guests: bool) -> usize {
        self.clients.values().filter(|client| client.guest.is_some() == guests).count()
    }

    /// What the journal should know, once.
    pub fn note(&mut self) -> Option<Entry> {
        self.note.take()
    }

    /// Drops, accepts, reads and writes; returns the requests that are whole by now.
    pub fn serve(&mut self, now: Instant) -> Vec<(Client, Request)> {
        self.stay();
        self.rests.take_if(|until| *until <= now);
        if self.guests.1.is_some_and(|since| since + GUESTS_REST <= now) {
            self.guests = (0, None);
        }
        let mut requests = self.converse(now);
        if self.accept(now) | self.accept_guests(now) {
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
            Conversation::Asking => match client.read(now) {
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
        self.answer_text(client, text(answer), now);
    }

    /// The same with a text that others are given, too.
    pub fn answer_text(&mut self, client: Client, text: Arc<[u8]>, now: Instant) {
        let Some(connection) = self.clients.get_mut(&client.0) else { return };
        connection.answer = text;
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
            if self.count(false) == MOST_CLIENTS || self.rests.is_some() {
                break;
            }
            let Some(stream) = self.next_at(|place| &place.root, now) else { break };
            if is_trusted(&stream) {
                self.add(stream, None, now);
            }
        }
        self.next > before
    }

    /// The same at everybody's socket. Where there is no room, of the user who has most clients the first has to go: who
    /// asks and goes finds room, however many others keep hanging on.
    fn accept_guests(&mut self, now: Instant) -> bool {
        let before = self.next;
        for _ in 0..MOST_CLIENTS {
            if self.guests.0 >= GUESTS || self.rests.is_some() {
                break;
            }
            let Some(stream) = self.next_at(|place| &place.everybody, now) else { break };
            self.guests = (self.guests.0 + 1, self.guests.1.or(Some(now)));
            let Ok(peer) = socket_peercred(&stream) else { continue };
            if self.count(true) >= MOST_CLIENTS
                && let Some(id) = self.dispensable()
            {
                self.clients.remove(&id);
            }
            self.add(stream, Some(peer.uid.as_raw()), now);
        }
        self.next > before
    }

    fn dispensable(&self) -> Option<u64> {
        let mut guests: BTreeMap<u32, (usize, u64)> = BTreeMap::new();
        for (id, client) in &self.clients {
            if let Some(uid) = client.guest {
                guests.entry(uid).or_insert((0, *id)).0 += 1;
            }
        }
        guests.into_values().max_by_key(|(count, _)| *count).map(|(_, first)| first)
    }

    fn next_at(&mut self, door: impl Fn(&Place) -> &Door, now: Instant) -> Option<UnixStream> {
        loop {
            match door(&self.place).listener.accept() {
                Ok((stream, _)) => return Some(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                // EMFILE, ENFILE, ENOMEM, ENOBUFS.
                Err(_) => {
                    self.rests = Some(now + REST);
                    return None;
                }
            }
        }
    }

    fn add(&mut self, stream: UnixStream, guest: Option<u32>, now: Instant) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let connection = Connection {
            stream,
            guest,
            request: Vec::new(),
            answer: Arc::default(),
            written: 0,
            state: Conversation::Asking,
            deadline: now + CLIENT_TIMEOUT,
        };
        self.clients.insert(self.next, connection);
        self.next += 1;
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
            for name in [NAME, STATUS_NAME] {
                let _ = fs::remove_file(self.lock.directory().join(name));
            }
        }
    }
}

impl Place {
    fn new(directory: &Path) -> io::Result<Self> {
        let root = Door::new(directory, NAME, 0o600)?;
        let everybody = Door::new(directory, STATUS_NAME, 0o666)?;
        Ok(Place { root, everybody, watch: watch(directory).ok() })
    }

    fn stays(&self, directory: &Path) -> bool {
        self.root.stays(directory) && self.everybody.stays(directory)
    }
}

impl Door {
    fn new(directory: &Path, name: &'static str, mode: u32) -> io::Result<Self> {
        let path = directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let bound = fs::symlink_metadata(&path)?;
        Ok(Door { listener, inode: (bound.dev(), bound.ino()), name })
    }

    fn stays(&self, directory: &Path) -> bool {
        let found = fs::symlink_metadata(directory.join(self.name));
        found.is_ok_and(|found| (found.dev(), found.ino()) == self.inode)
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

#[derive(Debug, PartialEq)]
enum Reading {
    Partial,
    Whole(Request),
    Bad,
}

impl Connection {
    fn read(&mut self, now: Instant) -> Reading {
        let before = self.request.len();
        let end = match (&self.stream).take(PORTION).read_to_end(&mut self.request) {
            Ok(count) => (count as u64) < PORTION,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => return Reading::Bad,
        };
        let reading = match self.guest {
            Some(_) => Request::decode_guest(&self.request),
            None => Request::decode(&self.request),
        };
        match reading {
            Reading::Partial if end => Reading::Bad,
            Reading::Partial => {
                // A long text may take longer, while it comes.
                if self.guest.is_none() && self.request.len() > before.max(LONGEST_LINE) {
                    self.deadline = now + CLIENT_TIMEOUT;
                }
                Reading::Partial
            }
            reading => {
                self.request = Vec::new();
                reading
            }
        }
    }

    /// True while there is more to write.
    fn write(&mut self) -> bool {
        while self.written < self.answer.len() {
            match self.stream.write(&self.answer[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        false
    }
}

/// An answer as it is sent.
pub fn text(answer: &impl serde::Serialize) -> Arc<[u8]> {
    let mut text = serde_json::to_vec(answer).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

/// Root, or whoever runs us: the one of a client, the other of the service.
fn is_trusted(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == rustix::process::geteuid())
}

/// Asks the running service; `None` when none answers there.
///
/// # Errors
/// When the service is there and the conversation fails.
pub fn ask(directory: &Path, request: &Request, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
    begin(directory, request, timeout)?.map(|asked| asked.answer(timeout)).transpose()
}

/// Asks what may be answered much later; `None` as for [`ask`].
///
/// # Errors
/// When the service is there and can't be asked.
pub fn begin(directory: &Path, request: &Request, timeout: Duration) -> io::Result<Option<Asked>> {
    let Some(mut stream) = connect(directory, request)? else { return Ok(None) };
    stream.set_write_timeout(Some(timeout))?;
    let written = request.encode().and_then(|request| stream.write_all(&request));
    Ok(Some(Asked { stream, written }))
}

/// What was asked. It is readable once there is an answer, or nobody any more who could give one.
#[derive(Debug)]
pub struct Asked {
    stream: UnixStream,
    written: io::Result<()>,
}

impl Asked {
    /// Waits for the answer.
    ///
    /// # Errors
    /// When the conversation fails.
    pub fn answer(self, timeout: Duration) -> io::Result<Vec<u8>> {
        let Asked { mut stream, written } = self;
        stream.set_read_timeout(Some(timeout))?;
        let mut answer = Vec::new();
        // What is there to be read says more than that nobody reads any more.
        let read = stream.read_to_end(&mut answer).map_err(|error| match error.kind() {
            // What read(2) says when SO_RCVTIMEO has passed.
            ErrorKind::WouldBlock => {
                io::Error::new(ErrorKind::TimedOut, format!("it took longer than {} s", timeout.as_secs()))
            }
            _ => error,
        });
        written.and(read)?;
        if answer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the service hung up without an answer"));
        }
        Ok(answer)
    }
}

impl AsFd for Asked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// At root's socket, or where that is not ours to use, and anybody may ask, at everybody's.
fn connect(directory: &Path, request: &Request) -> io::Result<Option<UnixStream>> {
    let denied = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
    let connected = match UnixStream::connect(directory.join(NAME)) {
        Err(error) if denied(&error) && Request::FOR_EVERYBODY.contains(request) => {
            UnixStream::connect(directory.join(STATUS_NAME))
        }
        connected => connected,
    };
    match connected {
        Ok(stream) if is_trusted(&stream) => Ok(Some(stream)),
        Ok(_) => Err(io::Error::new(ErrorKind::PermissionDenied, "its control socket belongs to another user")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
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
        let error = ask(directory.path(), &Request::Status, Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::TimedOut, "it took longer than 0 s"));
    }

    #[test]
    fn of_others_the_first_of_those_who_are_most_goes_and_root_waits_for_none() {
        let (directory, mut control, connect) = socket();
        let now = Instant::now();
        let others = || UnixStream::connect(directory.path().join(STATUS_NAME)).unwrap();
        let mut silent: Vec<UnixStream> = (0..MOST_CLIENTS + 4).map(|_| others()).collect();
        for _ in 0..4 {
            assert_eq!(control.serve(now), []);
        }
        assert_eq!(control.count(true), MOST_CLIENTS);
        assert_eq!(silent[3].read(&mut [0; 8]).unwrap(), 0, "the first ones are gone");
        let (mut late, mut root) = (others(), connect());
        late.write_all(b"status\n").unwrap();
        root.write_all(b"reload\n").unwrap();
        let requests = control.serve(now);
        let [(client, Request::Reload), (guest, Request::Status)] = &requests[..] else { panic!("{requests:?}") };
        assert!(control.is_guest(*guest) && !control.is_guest(*client));
        let mut liar = others();
        liar.write_all(b"reload\n").unwrap();
        assert_eq!(control.serve(now), []);
        assert_eq!(liar.read(&mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn who_connects_all_the_time_is_let_in_so_often_and_no_oftener() {
        let (directory, mut control, _connect) = socket();
        let now = Instant::now();
        let come = |control: &mut Control, now| {
            drop(UnixStream::connect(directory.path().join(STATUS_NAME)).unwrap());
            control.serve(now);
        };
        (0..GUESTS + 10).for_each(|_| come(&mut control, now));
        assert_eq!((control.guests.0, control.deadline()), (GUESTS, Some(now + GUESTS_REST)));
        control.serve(now + GUESTS_REST);
        assert_eq!(control.guests.0, 10, "those who waited");
    }

    #[test]
    fn what_is_asked_is_read_as_it_was_sent_and_not_before_it_is_whole() {
        let file = SourceText { path: Path::new("/root/ü \"x\".yaml").into(), text: "a: 1\nb: ü\n".to_owned() };
        let candidate = |file| TryRequest { timeout: Duration::from_millis(1500), by: "root\non x".to_owned(), file };
        let requests = [
            Request::Reload,
            Request::Trial,
            Request::Policy(PolicyQuestion { digest: u64::MAX, destinations: vec!["2001:db8::1".parse().unwrap()] }),
            Request::Confirm(7),
            Request::Await(u64::MAX),
            Request::Back(0),
            Request::Try(candidate(None)),
            Request::Try(candidate(Some(file))),
        ];
        for request in requests {
            let sent = request.encode().unwrap();
            for end in 0..sent.len() {
                assert_eq!(Request::decode(&sent[..end]), Reading::Partial, "{request:?} {end}");
            }
            assert_eq!(Request::decode(&sent), Reading::Whole(request));
        }
        for wrong in
            ["\n", "status now\n", "confirm\n", "confirm -1\n", "try\n", "try {}\n", "policy {}\n", "reload \0\n"]
        {
            assert_eq!(Request::decode(wrong.as_bytes()), Reading::Bad, "{wrong:?}");
        }
        assert_eq!(Request::decode(&vec![b'x'; LONGEST_LINE]), Reading::Bad);
    }
}
