//! Connections of the gateway's own that were there before the service was: the administrator's ssh.
//!
//! Conntrack works in a network namespace only from the first rule on that needs it. The first packet that it sees of
//! an older connection is new to it, in whichever direction it goes (nf_conntrack_tcp_loose), and so passes the nat
//! rules. If these give it another source port, the peer no longer knows the connection.

mod lab;

use lab::{BACKENDS, Gateway, Lab, Namespace, SILENCE, parse};
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
