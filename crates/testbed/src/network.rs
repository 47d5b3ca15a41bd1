//! Another site: a network of its own, joined to ours by a wire that can be cut.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Port, poll};

/// Addresses of the wires, four for each: 10.200.0.0 and what follows.
const FIRST: u32 = 0x0AC8_0000;

/// Hardware addresses of our end and of the far one.
const OURS: &str = "02:00:00:00:00:01";
const THEIRS: &str = "02:00:00:00:00:02";

/// One that nobody has.
const NOBODY: &str = "02:00:00:00:00:ff";

const DEADLINE: Duration = Duration::from_secs(30);

/// Longest wait for one connection over the wire.
const SOON: Duration = Duration::from_millis(500);

/// What keeps the far network there: it says that it is ready, and stays until its input ends.
const STAY: &str = "ip link set lo up && echo ready && exec cat";

/// A network with its own addresses, loopback and ports, joined to the test's by one wire.
///
/// What is started in it (see [`inside`](Self::inside)) reaches the test's network at
/// [`outside`](Self::outside), and is reached at [`address`](Self::address), as long as the wire
/// is whole. It shares files, processes and Unix sockets with everything else.
///
/// ```no_run
/// let network = testbed::Network::new();
/// let s3 = network.inside(|| testbed::S3::at(network.address()));
/// network.cut(); // packets get lost from now on, both ways: connections neither open nor end
/// network.mend();
/// # drop(s3);
/// ```
#[derive(Debug)]
pub struct Network {
    holder: Child,
    space: File,
    device: String,
    /// A number that nobody else on this machine has.
    number: Port,
}

impl Network {
    /// Makes one, joined.
    ///
    /// # Panics
    /// When that is not allowed: it needs to be root.
    #[expect(clippy::new_without_default, reason = "it makes something of the machine")]
    pub fn new() -> Self {
        let number = Port::reserve();
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", STAY]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("make a network: is this root?");
        let mut line = String::new();
        let output = holder.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("hear that it is there");
        assert_eq!(line, "ready\n", "a network of its own: is this root?");
        let path = format!("/proc/{}/ns/net", holder.id());
        let space = File::open(path).expect("open the network");
        let device = format!("rf{}", number.number());
        let network = Self { holder, space, device, number };
        network.join();
        network
    }

    /// Its address, as seen from both sides.
    pub fn address(&self) -> Ipv4Addr {
        self.host(2)
    }

    /// The address of the test's network, as seen from both sides.
    pub fn outside(&self) -> Ipv4Addr {
        self.host(1)
    }

    /// Does something inside: every process and thread that it starts stays there.
    ///
    /// # Panics
    /// When `what` does.
    pub fn inside<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.space.as_fd(), kind).expect("enter the network");
            what()
        };
        let ended = thread::scope(|scope| scope.spawn(run).join());
        ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Cuts the wire: what is sent gets lost, both ways, and nobody is told.
    ///
    /// # Panics
    /// When it cannot be cut.
    pub fn cut(&self) {
        self.neighbours(NOBODY, NOBODY);
    }

    /// Makes the wire whole again.
    ///
    /// # Panics
    /// When it cannot be mended.
    pub fn mend(&self) {
        self.neighbours(THEIRS, OURS);
    }

    fn host(&self, last: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(FIRST + u32::from(self.number.number()) * 4 + last)
    }

    fn join(&self) {
        let pid = self.holder.id().to_string();
        let device = self.device.as_str();
        ip(
            &["link", "add", device, "address", OURS, "type", "veth"],
            &["peer", "name", device, "address", THEIRS, "netns", &pid],
        );
        self.bring_up(self.outside());
        self.inside(|| self.bring_up(self.address()));
        self.mend();
        // A new wire takes a moment, and loses what is sent before.
        let there = self.inside(|| TcpListener::bind((self.address(), 0))).expect("listen there");
        let there = there.local_addr().map(|it| (it, there)).expect("its port");
        poll(DEADLINE, "the wire", || TcpStream::connect_timeout(&there.0, SOON).is_ok());
    }

    fn bring_up(&self, address: Ipv4Addr) {
        ip(&["addr", "add", &format!("{address}/30")], &["dev", &self.device]);
        ip(&["link", "set", &self.device, "up"], &[]);
    }

    /// Says for good which hardware each side sends to.
    fn neighbours(&self, from_us: &str, from_them: &str) {
        let set = |address: Ipv4Addr, hardware: &str| {
            let address = address.to_string();
            let dev = ["dev", &self.device, "nud", "permanent"];
            ip(&["neigh", "replace", &address, "lladdr", hardware], &dev);
        };
        set(self.address(), from_us);
        self.inside(|| set(self.outside(), from_them));
    }
}

impl Drop for Network {
    // The wire goes with the last of both networks; it is ours that stays.
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.device]).status();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn ip(words: &[&str], more: &[&str]) {
    let output = Command::new("ip").args(words).args(more).output().expect("run ip");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words:?} {more:?}: {said}");
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_cut_wire_loses_everything_and_a_whole_one_nothing() {
        let network = Network::new();
        let at = |address| SocketAddr::from((address, 4000));
        let there = network.inside(|| TcpListener::bind(at(network.address())).unwrap());
        let here = TcpListener::bind(at(network.outside())).unwrap();
        let out = || TcpStream::connect_timeout(&at(network.address()), SOON);
        let back = || network.inside(|| TcpStream::connect_timeout(&at(network.outside()), SOON));
        assert!(out().is_ok() && back().is_ok());
        network.cut();
        assert_eq!(out().unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(back().unwrap_err().kind(), ErrorKind::TimedOut);
        let own = || TcpStream::connect_timeout(&at(network.address()), SOON);
        assert!(network.inside(own).is_ok(), "it lives on for itself");
        network.mend();
        assert!(out().is_ok() && back().is_ok());
        drop((there, here));
    }

    #[test]
    fn ports_of_both_networks_are_apart() {
        let network = Network::new();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, Port::reserve().number()));
        let here = TcpListener::bind(address).unwrap();
        assert!(network.inside(|| TcpListener::bind(address)).is_ok());
        drop(here);
    }
}
