//! The saved last good configuration: always there when it is needed, and never somebody else's.

use super::*;
use service::Service;

const SAVED: &str = "/run/test/state/last-good";

/// Starts with a bad file and reads the log to the end of a start that has nothing to fall back on.
fn refused(host: &Host) -> Service {
    host.configure(BAD);
    let mut service = host.start();
    assert_eq!(service.wait().code(), Some(78), "{:?}", service.log);
    service
}

fn says(service: &Service, text: &str) -> bool {
    service.log.iter().any(|line| line.contains(text))
}

#[test]
fn six_thousand_fragments_are_there_after_a_bad_edit_and_a_restart() {
    let host = host!("backend: nftables\n");
    let fragments = "/run/test/config.d";
    host.node.enter(|| {
        fs::create_dir(fragments).unwrap();
        for number in 0..6000u32 {
            let range = std::net::Ipv4Addr::from((11 << 24) + (number << 9));
            fs::write(format!("{fragments}/{number:04}.yaml"), format!("nonMasqueradeCIDRs: [{range}/24]\n")).unwrap();
        }
    });
    let start = || {
        let mut service = host.start_as(host.prepare(&["run", "--config-dir", fragments]));
        service.wait_for("READY=1");
        service
    };
    let listed = || {
        let set = host.node.must("nft", &["list", "set", "inet", "ip-masq-agent", "exempt4"]);
        set.matches("/24").count()
    };
    let mut service = start();
    assert_eq!(listed(), 6000);
    service.stop();
    assert!(!says(&service, "saved"), "{:?}", service.log);
    host.configure("backend: nft\n");
    let mut service = start();
    assert_eq!(listed(), 6000);
    let status = host.command(&["status"]);
    assert!(status.code == Some(1) && status.stdout.contains("the last good version of"), "{:.2000}", status.stdout);
    service.stop();
}

#[test]
fn a_saved_configuration_that_others_could_have_written_is_not_used_and_the_journal_says_why() {
    let host = host!(GOOD);
    host.ready().stop();
    let saved = host.node.enter(|| fs::read(SAVED)).unwrap();
    let cases: [(&[&str], &str); 6] = [
        (&["chmod", "0620", SAVED], "can be written by its group (mode 0620)"),
        (&["chmod", "0602", SAVED], "can be written by everybody (mode 0602)"),
        (&["chown", "65534", SAVED], "belongs to user 65534, not to root"),
        (&["chmod", "0770", STATE], "the directory can be written by its group (mode 0770)"),
        (&["chown", "65534", STATE], "the directory belongs to user 65534, not to root"),
        (
            &["sh", "-c", "mv /run/test/state/last-good /run/test/real && ln -s ../real /run/test/state/last-good"],
            "is a link",
        ),
    ];
    for (command, why) in cases {
        if !host.node.run(command[0], &command[1..]).status.success() {
            return lab::skip("there is no ordinary user here");
        }
        let service = refused(&host);
        let directory_is_to_blame = why.starts_with("the directory");
        let path = if directory_is_to_blame { STATE } else { SAVED };
        let unusable = format!("the saved last good configuration is not used: {path}: {why}");
        assert!(says(&service, &unusable), "{why}: {:?}", service.log);
        assert!(says(&service, &format!("the last good configuration can't be used either: {path}: {why}")));
        // A good one is served, says the same, and heals what can be healed.
        host.configure(GOOD);
        let mut service = host.ready();
        service.wait_for_log(&unusable);
        service.stop();
        assert_eq!(says(&service, "could not be saved"), directory_is_to_blame, "{why}: {:?}", service.log);
        host.node.must("chown", &["0", STATE]);
        host.node.must("chmod", &["0700", STATE]);
        host.ready().stop();
        let healed = host.node.enter(|| fs::symlink_metadata(SAVED)).unwrap();
        assert_eq!((healed.uid(), healed.mode()), (0, 0o100_600), "{why}");
        assert_eq!(host.node.enter(|| fs::read(SAVED)).unwrap(), saved, "{why}");
    }
}

#[test]
fn a_saved_configuration_that_is_not_whole_is_told_from_none() {
    let host = host!(GOOD);
    let service = refused(&host);
    assert!(says(&service, "there is no last good configuration to fall back on"), "{:?}", service.log);
    host.configure(GOOD);
    host.ready().stop();
    let saved = host.node.enter(|| fs::read_to_string(SAVED)).unwrap();
    let first_line = saved.split_inclusive('\n').next().unwrap();
    let cases = [
        (String::new(), "is empty"),
        (first_line.to_owned(), "is cut short"),
        (saved[..saved.len() - 1].to_owned(), "is cut short"),
        (format!("{saved}x\n"), "is damaged"),
        ("garbage\n".to_owned(), "was not saved by ip-masq-agent"),
        (saved.replacen("last good 2", "last good 77", 1), "was saved by another version"),
    ];
    for (text, why) in cases {
        host.node.enter(|| fs::write(SAVED, text)).unwrap();
        let service = refused(&host);
        let either = format!("the last good configuration can't be used either: {SAVED}: {why}");
        assert!(says(&service, &either), "{why}: {:?}", service.log);
    }
}

#[test]
fn what_an_earlier_version_saved_is_used() {
    let host = host!(BAD);
    let saved = format!("ip-masq-agent last good 1\n{} \"{CONFIG}\"\n{GOOD}", GOOD.len());
    host.node.enter(|| fs::write(SAVED, saved)).unwrap();
    host.ready();
    assert!(host.rules().contains("-d 10.0.0.0/8"), "{}", host.rules());
}
