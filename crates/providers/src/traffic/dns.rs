//! DNS messages to one server: questions over UDP with TCP behind it, or over TCP alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use recovery::effect::Failure;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Longest wait for an answer over TCP.
const TCP_DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for one over UDP, and how often it is asked.
const UDP_DEADLINE: Duration = Duration::from_secs(2);
const UDP_TRIES: usize = 3;

/// Longest answer over UDP that is read: larger ones come truncated (RFC 1035, section 4.2.1).
const UDP_LEN_MAX: usize = 4096;

/// All records of one name and one type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordSet {
    /// How long it may be cached, in seconds.
    pub(super) ttl_s: u32,
    /// What they say, in order; names have their final dot.
    pub(super) values: Vec<String>,
}

impl RecordSet {
    /// For people.
    pub(super) fn describe(&self) -> String {
        self.values.join(", ")
    }
}

/// What is asked for, and changed.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) name: Name,
    pub(super) kind: RecordType,
}

/// A name with its final dot, in lower case.
pub(super) fn name(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|_| format!("'{text}' is no name of DNS"))?;
    name.set_fqdn(true);
    Ok(name.to_lowercase())
}

impl Owner {
    pub(super) fn new(owner: &str, kind: &str) -> Result<Self, String> {
        let kind = match kind {
            "A" => RecordType::A,
            "AAAA" => RecordType::AAAA,
            "CNAME" => RecordType::CNAME,
            other => return Err(format!("a record of type '{other}' cannot be switched")),
        };
        Ok(Self { name: name(owner)?, kind })
    }

    /// What a record of this type says, from its text.
    pub(super) fn data(&self, text: &str) -> Result<RData, String> {
        let wrong = || format!("'{text}' is nothing that a record of type {} says", self.kind);
        Ok(match self.kind {
            RecordType::A => RData::A(A(text.parse::<Ipv4Addr>().map_err(|_| wrong())?)),
            RecordType::AAAA => RData::AAAA(AAAA(text.parse::<Ipv6Addr>().map_err(|_| wrong())?)),
            _ if text.parse::<IpAddr>().is_ok() => return Err(wrong()),
            _ => RData::CNAME(CNAME(name(text)?)),
        })
    }

    /// What a record of this type says, as a text that all sources agree upon.
    pub(super) fn canonical(&self, text: &str) -> Result<String, String> {
        Ok(value(&self.data(text)?))
    }

    /// The records of this name and type in an answer.
    pub(super) fn records_in(&self, answer: &Message) -> Option<RecordSet> {
        let ours = answer.answers.iter().filter(|record| {
            record.record_type() == self.kind && record.name.to_lowercase() == self.name
        });
        let ours: Vec<&Record> = ours.collect();
        let ttl_s = ours.iter().map(|record| record.ttl).max()?;
        let mut values: Vec<String> = ours.iter().map(|record| value(&record.data)).collect();
        values.sort();
        Some(RecordSet { ttl_s, values })
    }

    /// Records for a message.
    pub(super) fn records(
        &self,
        values: &[String],
        ttl_s: u32,
        class: DNSClass,
    ) -> Result<Vec<Record>, Failure> {
        let record = |text: &String| {
            let data = self.data(text).map_err(|why| Failure::terminal("RF1164", why))?;
            let mut record = Record::from_rdata(self.name.clone(), ttl_s, data);
            record.dns_class = class;
            Ok(record)
        };
        values.iter().map(record).collect()
    }
}

fn value(data: &RData) -> String {
    match data {
        RData::CNAME(CNAME(target)) => target.to_lowercase().to_ascii(),
        other => other.to_string(),
    }
}

/// A question.
fn question(name: &Name, kind: RecordType, is_recursive: bool) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = is_recursive;
    let mut query = Query::new();
    query.set_name(name.clone());
    query.set_query_type(kind);
    message.add_query(query);
    message
}

/// An update of a zone (RFC 2136): prerequisites stand where answers do, changes where
/// authorities do.
pub(super) fn update(zone: &Name, prerequisites: Vec<Record>, changes: Vec<Record>) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    let mut query = Query::new();
    query.set_name(zone.clone());
    query.set_query_type(RecordType::SOA);
    message.add_query(query);
    message.add_answers(prerequisites);
    message.add_authorities(changes);
    message
}

/// The addresses of a server.
pub(super) async fn addresses(server: &str) -> Result<Vec<SocketAddr>, Failure> {
    let unknown = |why: String| {
        Failure::retry("RF1161", format!("DNS server '{server}' cannot be found: {why}"))
    };
    let found =
        tokio::net::lookup_host(server).await.map_err(|error| unknown(error.to_string()))?;
    let found: Vec<SocketAddr> = found.collect();
    match found.is_empty() {
        true => Err(unknown("it has no address".into())),
        false => Ok(found),
    }
}

/// Asks a resolver: over UDP, again when nothing comes, over TCP when the answer is too long.
pub(super) async fn resolve(
    resolver: &str,
    name: &Name,
    kind: RecordType,
) -> Result<Message, Failure> {
    let server =
        *addresses(resolver).await?.first().ok_or_else(|| silent(resolver, "no address"))?;
    let message = question(name, kind, true);
    let bytes = encode(&message)?;
    let mut why = String::new();
    for _ in 0..UDP_TRIES {
        let asked = tokio::time::timeout(UDP_DEADLINE, over_udp(server, &bytes, message.id)).await;
        match asked {
            Ok(Ok(answer)) if answer.truncation => {
                let (answer, _) = over_tcp(&[server], resolver, &bytes, message.id).await?;
                return Ok(answer);
            }
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no answer within {} s", UDP_DEADLINE.as_secs()),
        }
    }
    Err(silent(resolver, &why))
}

/// Asks the server of a zone, over TCP.
pub(super) async fn ask(server: &str, name: &Name, kind: RecordType) -> Result<Message, Failure> {
    let message = question(name, kind, false);
    let addresses = addresses(server).await?;
    let (answer, _) = over_tcp(&addresses, server, &encode(&message)?, message.id).await?;
    Ok(answer)
}

fn silent(server: &str, why: &str) -> Failure {
    Failure::ambiguous("RF1161", format!("DNS server '{server}' does not answer: {why}"))
        .hint(format!("does it run, and may this host reach it? `dig @{server}`"))
}

/// A message as bytes.
pub(super) fn encode(message: &Message) -> Result<Vec<u8>, Failure> {
    message.to_vec().map_err(|error| {
        Failure::terminal("RF1001", format!("a message of DNS cannot be written: {error}"))
    })
}

async fn over_udp(server: SocketAddr, bytes: &[u8], id: u16) -> std::io::Result<Message> {
    let from: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; UDP_LEN_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not answer this question is somebody's noise.
        let answer = buffer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
        if let Some(answer) = answer.filter(|answer| answer.id == id) {
            return Ok(answer);
        }
    }
}

/// Sends a message over TCP; the answer, and its bytes for its signature. When no connection comes
/// about, surely nothing happened.
pub(super) async fn over_tcp(
    addresses: &[SocketAddr],
    server: &str,
    bytes: &[u8],
    id: u16,
) -> Result<(Message, Vec<u8>), Failure> {
    let mut stream = match tokio::time::timeout(TCP_DEADLINE, TcpStream::connect(addresses)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let failure = silent(server, &error.to_string());
            return Err(Failure { class: recovery::journal::FailureClass::Retry, ..failure });
        }
        Err(_) => {
            let failure = silent(server, "no connection in time");
            return Err(Failure { class: recovery::journal::FailureClass::Retry, ..failure });
        }
    };
    let length = u16::try_from(bytes.len())
        .map_err(|_| Failure::terminal("RF1001", "a message of DNS is too long"))?;
    let talk = async {
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(TCP_DEADLINE, talk).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(silent(server, &error.to_string())),
        Err(_) => {
            let why = format!("no answer within {} s", TCP_DEADLINE.as_secs());
            return Err(silent(server, &why));
        }
    };
    match Message::from_vec(&answer) {
        Ok(message) if message.id == id => Ok((message, answer)),
        Ok(_) => Err(silent(server, "its answer is to another question")),
        Err(error) => Err(silent(server, &format!("its answer cannot be read: {error}"))),
    }
}

/// The name of an answer's code, as tools print it.
pub(super) fn code(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        other => other.to_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_records_say_is_written_in_one_way() {
        let check = |kind: &str, text: &str, expect: Result<&str, ()>| {
            let owner = Owner::new("www.acme.example", kind).unwrap();
            let seen = owner.canonical(text).map_err(drop);
            assert_eq!(seen.as_deref(), expect.as_ref().map(|text| *text), "{kind} {text}");
        };
        check("CNAME", "DR.acme.Example", Ok("dr.acme.example."));
        check("CNAME", "dr.acme.example.", Ok("dr.acme.example."));
        check("CNAME", "10.0.0.1", Err(()));
        check("A", "10.0.0.1", Ok("10.0.0.1"));
        check("A", "dr.acme.example", Err(()));
        check("AAAA", "2001:DB8:0::1", Ok("2001:db8::1"));
        check("AAAA", "10.0.0.1", Err(()));
        assert!(Owner::new("www.acme.example", "TXT").is_err());
        assert!(Owner::new(&"a".repeat(64), "A").is_err());
    }
}
