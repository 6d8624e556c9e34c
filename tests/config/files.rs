//! Which files are read, and which are refused as files.

use super::skip;
use ip_masq_agent::config::{self, Diagnostics, Flags, Locations, MAX_FILE_BYTES, Reading, Trust};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A directory that the service would trust.
struct Etc {
    root: TempDir,
}

impl Etc {
    fn new() -> Self {
        let etc = Etc { root: tempfile::tempdir().unwrap() };
        etc.chmod("", 0o755);
        etc
    }

    fn path(&self, name: &str) -> PathBuf {
        // Of the real path, so that a linked temporary directory is not the test's subject.
        let root = self.root.path().canonicalize().unwrap();
        if name.is_empty() { root } else { root.join(name) }
    }

    fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, content).unwrap();
        self.chmod(name, 0o644);
        path
    }

    fn locations(&self, file: &str) -> Locations {
        Locations { file: Some(self.path(file)), ..Locations::default() }
    }

    fn read(&self, file: &str) -> Result<Reading, Diagnostics> {
        read(&self.locations(file))
    }

    /// What is said about a file that is refused, without its path.
    fn refusal(&self, file: &str) -> String {
        let error = self.read(file).unwrap_err().to_string();
        let root = self.path("").display().to_string();
        error.replace(&format!("{root}/"), "").replace(&root, ".")
    }
}

fn read(locations: &Locations) -> Result<Reading, Diagnostics> {
    config::read(locations, &Flags::default())
}

fn names(reading: &Reading) -> Vec<String> {
    reading.sources.iter().map(|source| source.path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_directory_is_read_in_the_order_of_bytes() {
    let etc = Etc::new();
    etc.write("main.conf", "");
    for name in [
        "9.yaml",
        "10.yaml",
        "B.toml",
        "a.json",
        ".hidden.yaml",
        "a.yaml~",
        "a.bak",
        "README",
        "B.YAML",
        "c.conf",
        "old.yml",
    ] {
        etc.write(&format!("d/{name}"), "");
    }
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("main.conf") };
    let reading = read(&locations).unwrap();
    assert_eq!(names(&reading), ["main.conf", "10.yaml", "9.yaml", "B.toml", "a.json"]);
    assert_eq!(reading.warnings.len(), 3);
    for (warning, name) in reading.warnings.iter().zip(["B.YAML", "c.conf", "old.yml"]) {
        let expected = format!("/{name}: ignored; a file in this directory must end in .yaml, .json or .toml");
        assert!(warning.to_string().ends_with(&expected), "{warning}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let etc = Etc::new();
    for name in ["a.yaml", "a.json", "a.toml"] {
        etc.write(name, "\u{feff}");
        assert_eq!(etc.read(name).unwrap().sources[0].text, "");
    }
}

#[test]
fn a_file_that_was_named_must_exist_and_be_a_file() {
    let etc = Etc::new();
    assert_eq!(etc.refusal("absent"), "absent: can't be opened: No such file or directory (os error 2)");
    fs::create_dir(etc.path("directory")).unwrap();
    assert_eq!(etc.refusal("directory"), "directory: is a directory, not a regular file");
    symlink("nowhere", etc.path("dangling")).unwrap();
    assert_eq!(etc.refusal("dangling"), "dangling: is a dangling symbolic link");
    symlink("loop", etc.path("loop")).unwrap();
    assert!(etc.refusal("loop").starts_with("loop: can't be opened: "));
    let _listener = UnixListener::bind(etc.path("socket")).unwrap();
    assert_eq!(etc.refusal("socket"), "socket: is a socket, not a regular file");
    // Nobody writes to it: opening it as a file is opened would wait forever.
    rustix::fs::mkfifoat(rustix::fs::CWD, etc.path("fifo"), rustix::fs::Mode::RUSR).unwrap();
    assert_eq!(etc.refusal("fifo"), "fifo: is a FIFO, not a regular file");
    symlink("/dev/zero", etc.path("device")).unwrap();
    assert!(etc.refusal("device").contains("device: is a device, not a regular file"));
    let locations = Locations { directory: Some(etc.path("no-such")), ..etc.locations("absent") };
    assert_eq!(read(&locations).unwrap_err().0.len(), 2);
}

#[test]
fn what_is_no_text_is_refused_with_its_place() {
    let etc = Etc::new();
    etc.write("binary.yaml", b"a: b\nc: \xff\xfe");
    let expected = "binary.yaml:2:4: the byte 0xff is not UTF-8 text; is this a binary file?";
    assert_eq!(etc.refusal("binary.yaml"), expected);
    etc.write("latin.yaml", b"\xc3\xa9\xe9: x");
    assert!(etc.refusal("latin.yaml").starts_with("latin.yaml:1:2: the byte 0xe9 is not UTF-8 text"));
    etc.write("windows.yaml", b"\xff\xfea\0:\0");
    assert_eq!(etc.refusal("windows.yaml"), "windows.yaml: UTF-16 text; save it as UTF-8");
}

/// Of one run, whatever of them can be read or is what its language allows.
#[test]
fn what_is_wrong_with_one_file_hides_nothing_that_is_wrong_in_the_others() {
    let etc = Etc::new();
    let main = etc.write("config.yaml", "onStop: x\n");
    etc.write("d/10-latin.yaml", b"onStop: \xe9\n");
    etc.write("d/20.yaml", "extraNonMasqueradeCIDRs: [\"fd00::/8\"]\ncidrLimit: 0\nmasqChain: -x\n");
    rustix::fs::mkfifoat(rustix::fs::CWD, etc.path("d/30.yaml"), rustix::fs::Mode::RUSR).unwrap();
    etc.write("d/40.json", "{\"enableIPv6\": true");
    etc.write(
        "d/50.toml",
        "portForwards = [{hostPort = 80, address = \"10.0.0.5\"}, {hostPort = 80, address = \"10.0.0.6\"}]\n",
    );
    symlink("nowhere", etc.path("d/60.yaml")).unwrap();
    let directory = etc.path("d");
    let check = |more: &[&str]| {
        let arguments = ["check", "--config", main.to_str().unwrap(), "--config-dir", directory.to_str().unwrap()];
        let output = ip_masq_agent(&[&arguments, more].concat(), b"");
        assert_eq!(output.status.code(), Some(78));
        let said = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", etc.path("").display()), "");
        said.lines().filter(|line| !line.starts_with(' ')).map(str::to_owned).collect::<Vec<_>>()
    };
    let [main, chain, json, toml, flag] = [
        "config.yaml:1:9: onStop: expected one of cleanup, keep, found the text 'x'",
        "d/20.yaml:3:12: masqChain: '-x': a chain name can't begin with '-'",
        "d/40.json:1:19: the map is not closed; a '}' is missing",
        "d/50.toml:1:68: portForwards[2]: tcp port 80 of every IPv4 address is forwarded by portForwards[1], too (d/50.toml:1:17); \
         set another hostIP, or inInterfaces or sourceCIDRs that exclude each other",
        "--resync-interval: '1y': unknown unit 'y', not one of h, m, s, ms, us, ns",
    ];
    let [latin, fifo, link] = [
        "d/10-latin.yaml:1:9: the byte 0xe9 is not UTF-8 text; is this a binary file?",
        "d/30.yaml: is a FIFO, not a regular file",
        "d/60.yaml: is a dangling symbolic link",
    ];
    assert_eq!(check(&["--resync-interval", "1y"]), [main, latin, chain, fifo, json, toml, link, flag]);
    for name in ["d/10-latin.yaml", "d/30.yaml", "d/60.yaml"] {
        fs::remove_file(etc.path(name)).unwrap();
    }
    // Whether the one that is not closed enables IPv6 is not known, and it says nothing of a limit.
    let limit = "d/20.yaml:2:12: cidrLimit: nonMasqueradeCIDRs has 1 CIDRs, more than the limit of 0";
    assert_eq!(check(&["--resync-interval", "1y"]), [main, limit, chain, json, toml, flag]);
}

#[test]
fn nothing_of_a_file_is_shown_to_which_somebody_else_may_have_led_us_whatever_is_wrong_with_another() {
    let etc = Etc::new();
    etc.write("d/10.yaml", "masqChain: -secret\n");
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("absent") };
    assert!(read(&locations).unwrap_err().to_string().contains("secret"));
    etc.chmod("d", 0o775);
    let said = read(&locations).unwrap_err().to_string();
    assert!(said.contains("/absent: ") && said.contains("/d: the directory ") && !said.contains("secret"), "{said}");
}

#[test]
fn more_than_64_mib_is_refused_before_it_is_read() {
    let etc = Etc::new();
    let path = etc.write("huge.yaml", "");
    // Sparse: were it read, it would be 1 TiB of NUL.
    File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(etc.refusal("huge.yaml"), "huge.yaml: has 1099511627776 bytes, more than the limit of 64 MiB");
    File::options().write(true).open(&path).unwrap().set_len(MAX_FILE_BYTES).unwrap();
    assert_eq!(etc.read("huge.yaml").unwrap().sources[0].text.len() as u64, MAX_FILE_BYTES);
    etc.write("d/1.yaml", "");
    for name in ["d/2.yaml", "d/3.yaml"] {
        File::options().write(true).open(etc.write(name, "")).unwrap().set_len(MAX_FILE_BYTES - 1).unwrap();
    }
    etc.write("d/4.yaml", "abc");
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("d/1.yaml") };
    let error = read(&locations).unwrap_err().to_string();
    assert!(error.ends_with("4.yaml: makes the configuration longer than the limit of 128 MiB"), "{error}");
}

#[test]
fn what_others_can_write_is_refused_or_warned_about() {
    let etc = Etc::new();
    etc.write("config.yaml", "");
    let cases =
        [(0o664, "its group", "0664"), (0o646, "everybody", "0646"), (0o666, "its group and everybody", "0666")];
    for (mode, who, shown) in cases {
        etc.chmod("config.yaml", mode);
        let expected = format!("config.yaml: can be written by {who} (mode {shown}); chmod go-w");
        assert_eq!(etc.refusal("config.yaml"), expected);
        let reading = read(&Locations { trust: Trust::Warn, ..etc.locations("config.yaml") }).unwrap();
        assert_eq!(names(&reading), ["config.yaml"]);
        assert!(reading.warnings[0].to_string().ends_with("chmod go-w; the service will refuse it"));
    }
    etc.chmod("config.yaml", 0o600);
    assert!(etc.read("config.yaml").unwrap().warnings.is_empty());
    // All of it is known, and so is what only the whole tells.
    etc.write("config.yaml", "nonMasqueradeCIDRs: [\"fd00::/8\"]\n");
    etc.chmod("config.yaml", 0o664);
    let said = etc.refusal("config.yaml");
    assert!(
        said.contains("chmod go-w\n") && said.contains("config.yaml:1:22: nonMasqueradeCIDRs: 'fd00::/8' is IPv6"),
        "{said}"
    );
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    let etc = Etc::new();
    etc.write("config.yaml", "");
    etc.chmod("", 0o1777);
    let message = etc.refusal("config.yaml");
    let expected =
        ".: the directory can be written by its group and everybody (mode 1777), who could replace what is in it";
    assert_eq!(message, expected);
    etc.chmod("", 0o755);
    fs::create_dir(etc.path("empty.d")).unwrap();
    etc.chmod("empty.d", 0o775);
    let locations = Locations { directory: Some(etc.path("empty.d")), ..etc.locations("config.yaml") };
    let error = read(&locations).unwrap_err().to_string();
    assert!(error.ends_with("empty.d: the directory can be written by its group (mode 0775); chmod go-w"), "{error}");
}

#[test]
fn a_link_is_judged_by_where_it_leads() {
    let etc = Etc::new();
    etc.write("real/target.yaml", "");
    symlink("real/target.yaml", etc.path("config.yaml")).unwrap();
    assert_eq!(names(&etc.read("config.yaml").unwrap()), ["config.yaml"]);
    etc.chmod("real/target.yaml", 0o666);
    assert!(etc.refusal("config.yaml").starts_with("config.yaml: can be written by"));
    etc.chmod("real/target.yaml", 0o644);
    etc.chmod("real", 0o777);
    assert!(etc.refusal("config.yaml").starts_with("real: the directory can be written by"));
}

#[test]
fn every_directory_on_the_way_is_judged() {
    let etc = Etc::new();
    etc.write("a/b/c/config.yaml", "");
    assert_eq!(names(&etc.read("a/b/c/config.yaml").unwrap()), ["config.yaml"]);
    etc.chmod("a", 0o775);
    let expected = "a: the directory can be written by its group (mode 0775), who could replace what is in it";
    assert_eq!(etc.refusal("a/b/c/config.yaml"), expected);
    // By whatever way it is passed.
    symlink("a/b", etc.path("short")).unwrap();
    assert_eq!(etc.refusal("short/c/config.yaml"), expected);
    symlink(etc.path("a/b/c/config.yaml"), etc.path("absolute.yaml")).unwrap();
    assert_eq!(etc.refusal("absolute.yaml"), expected);
    etc.write("d/10.yaml", "");
    symlink("../a/b/../b/c/config.yaml", etc.path("d/20.yaml")).unwrap();
    etc.write("main.yaml", "");
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("main.yaml") };
    assert!(read(&locations).unwrap_err().to_string().contains("/a: the directory can be written by its group"));
    etc.chmod("a", 0o755);
    assert_eq!(names(&read(&locations).unwrap()), ["main.yaml", "10.yaml", "20.yaml"]);
}

#[test]
fn in_a_sticky_directory_a_directory_of_roots_is_safe_and_a_name_of_a_file_is_not() {
    let etc = Etc::new();
    etc.write("tmp/own/config.yaml", "");
    etc.write("tmp/config.yaml", "");
    symlink("own/config.yaml", etc.path("tmp/link.yaml")).unwrap();
    etc.chmod("tmp", 0o1777);
    assert_eq!(names(&etc.read("tmp/own/config.yaml").unwrap()), ["config.yaml"]);
    for name in ["tmp/config.yaml", "tmp/link.yaml"] {
        assert!(etc.refusal(name).starts_with("tmp: the directory can be written by its group and everybody"));
    }
    // The store of Nix: the group builds in it, and files stand in it directly.
    etc.chmod("tmp", 0o1775);
    for name in ["tmp/own/config.yaml", "tmp/config.yaml", "tmp/link.yaml"] {
        assert_eq!(etc.read(name).unwrap().sources.len(), 1);
    }
    if let Err(error) = lchown(etc.path("tmp/link.yaml"), Some(65534), None) {
        return skip(&format!("giving a link away needs root: {error}"));
    }
    assert!(etc.refusal("tmp/link.yaml").starts_with("tmp: the directory can be written by its group (mode 1775)"));
}

#[test]
fn links_that_configuration_managers_make_are_followed() {
    let etc = Etc::new();
    etc.write("conf/..2026_11_20/config.yaml", "masqLinkLocal: true");
    symlink("..2026_11_20", etc.path("conf/..data")).unwrap();
    symlink("..data/config.yaml", etc.path("conf/config.yaml")).unwrap();
    let reading = etc.read("conf/config.yaml").unwrap();
    assert_eq!(reading.sources[0].text, "masqLinkLocal: true");
    assert_eq!(&*reading.sources[0].path, etc.path("conf/config.yaml"));
    symlink(etc.path("conf/..data"), etc.path("d")).unwrap();
    let locations = Locations { directory: Some(etc.path("d")), ..etc.locations("conf/config.yaml") };
    assert_eq!(read(&locations).unwrap().sources.len(), 2);
    fs::write(etc.path("file"), "").unwrap();
    assert_eq!(etc.refusal("file/config.yaml"), "file/config.yaml: can't be opened: Not a directory (os error 20)");
}

/// What an ordinary user would like to read, and a directory of that user through which the configuration leads to it.
fn secret_behind_a_stranger(etc: &Etc) -> bool {
    etc.write("etc/shadow", "root:$6$salt$verysecret:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n");
    etc.chmod("etc/shadow", 0o600);
    fs::create_dir(etc.path("stranger")).unwrap();
    symlink("../etc/shadow", etc.path("stranger/config.yaml")).unwrap();
    symlink("stranger/config.yaml", etc.path("config.yaml")).unwrap();
    let given = std::os::unix::fs::chown(etc.path("stranger"), Some(65534), None);
    if let Err(error) = &given {
        skip(&format!("giving a directory away needs root: {error}"));
    }
    given.is_ok()
}

#[test]
fn a_link_through_a_directory_of_somebody_else_is_refused_and_nothing_behind_it_is_shown() {
    let etc = Etc::new();
    if !secret_behind_a_stranger(&etc) {
        return;
    }
    assert_eq!(etc.refusal("config.yaml"), "stranger: the directory belongs to user 65534, not to root");
    let path = etc.path("config.yaml");
    let output = ip_masq_agent(&["run", "--dry-run", "--config", path.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("secret") && said.contains("belongs to user 65534"), "{said}");
    for command in ["check", "render"] {
        let said =
            String::from_utf8(ip_masq_agent(&[command, "--config", path.to_str().unwrap()], b"").stderr).unwrap();
        assert!(said.contains("belongs to user 65534, not to root; the service will refuse it"), "{command}: {said}");
        assert!(!said.contains("secret"), "{command}: {said}");
    }
}

#[test]
fn what_is_replaced_all_the_time_is_read_whole_or_refused_and_nobody_waits() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "masqLinkLocal: true");
    let until = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !until.load(std::sync::atomic::Ordering::Relaxed) {
                turn += 1;
                let new = etc.path("new");
                match turn % 3 {
                    0 => fs::write(&new, "masqLinkLocal: true").unwrap(),
                    1 => symlink("config.yaml.real", &new).unwrap(),
                    _ => rustix::fs::mkfifoat(rustix::fs::CWD, &new, rustix::fs::Mode::RUSR).unwrap(),
                }
                fs::rename(&new, &path).unwrap();
            }
        });
        etc.write("config.yaml.real", "masqLinkLocal: true");
        for _ in 0..2000 {
            match etc.read("config.yaml") {
                Ok(reading) => assert_eq!(reading.sources[0].text, "masqLinkLocal: true"),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.ends_with("is a FIFO, not a regular file") || text.contains("os error 11"), "{text}");
                }
            }
        }
        until.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn ip_masq_agent(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ip-masq-agent"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who refuses its arguments reads nothing.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn a_candidate_in_tmp_is_checked_with_a_warning_and_no_advice_to_change_that_directory() {
    let etc = Etc::new();
    let path = etc.write("tmp/candidate.yaml", "masqLinkLocal: true\n");
    etc.chmod("tmp", 0o1777);
    for command in ["check", "render"] {
        let output = ip_masq_agent(&[command, "--config", path.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(0));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("warning: ") && said.ends_with("; the service will refuse it\n"), "{said}");
        assert!(!said.contains("chmod"), "{said}");
    }
}

#[test]
fn standard_input_is_a_file_too() {
    let check = |input: &[u8]| {
        let output = ip_masq_agent(&["check", "--config", "-"], input);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for good in ["", "masqLinkLocal: true\n", "masqLinkLocal = true\n", "{\"masqLinkLocal\": true}"] {
        assert_eq!(check(good.as_bytes()), (Some(0), String::new()), "{good}");
    }
    let said = "<stdin>:1:16: masqLinkLocal: expected true or false, found the text 'yes'; write true\n    \
                masqLinkLocal: yes\n                   ^\n";
    assert_eq!(check(b"masqLinkLocal: yes\n"), (Some(78), said.to_owned()));
    let (status, said) = check(b"a: \xff");
    assert_eq!(status, Some(78));
    assert!(said.starts_with("<stdin>:1:4: the byte 0xff is not UTF-8 text"), "{said}");
    let output = ip_masq_agent(&["check", "--config", "/dev/stdin"], b"masqLinkLocal: true\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config - reads standard input"), "{output:?}");
    let output = ip_masq_agent(&["run", "--config", "-"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("name a file"));
    let output = ip_masq_agent(&["render", "--backend", "nftables", "--config", "-"], b"masqLinkLocal: true\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "");
    if let Err(error) = std::os::unix::fs::chown(&path, Some(65534), None) {
        return skip(&format!("giving a file away needs root: {error}"));
    }
    assert_eq!(etc.refusal("config.yaml"), "config.yaml: belongs to user 65534, not to root");
}

/// A copy to be run. Written by a program: while a child of another test had it open for writing, it could not be run.
fn install(from: &str, to: &Path) {
    let status = Command::new("install").args(["-m", "755", from]).arg(to).status().unwrap();
    assert!(status.success(), "{}", to.display());
}

/// The program, run by an ordinary user from a place where that user can run it.
fn as_nobody(etc: &Etc, arguments: &[&str]) -> Option<Output> {
    let program = etc.path("ip-masq-agent");
    install(env!("CARGO_BIN_EXE_ip-masq-agent"), &program);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let probe = Command::new("setpriv").args(nobody).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("becoming an ordinary user needs root and setpriv");
        return None;
    }
    Some(Command::new("setpriv").args(nobody).arg(program).args(arguments).output().unwrap())
}

/// As `make demo` is run without root: `/` and all above the user's own belong to nobody that has a number.
#[test]
fn root_of_a_user_namespace_trusts_what_is_its_own() {
    let etc = Etc::new();
    let program = etc.path("ip-masq-agent");
    install(env!("CARGO_BIN_EXE_ip-masq-agent"), &program);
    let path = etc.write("own/config.yaml", "masqLinkLocal: true\n");
    for name in ["own", "own/config.yaml"] {
        if let Err(error) = std::os::unix::fs::chown(etc.path(name), Some(1234), Some(1234)) {
            return skip(&format!("giving a file away needs root: {error}"));
        }
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1234", "--regid=1234", "--clear-groups", "unshare", "--user", "--map-root-user", "--"]);
        command.args(arguments).output().unwrap()
    };
    if !run(&["true"]).status.success() {
        return skip("a user namespace of an ordinary user");
    }
    let check = [program.to_str().unwrap(), "check", "--config", path.to_str().unwrap()];
    let output = run(&check);
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    etc.chmod("own", 0o777);
    let said = String::from_utf8(run(&check).stderr).unwrap();
    assert!(said.contains("/own: the directory can be written by") && said.lines().count() == 1, "{said}");
}

#[test]
fn an_ordinary_user_who_checks_is_only_warned() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "masqLinkLocal: true\n");
    etc.chmod("config.yaml", 0o666);
    let Some(output) = as_nobody(&etc, &["check", "--config", path.to_str().unwrap()]) else { return };
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("warning: ") && said.ends_with("; the service will refuse it\n"), "{said}");
}

#[test]
fn a_file_that_can_not_be_read_says_why() {
    let etc = Etc::new();
    let path = etc.write("config.yaml", "");
    etc.chmod("config.yaml", 0o600);
    let Some(output) = as_nobody(&etc, &["check", "--config", path.to_str().unwrap()]) else { return };
    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, format!("{}: can't be opened: Permission denied (os error 13)\n", path.display()));
}

/// `check` with an /etc of its own, in a mount namespace; `script` fills /etc/ip-masq-agent.
fn check_in_own_etc(script: &str) -> Option<(Option<i32>, String)> {
    let namespace = if rustix::process::geteuid().is_root() { "-m" } else { "-rm" };
    let probe = Command::new("unshare").args([namespace, "mount", "-t", "tmpfs", "none", "/etc"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skip("a mount namespace of our own");
        return None;
    }
    let script = format!(
        "set -e; umask 022; mount -t tmpfs -o mode=755 none /etc; mkdir -p /etc/ip-masq-agent/config.d; \
         cd /etc/ip-masq-agent; {script}\nexec \"$0\" check",
    );
    let program = Path::new(env!("CARGO_BIN_EXE_ip-masq-agent"));
    let output = Command::new("unshare").args([namespace, "sh", "-c", &script]).arg(program).output().unwrap();
    assert!(output.stdout.is_empty());
    Some((output.status.code(), String::from_utf8(output.stderr).unwrap()))
}

#[test]
fn the_usual_places_are_read_when_no_file_is_named() {
    let cases = [
        ("", Some(0), ""),
        ("rmdir config.d; cd /; rmdir /etc/ip-masq-agent", Some(0), ""),
        (
            "echo 'x: 1' > config.yaml",
            Some(78),
            "/etc/ip-masq-agent/config.yaml:1:1: x: unknown key; no key in this file is one of ip-masq-agent's, so its lines are not shown\n",
        ),
        (
            "echo 'x = 1' > config.toml",
            Some(78),
            "/etc/ip-masq-agent/config.toml:1:1: x: unknown key; no key in this file is one of ip-masq-agent's, so its lines are not shown\n",
        ),
        ("echo '{\"masqLinkLocal\": true}' > config.yaml", Some(0), ""),
        (
            "touch config.yaml config.toml",
            Some(78),
            "/etc/ip-masq-agent/config.toml: /etc/ip-masq-agent/config.yaml exists too; keep only one of them\n",
        ),
        ("ln -s nowhere config.yaml", Some(78), "/etc/ip-masq-agent/config.yaml: is a dangling symbolic link\n"),
        ("mkdir config.d/a.yaml", Some(78), "/etc/ip-masq-agent/config.d/a.yaml: is a directory, not a regular file\n"),
        (
            "chmod 777 config.d",
            Some(0),
            "warning: /etc/ip-masq-agent/config.d: the directory can be written by its group and everybody (mode 0777); \
             chmod go-w; the service will refuse it\n",
        ),
        (
            "echo 'onstop: keep' > config.yaml; echo 'onStop: x' > config.d/a.yaml",
            Some(78),
            "/etc/ip-masq-agent/config.yaml:1:1: onstop: unknown key; did you mean onStop?\n    onstop: keep\n    ^\n\
             /etc/ip-masq-agent/config.d/a.yaml:1:9: onStop: expected one of cleanup, keep, found the text 'x'\n    \
             onStop: x\n            ^\n",
        ),
    ];
    for (script, status, said) in cases {
        let Some(found) = check_in_own_etc(script) else { return };
        assert_eq!(found, (status, said.to_owned()), "{script}");
    }
}

#[test]
fn with_a_file_named_the_usual_directory_is_left_alone() {
    let fill = "echo 'x: 1' > config.d/a.yaml; echo > other.yaml; echo > config.yaml; set -- ";
    for (arguments, status) in [("--config other.yaml", 0), ("--config /etc/ip-masq-agent/config.yaml", 78)] {
        let script = format!("{fill}; exec \"$0\" check {arguments}");
        let Some((found, said)) = check_in_own_etc(&script) else { return };
        assert_eq!(found, Some(status), "{arguments}: {said}");
    }
}

/// What a wrong link or a wrong --config may lead to.
#[test]
fn no_line_of_a_file_that_is_no_configuration_is_shown() {
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAAsecret\nsecretAAAAtzc2g=\n-----END OPENSSH PRIVATE KEY-----\n";
    let cases = [
        "root:$6$salt$verysecret:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n",
        "root:!secret:19000::::::\nuser:secret:1:2\n",
        key,
        "secret\n",
        "- secret\n",
        "'secret",
        "@secret",
        "*secret",
        "!secret a",
        "[secret: *secret, secret",
        "PASSWORD=\"secret\"\nuser = secret\n",
        "password: secret\nusers: [{name: secret}]\n",
        "{\"password\": \"secret\", }",
        "machine example.org login me password secret",
        "%secret\n",
        "a: 1\na: secret\n",
        "123secret\0",
    ];
    let etc = Etc::new();
    let headed =
        format!("{}nonMasqueradeCIDRs: [\n", "# A line of a licence, of which there are hundreds.\n".repeat(1000));
    let path = etc.write("headed.yaml", headed);
    let output = ip_masq_agent(&["check", "--config", path.to_str().unwrap()], b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("\n    nonMasqueradeCIDRs: ["), "{output:?}");
    for text in cases {
        for name in ["a", "a.yaml", "a.json", "a.toml"] {
            let path = etc.write(name, text);
            let output = ip_masq_agent(&["check", "--config", path.to_str().unwrap()], b"");
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{name} {text}: {said}");
            assert!(said.contains("so its lines are not shown") && !said.contains("secret"), "{name} {text}: {said}");
        }
    }
}
