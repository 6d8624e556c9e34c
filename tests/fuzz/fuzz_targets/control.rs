//! What a client writes into the control socket: one request, or it is hung up on.
#![no_main]

use ip_masq_agent::service::control::{Control, NAME};
use ip_masq_agent::service::lock::Lock;
use libfuzzer_sys::fuzz_target;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

static SOCKET: LazyLock<(TempDir, Mutex<Control>)> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let control = Control::listen(Lock::take(directory.path()).expect("a lock")).expect("a socket");
    (directory, Mutex::new(control))
});

/// Longer than anybody is waited for.
const LATER: Duration = Duration::from_secs(60);

fuzz_target!(|bytes: &[u8]| {
    let (directory, control) = &*SOCKET;
    let mut control = control.lock().expect("one thread");
    let mut client = UnixStream::connect(directory.path().join(NAME)).expect("a connection");
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    let now = Instant::now();
    let mut requests = Vec::new();
    for part in [first, rest] {
        // Nobody reads any more from a client that was hung up on.
        let _ = client.write_all(part);
        requests.extend(control.serve(now));
    }
    drop(client);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let words: [&[u8]; 9] = [b"reload", b"status", b"command-line", b"policy", b"try", b"trial", b"await", b"confirm", b"back"];
    let is_word = bytes.contains(&b'\n') && words.contains(&word);
    assert!(requests.len() <= 1 && (requests.is_empty() || is_word), "{requests:?}");
    for (client, _) in requests {
        control.answer(client, &"done", now);
    }
    control.serve(now + LATER);
    assert!(control.deadline().is_none(), "everybody is gone");
});
