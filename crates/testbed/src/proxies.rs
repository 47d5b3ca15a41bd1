//! Proxies that lead users to one site or another: HAProxy and nginx.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use crate::daemon::Daemon;
use crate::{Port, Workdir};

/// The body of a page of 127.0.0.1; `None`: there is none.
fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.trim().to_owned())
}

/// HAProxy with a backend `shop`: servers `a` and `b` of the first site, `dr` of the standby site,
/// which is in maintenance. Each answers with its name.
#[derive(Debug)]
pub struct HaProxy {
    folder: Workdir,
    front: Port,
    stats: Port,
    _servers: Vec<Port>,
    daemon: Daemon,
}

impl HaProxy {
    /// A proxy whose servers all run.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        Self::with(true)
    }

    /// One whose standby server does not run, and is checked.
    ///
    /// # Panics
    /// When it does not start.
    pub fn without_standby() -> Self {
        Self::with(false)
    }

    fn with(is_standby_there: bool) -> Self {
        let folder = Workdir::new();
        let (front, stats) = (Port::reserve(), Port::reserve());
        let names = ["a", "b", "dr"];
        let ports = names.map(|_| Port::reserve());
        let mut text = format!(
            "global\n stats socket {folder}/admin.sock mode 666 level admin\n \
             stats socket ipv4@127.0.0.1:{} level admin\n \
             stats socket {folder}/reader.sock mode 666 level operator\n\
             defaults\n mode http\n timeout connect 2s\n timeout client 30s\n timeout server 30s\n\
             frontend users\n bind 127.0.0.1:{}\n default_backend shop\n\
             backend shop\n balance roundrobin\n",
            stats.number(),
            front.number(),
            folder = folder.path().display(),
        );
        for (name, port) in names.iter().zip(&ports) {
            let options = match *name {
                "dr" => " check inter 200ms fall 1 disabled",
                _ => "",
            };
            text.push_str(&format!(" server {name} 127.0.0.1:{}{options}\n", port.number()));
        }
        for (name, port) in names.iter().zip(&ports) {
            if *name != "dr" || is_standby_there {
                text.push_str(&format!(
                    "frontend is_{name}\n bind 127.0.0.1:{}\n \
                     http-request return status 200 content-type text/plain string {name}\n",
                    port.number()
                ));
            }
        }
        let config = folder.file("haproxy.cfg", text);
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(config);
        let mut daemon = Daemon::start(&folder, "haproxy", &mut command);
        let number = front.number();
        daemon.wait("HAProxy", || get(number).is_some());
        Self { folder, front, stats, _servers: ports.into(), daemon }
    }

    /// The socket that may do everything.
    pub fn socket(&self) -> String {
        self.folder.join("admin.sock").display().to_string()
    }

    /// The same over TCP.
    pub fn tcp_socket(&self) -> String {
        format!("127.0.0.1:{}", self.stats.number())
    }

    /// A socket that may not change the state of servers.
    pub fn reader_socket(&self) -> String {
        self.folder.join("reader.sock").display().to_string()
    }

    /// Somebody else's command.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn tell(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("HAProxy's socket");
        writeln!(stream, "{command}").expect("write a command");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read an answer");
        answer
    }

    /// Which servers answer users.
    pub fn answers(&self) -> Vec<String> {
        let mut seen: Vec<String> = (0..8).filter_map(|_| get(self.front.number())).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    /// Ends it: nobody answers any more.
    pub fn stop(&mut self) {
        self.daemon.end();
    }
}

/// nginx that includes `upstream.inc`, which names one of two sites; `standby.inc` names the other
/// one, `primary.inc` the first one again.
#[derive(Debug)]
pub struct Nginx {
    folder: Workdir,
    front: SocketAddr,
    /// Kept from others as long as it runs.
    ports: Vec<Port>,
    daemon: Daemon,
}

impl Nginx {
    /// A proxy that leads to `primary`; each site answers with its name.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let ports = [Port::reserve(), Port::reserve()];
        let addresses = ports.each_ref().map(|port| (Ipv4Addr::LOCALHOST, port.number()).into());
        let site = |name: &str, address: SocketAddr| {
            format!(" server {{ listen {address}; location / {{ return 200 {name}; }} }}\n")
        };
        let [primary, standby] = addresses;
        let sites = site("primary", primary) + &site("standby", standby);
        let own = Ipv4Addr::LOCALHOST;
        let mut nginx = Self::with(own, own, addresses, &sites);
        nginx.ports.extend(ports);
        let front = nginx.front.port();
        nginx.daemon.wait("nginx to answer", || get(front).is_some());
        nginx
    }

    /// A proxy on every interface, known by an address, that leads to the first of two sites:
    /// servers of somebody else, who may be away.
    ///
    /// # Panics
    /// When it does not start.
    pub fn leading(address: Ipv4Addr, sites: [SocketAddr; 2]) -> Self {
        Self::with(Ipv4Addr::UNSPECIFIED, address, sites, "")
    }

    fn with(listen: Ipv4Addr, address: Ipv4Addr, sites: [SocketAddr; 2], servers: &str) -> Self {
        let (folder, port) = (Workdir::new(), Port::reserve());
        let front = SocketAddr::from((address, port.number()));
        let [primary, standby] = sites.map(|site| format!("upstream shop {{ server {site}; }}\n"));
        for (name, upstream) in
            [("upstream", &primary), ("primary", &primary), ("standby", &standby)]
        {
            folder.file(format!("{name}.inc"), upstream);
        }
        let at = folder.path().display();
        let config = folder.file(
            "nginx.conf",
            format!(
                "daemon off;\npid {at}/nginx.pid;\nerror_log {at}/error.log;\nworker_processes 1;\n\
                 events {{ worker_connections 64; }}\nhttp {{\n access_log off;\n \
                 client_body_temp_path {at}/t1;\n proxy_temp_path {at}/t2;\n \
                 fastcgi_temp_path {at}/t3;\n uwsgi_temp_path {at}/t4;\n scgi_temp_path {at}/t5;\n \
                 include {at}/upstream.inc;\n{servers} server {{ listen {listen}:{}; \
                 location / {{ proxy_pass http://shop; proxy_connect_timeout 1s; }} }}\n}}\n",
                port.number()
            ),
        );
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-e").arg(folder.join("error.log")).arg("-c").arg(config);
        let mut daemon = Daemon::start(&folder, "nginx", &mut command);
        let pid = folder.join("nginx.pid");
        daemon.wait("nginx", || TcpStream::connect(front).is_ok() && pid.exists());
        Self { folder, front, ports: vec![port], daemon }
    }

    /// A file of its folder: `upstream.inc`, `standby.inc`, `primary.inc`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A command for this nginx: `-t`, or `-s reload`. As the user that it runs as.
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        let log = self.folder.join("error.log").display().to_string();
        let config = self.folder.join("nginx.conf").display().to_string();
        let mut all: Vec<String> = vec!["/usr/sbin/nginx".into(), "-e".into(), log];
        all.extend(["-c".into(), config]);
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all
    }

    /// Where users ask.
    pub fn url(&self) -> String {
        format!("http://{}/", self.front)
    }

    /// Which site answers users.
    pub fn answers(&self) -> Option<String> {
        get(self.front.port())
    }
}

impl Drop for Nginx {
    // Its workers end with it when it is asked; killed, it would leave them.
    fn drop(&mut self) {
        self.daemon.leave();
    }
}
