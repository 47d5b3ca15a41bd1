//! `[kubernetes.NAME]`, and what services say about Kubernetes and about the network.

use recovery::inventory::Probe;
use recovery::service::{Door, Network, Service, SettingPlace, Workload, Writer};

use super::service::{Problem, wrong};
use super::wire;

/// What a job asks by default: whether a server answers; needs no login.
const PROBE_COMMAND: [&str; 7] = ["pg_isready", "-h", "{host}", "-p", "{port}", "-t", "10"];

/// A Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KubernetesConfig {
    /// The context of the kubeconfig.
    pub(crate) context: String,
    /// The kubeconfig; `None`: what kubectl would take.
    pub(crate) kubeconfig: Option<String>,
    /// The UID of namespace kube-system.
    pub(crate) uid: Option<String>,
    /// A job that tries connections.
    pub(crate) probe: Option<Probe>,
}

pub(super) fn cluster(table: &wire::KubernetesTable) -> Result<KubernetesConfig, Problem> {
    if table.context.is_empty() {
        return wrong("context", "is empty");
    }
    if let Some(path) = table.kubeconfig.as_ref().filter(|path| !path.starts_with('/')) {
        return wrong("kubeconfig", format!("expected an absolute path, seen '{path}'"));
    }
    let command = |probe: &wire::ProbeTable| match &probe.command {
        Some(words) => words.clone(),
        None => PROBE_COMMAND.map(str::to_owned).to_vec(),
    };
    if let Some(probe) = &table.probe {
        let words = command(probe);
        if !words.iter().any(|word| word.contains("{host}")) {
            return wrong("probe.command", "expected {host} and {port} in it");
        }
    }
    Ok(KubernetesConfig {
        context: table.context.clone(),
        kubeconfig: table.kubeconfig.clone(),
        uid: table.uid.clone(),
        probe: table.probe.as_ref().map(|probe| Probe {
            namespace: probe.namespace.clone(),
            image: probe.image.clone(),
            command: command(probe),
        }),
    })
}

/// A writer of Kubernetes: exactly one workload.
pub(super) fn writer(
    key: &str,
    context: String,
    table: &wire::WriterTable,
) -> Result<Writer, Problem> {
    let given = [
        (Workload::Deployment, &table.deployment),
        (Workload::StatefulSet, &table.statefulset),
        (Workload::CronJob, &table.cronjob),
    ];
    let mut given = given.into_iter().filter_map(|(kind, name)| Some((kind, name.clone()?)));
    let (Some((kind, object)), None) = (given.next(), given.next()) else {
        return wrong(key, "expected exactly one of: deployment, statefulset, cronjob");
    };
    named(&format!("{key}.{}", kind.text()), &object)?;
    if table.replicas == Some(0) {
        return wrong(&format!("{key}.replicas"), "expected at least 1");
    }
    Ok(Writer::Kubernetes { context, kind, object, replicas: table.replicas })
}

/// The Kubernetes clusters that a service names.
pub(crate) fn contexts(service: &Service) -> Vec<&str> {
    let sites = service.sites.values().map(|site| &site.bindings);
    let drill = service.drill.iter().chain(&service.staging).chain(sites);
    let activated = drill.clone().flat_map(|it| &it.activate).chain(&service.activate);
    let writers = service.writers.iter().chain(drill.clone().flat_map(|it| &it.writers));
    let writers = writers.chain(activated);
    let writers = writers.filter_map(|writer| match writer {
        Writer::Kubernetes { context, .. } => Some(context.as_str()),
        _ => None,
    });
    let settings = service.setting.iter().chain(drill.clone().flat_map(|it| &it.setting));
    let settings = settings.filter_map(|setting| match &setting.place {
        SettingPlace::Kubernetes { context, .. } => Some(context.as_str()),
        _ => None,
    });
    let doors = service.door.iter().chain(drill.flat_map(|it| &it.door));
    let doors = doors.filter_map(|door| match door {
        Door::Kubernetes { context, .. } => Some(context.as_str()),
        _ => None,
    });
    writers.chain(settings).chain(doors).collect()
}

/// `namespace/name`.
pub(super) fn named(key: &str, object: &str) -> Result<(), Problem> {
    match object.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(()),
        _ => wrong(key, format!("expected NAMESPACE/NAME, seen '{object}'")),
    }
}

/// How a restored cluster is reached.
pub(super) fn network(
    key: &str,
    address: Option<&String>,
    listen: Option<&String>,
    (clients, databases): (&[String], &[String]),
) -> Result<Option<Network>, Problem> {
    let Some(address) = address else {
        return match (listen, clients, databases) {
            (None, [], []) => Ok(None),
            _ => wrong(&format!("{key}.address"), "is missing: what applications connect to"),
        };
    };
    if clients.is_empty() {
        let why = "expected the networks of the applications, like [\"10.0.0.0/8\"]";
        return wrong(&format!("{key}.clients"), why);
    }
    if let Some(bad) = clients.iter().find(|client| !is_cidr(client)) {
        let why = format!("expected networks like '10.0.0.0/8', seen '{bad}'");
        return wrong(&format!("{key}.clients"), why);
    }
    // A name may resolve to something else on this host.
    let is_address = address.parse::<std::net::IpAddr>().is_ok();
    let listen = listen.cloned().unwrap_or_else(|| match is_address {
        true => address.clone(),
        false => "*".into(),
    });
    if databases.iter().any(|name| name.is_empty() || name.contains(['\n', '\r'])) {
        return wrong(&format!("{key}.databases"), "expected names of databases, or [\"all\"]");
    }
    let (clients, databases) = (clients.to_vec(), databases.to_vec());
    Ok(Some(Network { address: address.clone(), listen, clients, databases }))
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<std::net::IpAddr>(), bits.parse::<u8>()) {
        (Ok(address), Ok(bits)) => bits <= if address.is_ipv4() { 32 } else { 128 },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_addresses_with_a_length() {
        for good in ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"] {
            assert!(is_cidr(good), "{good}");
        }
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "all", "fd00::/129", "10.0.0.0/8 trust"] {
            assert!(!is_cidr(bad), "{bad}");
        }
    }

    #[test]
    fn an_address_without_clients_and_clients_without_an_address_are_refused() {
        let clients = vec!["10.0.0.0/8".to_owned()];
        let address = "db1.acme.example".to_owned();
        assert!(network("database", Some(&address), None, (&[], &[])).is_err());
        assert!(network("database", None, None, (&clients, &[])).is_err());
        let read = network("database", Some(&address), None, (&clients, &[])).unwrap().unwrap();
        assert_eq!(read.listen, "*");
        let address = "10.1.2.3".to_owned();
        let read = network("database", Some(&address), None, (&clients, &[])).unwrap().unwrap();
        assert_eq!(read.listen, "10.1.2.3");
    }
}
