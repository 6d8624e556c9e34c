//! Connections of the gateway's own that were there before the service was: the administrator's ssh.
//!
//! Conntrack works in a network namespace only from the first rule on that needs it. The first packet that it sees of
//! an older connection is new to it, in whichever direction it goes (nf_conntrack_tcp_loose), and so passes the nat
//! rules. If these give it another source port, the peer no longer knows the connection.

use crate::lab::{BACKENDS, Gateway, Lab, Namespace, SILENCE, Seen, Service, parse};
use ip_masq_agent::backend::BackendName;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

#[derive(Debug, Clone, Copy)]
enum End {
    Client,
    Server,
}

/// A connection, both ends.
struct Session {
    client: TcpStream,
    server: TcpStream,
}

impl Session {
    fn open(client: &Namespace, server: &Namespace, address: &str) -> Self {
        let listener = server.enter(|| TcpListener::bind(SocketAddr::new(parse(address), 0))).expect("a listener");
        let to = listener.local_addr().expect("its address");
        let client = client.enter(|| TcpStream::connect(to)).expect("a connection");
        let (server, _) = listener.accept().expect("the same connection");
        let mut session = Session { client, server };
        assert!(session.says(End::Server) && session.says(End::Client), "it works before anything is done");
        session
    }

    /// True when what one end sends arrives at the other.
    fn says(&mut self, end: End) -> bool {
        match end {
            End::Server => passes(&mut self.server, &mut self.client),
            End::Client => passes(&mut self.client, &mut self.server),
        }
    }
}

/// Sends a byte; true when it arrives, false when it does not or the connection is reset.
fn passes(from: &mut TcpStream, to: &mut TcpStream) -> bool {
    to.set_read_timeout(Some(SILENCE)).expect("a timeout");
    if from.write_all(b"x").is_err() {
        return false;
    }
    match to.read(&mut [0]) {
        Ok(count) => count == 1,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => false,
        Err(error) => panic!("reading: {error}"),
    }
}

/// What the Go agent makes of its default configuration.
const GO_AGENT: &str = "\
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 169.254.0.0/16 -j RETURN
-A IP-MASQ-AGENT -d 10.0.0.0/8 -j RETURN
-A IP-MASQ-AGENT -d 172.16.0.0/12 -j RETURN
-A IP-MASQ-AGENT -d 192.168.0.0/16 -j RETURN
-A IP-MASQ-AGENT -j MASQUERADE --random-fully
COMMIT
";

#[test]
fn the_go_agents_rules_cut_a_live_ssh_session_of_the_gateway() {
    for restore in ["iptables-nft-restore", "iptables-legacy-restore"] {
        let Some(lab) = Lab::build() else { return };
        let mut ssh = Session::open(&lab.outside, &lab.gateway, "203.0.113.1");
        let output = lab.gateway.run_with_input(restore, &["--noflush"], GO_AGENT);
        assert!(output.status.success(), "{restore}: {output:?}");
        assert!(!ssh.says(End::Server), "{restore}: if this passes, the tests below prove nothing");
    }
}

#[test]
fn a_live_session_of_the_gateway_survives_the_first_start() {
    // (where the server listens, whether that is the gateway)
    let servers = [("203.0.113.1", true), ("203.0.113.77", true), ("192.168.77.1", true), ("203.0.113.9", false)];
    for backend in BACKENDS {
        for (address, gateway_listens) in servers {
            for order in [[End::Server, End::Client], [End::Client, End::Server]] {
                let Some(lab) = Lab::build() else { return };
                lab.outside.ip("route add 192.168.77.0/24 via 203.0.113.1\n");
                let (client, server) =
                    if gateway_listens { (&lab.outside, &lab.gateway) } else { (&lab.gateway, &lab.outside) };
                let mut session = Session::open(client, server, address);
                let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
                gateway.apply("");
                let case = format!("{backend}, server at {address}, {order:?}");
                assert!(order.into_iter().all(|end| session.says(end)), "{case}");
                gateway.check(&case, "lan 192.168.77.2 udp 203.0.113.200 203.0.113.1");
            }
        }
    }
}

#[test]
fn with_masq_local_source_the_session_is_cut_as_by_the_go_agent() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let mut session = Session::open(&lab.outside, &lab.gateway, "203.0.113.1");
        Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend).apply("masqLocalSource: true");
        assert!(!session.says(End::Server), "{backend}");
    }
}

/// Stops the service and returns all that it logged.
fn stopped(mut running: Service) -> String {
    running.stop();
    running.log.join("\n")
}

/// What another program has in the kernel: rules that need connection tracking, nat chains; for IPv4 and IPv6.
struct Host {
    name: &'static str,
    rules: &'static [(&'static str, &'static str)],
    /// Something needs connection tracking when our rules are gone.
    tracks: [bool; 2],
    /// A nat chain is there when our rules of the nftables backend are gone. Those of iptables leave one behind: its
    /// table.
    translates: [bool; 2],
}

const NFT_STATE: (&str, &str) =
    ("nft", "table inet fw {\n chain forward {\n type filter hook forward priority 0\n ct state invalid drop\n }\n}\n");
const NFT_NAT: (&str, &str) =
    ("nft", "table inet dstnat {\n chain pre {\n type nat hook prerouting priority -100\n }\n}\n");
const NFT_MASQUERADE: (&str, &str) = (
    "nft",
    "table inet other {\n chain post {\n type nat hook postrouting priority 90\n oifname \"ppp0\" masquerade\n }\n}\n",
);
const STATE: &str = "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";
const EMPTY_NAT: &str = "*nat\nCOMMIT\n";

const BOTH: [bool; 2] = [true, true];
const IPV4: [bool; 2] = [true, false];
const NONE: [bool; 2] = [false, false];

const HOSTS: &[Host] = &[
    Host { name: "nothing else", rules: &[], tracks: NONE, translates: NONE },
    Host { name: "a firewall of nft", rules: &[NFT_STATE], tracks: BOTH, translates: NONE },
    Host { name: "a nat chain", rules: &[NFT_NAT], tracks: NONE, translates: BOTH },
    Host { name: "a firewall of nft and a nat chain", rules: &[NFT_STATE, NFT_NAT], tracks: BOTH, translates: BOTH },
    Host { name: "a masquerade rule", rules: &[NFT_MASQUERADE], tracks: BOTH, translates: BOTH },
    Host {
        name: "a firewall of iptables-nft",
        rules: &[("iptables-nft-restore", STATE)],
        tracks: IPV4,
        translates: NONE,
    },
    Host {
        name: "a firewall of iptables-legacy and its nat table",
        rules: &[("iptables-legacy-restore", STATE), ("iptables-legacy-restore", EMPTY_NAT)],
        tracks: IPV4,
        translates: IPV4,
    },
];

fn put_rules(lab: &Lab, host: &Host) {
    for (program, rules) in host.rules {
        let arguments: &[&str] = if *program == "nft" { &["-f", "-"] } else { &["--noflush"] };
        let output = lab.gateway.run_with_input(program, arguments, rules);
        assert!(output.status.success(), "{}: {output:?}", host.name);
    }
}

#[test]
fn a_stop_says_beforehand_whether_masqueraded_connections_go_on_and_that_is_what_they_do() {
    // Most of the time goes into waiting for packets that must not come.
    std::thread::scope(|scope| {
        for backend in BACKENDS {
            scope.spawn(move || HOSTS.iter().for_each(|host| check_stop(host, *backend)));
        }
    });
}

fn check_stop(host: &Host, backend: BackendName) {
    // (where to, what the far end sees, the LAN source)
    let flows = [("203.0.113.200", "203.0.113.1", "192.168.77.2"), ("2001:db8:5::5", "2001:db8:113::1", "fd00:77::2")];
    let Some(lab) = Lab::build() else { return };
    put_rules(&lab, host);
    let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), backend);
    gateway.agent.configure(&gateway.config(""));
    let running = gateway.agent.start();
    let sessions = flows.map(|(to, seen, _)| {
        let session = Session::open(&lab.lan, &lab.outside, to);
        assert_eq!(session.server.peer_addr().expect("an address").ip(), parse(seen));
        session
    });
    let case = format!("{}, {backend}", host.name);
    let json: serde_json::Value = serde_json::from_str(&gateway.agent.must("status", &["--json"])).expect("JSON");
    let status = gateway.agent.must("status", &[]);
    let (_, said) = status.split_once("       at stop: ").unwrap_or_else(|| panic!("{case}: {status}"));
    let said = said.lines().next().expect("a line");
    let log = stopped(running);
    let at = |part: &str| log.lines().position(|line| line.contains(part));
    let before = at(&format!("stopping: {said}")).zip(at("stopped; the rules are removed"));
    assert!(before.is_some_and(|(said, done)| said < done), "{case}: '{said}' in\n{log}");

    for (place, (mut session, (_, _, source))) in sessions.into_iter().zip(flows).enumerate() {
        let goes_on = host.tracks[place] && (host.translates[place] || backend != BackendName::Nftables);
        let said = &json["at_stop"]["families"][place]["connections"];
        assert_eq!(said, if goes_on { "go-on" } else { "end" }, "{case}: {json}");
        assert_eq!(session.says(End::Client), goes_on, "{case}, {source}, from the client");
        let is_private = |seen: &Seen| seen.protocol == 6 && seen.source == parse(source);
        let leaks = lab.observer.wait_for(SILENCE, is_private).is_some();
        assert_eq!(leaks, !goes_on, "{case}: packets with the source {source}");
        assert_eq!(session.says(End::Server), goes_on, "{case}, {source}, from the server");
    }
}

#[test]
fn with_on_stop_keep_masqueraded_connections_go_on_and_status_says_so() {
    for backend in BACKENDS {
        let Some(lab) = Lab::build() else { return };
        let gateway = Gateway::new(&lab, env!("CARGO_BIN_EXE_ip-masq-agent"), *backend);
        gateway.agent.configure(&gateway.config("onStop: keep"));
        let mut running = gateway.agent.start();
        let mut session = Session::open(&lab.lan, &lab.outside, "203.0.113.200");
        let status = gateway.agent.must("status", &[]);
        assert!(status.contains("       at stop: the rules stay: onStop is 'keep'\n"), "{status}");
        running.stop();
        assert!(session.says(End::Client) && session.says(End::Server), "{backend}");
    }
}
