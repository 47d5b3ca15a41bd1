//! Whether a container is ready.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{entries, text};
use crate::account::as_postgres;

/// Less than Kubernetes' second: all pods wait for each other here.
const TIMEOUT: Duration = Duration::from_millis(500);

/// Returns whether the container `spec`, whose pod has `address`, is ready: it is when nothing is
/// declared.
pub(super) fn is_ready(spec: &Value, address: &str, folder: &Path) -> bool {
    let Some(probe) = spec.get("readinessProbe") else { return true };
    if let Some(target) = probe.get("httpGet") {
        answers_http(spec, target, address).unwrap_or(false)
    } else if let Some(target) = probe.get("tcpSocket") {
        connect(spec, target, address).is_ok()
    } else {
        runs(entries(probe, "/exec/command"), folder)
    }
}

fn connect(spec: &Value, target: &Value, address: &str) -> io::Result<TcpStream> {
    let host: IpAddr =
        text(target, "/host").unwrap_or(address).parse().map_err(io::Error::other)?;
    let port = port(spec, target).ok_or_else(|| io::Error::other("no such port"))?;
    let stream = TcpStream::connect_timeout(&SocketAddr::from((host, port)), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// A number, or the name of one of the container's ports.
fn port(spec: &Value, target: &Value) -> Option<u16> {
    let port = target.get("port")?;
    let named = |name: &str| {
        let ports = entries(spec, "/ports").iter();
        ports.clone().find(|port| text(port, "/name") == Some(name))?.get("containerPort")?.as_u64()
    };
    let number = port.as_u64().or_else(|| named(port.as_str()?))?;
    u16::try_from(number).ok()
}

/// Any status from 200 to 399 is a yes.
fn answers_http(spec: &Value, target: &Value, address: &str) -> io::Result<bool> {
    let mut stream = connect(spec, target, address)?;
    let path = text(target, "/path").unwrap_or("/");
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes())?;
    let mut begun = [0; "HTTP/1.0 200".len()];
    stream.read_exact(&mut begun)?;
    Ok(matches!(begun, [.., b' ', b'2' | b'3', _, _]))
}

fn runs(words: &[Value], folder: &Path) -> bool {
    let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
    let [program, arguments @ ..] = words.as_slice() else { return false };
    let mut command = Command::new(program);
    as_postgres(&mut command).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
