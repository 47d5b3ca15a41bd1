//! What a person types when nothing does it for them. Lines follow each other; names with a `$` are
//! set by the person before, and the runbook says to what.

use super::build::shell;
use super::cluster::Site;
use super::dump;
use super::kubernetes::kubectl;
use crate::inventory::Probe;
use crate::plan::Target;
use crate::service::{LocalCluster, Network, SettingPlace, Validation, Workload};

fn words(words: &[&str]) -> String {
    shell(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
}

fn program(cluster: &LocalCluster, name: &str) -> String {
    let path = cluster.bin_directory.as_ref().map(|folder| format!("{folder}/{name}"));
    words(&[&path.unwrap_or_else(|| name.to_owned())])
}

/// Stops the old server, and keeps whoever starts it again from success: it cannot write its lock.
pub(super) fn fence(cluster: &LocalCluster) -> String {
    let (pg_ctl, directory) = (program(cluster, "pg_ctl"), words(&[&cluster.data_directory]));
    format!(
        "{pg_ctl} -D {directory} stop -m fast\nchmod u-w {directory}\n\
         {pg_ctl} -D {directory} status"
    )
}

/// The cluster's connection, to its own database or to another one.
pub(super) fn connected(cluster: &LocalCluster, database: Option<&str>) -> String {
    let connection = &cluster.connection;
    // The service's own database cannot be the one that it is renamed from.
    let own = connection.split_whitespace().find_map(|it| it.strip_prefix("dbname="));
    let own = own.map(|own| own.trim_matches('\''));
    let is_service = own.is_none_or(|own| Some(own) == cluster.database.as_deref());
    // As in libpq the last one of a keyword wins.
    match database.or(is_service.then_some("postgres")) {
        Some(database) if connection.contains("://") => {
            let separator = if connection.contains('?') { '&' } else { '?' };
            format!("{connection}{separator}dbname={}", encoded(database))
        }
        Some(database) if database.chars().all(|c| c.is_alphanumeric() || c == '_') => {
            format!("{connection} dbname={database}")
        }
        Some(database) => {
            let value = database.replace('\\', r"\\").replace('\'', r"\'");
            format!("{connection} dbname='{value}'")
        }
        None => connection.clone(),
    }
}

/// A value in an address.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// SQL in a database of the server that runs.
pub(super) fn in_database(cluster: &LocalCluster, database: &str, sql: &str) -> String {
    psql(cluster, Some(database), &[sql])
}

/// Several statements of one `psql` are one transaction.
fn psql(cluster: &LocalCluster, database: Option<&str>, sql: &[&str]) -> String {
    let sql = sql.join("; ");
    let connection = connected(cluster, database);
    format!("{} -X {} -c {}", program(cluster, "psql"), words(&[&connection]), words(&[&sql]))
}

fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn ended(database: &str) -> String {
    format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}'",
        database.replace('\'', "''")
    )
}

/// One database takes no sessions any more.
pub(super) fn fence_database(cluster: &LocalCluster, database: &str) -> String {
    let refuse = format!("alter database {} allow_connections false", name(database));
    [psql(cluster, None, &[&refuse]), psql(cluster, None, &[&ended(database)])].join("\n")
}

/// The restored database gets the name of the old one, and what belongs to it.
pub(super) fn rename_database(
    cluster: &LocalCluster,
    database: &str,
    kept: &str,
    new: &str,
) -> String {
    let (old, kept, restored) = (name(database), name(kept), name(new));
    let rights = psql(
        cluster,
        None,
        &[&format!(
            "select datname, datdba::regrole, datconnlimit, datacl, (select array_agg(setconfig) \
         from pg_db_role_setting where setdatabase = d.oid) from pg_database d \
         where datname in ('{}', '{}')",
            database.replace('\'', "''"),
            new.replace('\'', "''"),
        )],
    );
    let renamed = [
        &*format!("alter database {old} rename to {kept}"),
        &*format!("alter database {restored} rename to {old}"),
    ];
    [rights, psql(cluster, None, &[&ended(new)]), psql(cluster, None, &renamed)].join("\n")
}

impl Site<'_> {
    /// The restored cluster, asked as whoever may enter its directory; or the database beside the
    /// old one.
    fn psql(&self, sql: &str) -> String {
        let cluster = &self.place.cluster;
        if let (Target::Dump(_), Some(database)) = (&self.choice.target, &cluster.database) {
            return in_database(cluster, &dump::restored(database, self.inventory), sql);
        }
        let user = cluster.connection.split_whitespace().find_map(|it| it.strip_prefix("user="));
        let user = user.map_or_else(String::new, |user| format!(" -U {}", words(&[user])));
        format!(
            "{} -X -h {} -p \"$PORT\"{user} -d {} -c {}",
            program(cluster, "psql"),
            words(&[&self.restored()]),
            words(&[cluster.database.as_deref().unwrap_or("postgres")]),
            words(&[sql])
        )
    }

    /// Where the restored cluster is.
    fn restored(&self) -> String {
        self.directory(self.service.drill.as_ref())
    }

    /// The database's own tables, as the service declares them.
    pub(super) fn prove_by_hand(&self, validation: &Validation) -> String {
        let mut lines = vec![self.psql("select pg_is_in_recovery(), version()")];
        for (table, check) in &validation.tables {
            let newest = check.newest.as_ref().map(|column| format!(", max({column})"));
            let sql = format!("select count(*){} from {table}", newest.unwrap_or_default());
            lines.push(self.psql(&sql));
        }
        lines.join("\n")
    }

    /// Who is in the restored database.
    pub(super) fn sessions_by_hand(&self) -> String {
        let sql = "select usename, client_addr, count(*) from pg_stat_activity \
             where datname = current_database() and pid <> pg_backend_pid() group by 1, 2";
        let cluster = &self.place.cluster;
        match (&self.choice.target, &cluster.database) {
            // It has the service's name by now.
            (Target::Dump(_), Some(database)) => in_database(cluster, database, sql),
            _ => self.psql(sql),
        }
    }

    /// The restored cluster listens, and lets these in.
    pub(super) fn open_network_by_hand(&self, network: &Network) -> String {
        let directory = self.restored();
        let databases = network.hba_databases(self.place.cluster.database.as_ref());
        let line = |client| format!("host {databases} all {client} scram-sha-256");
        let lines: Vec<String> = network.clients.iter().map(line).collect();
        let listen = match network.listen.as_str() {
            "*" | "0.0.0.0" | "::" => network.listen.clone(),
            address => format!("127.0.0.1,{address}"),
        };
        let sql = format!("alter system set listen_addresses = '{}'", listen.replace('\'', "''"));
        format!(
            "printf '%s\\n' {} >>{}\n{}\n{} -D {} -l {} restart",
            shell(&lines),
            words(&[&format!("{directory}/rollforward.hba.conf")]),
            self.psql(&sql),
            program(&self.place.cluster, "pg_ctl"),
            words(&[&directory]),
            words(&[&format!("{directory}.log")])
        )
    }
}

/// A connection is tried from where the pods are.
pub(super) fn reach(context: &str, probe: &Probe, network: &Network) -> String {
    let namespace = kubectl(context, &probe.namespace);
    let tried = probe.command.iter().map(|word| {
        let word = words(&[&word.replace("{host}", &network.address)]);
        // What has braces is quoted: out of that, and into it again.
        word.replace("'{port}'", "\"$PORT\"").replace("{port}", "'\"$PORT\"'")
    });
    let job = "rollforward-by-hand";
    format!(
        "{namespace} create job {job} --image={} -- {}\n\
         {namespace} wait --for=condition=complete job/{job} --timeout=2m\n\
         {namespace} delete job {job}",
        words(&[&probe.image]),
        tried.collect::<Vec<_>>().join(" ")
    )
}

/// The setting, by way of a file: nothing but `$OLD` changes in it.
pub(super) fn switch(place: &SettingPlace) -> Option<String> {
    let changed = "sed -i \"s|$OLD|$NEW|\" new-value; diff old-value new-value";
    match place {
        SettingPlace::File { path, .. } => {
            let (path, before) = (words(&[path]), words(&[&format!("{path}.before")]));
            Some(format!(
                "cp -p {path} {before}\nsed -i \"s|$OLD|$NEW|\" {path}; diff {before} {path}"
            ))
        }
        SettingPlace::Kubernetes { context, kind, object, key, .. } => {
            let (namespace, name) = object.split_once('/').unwrap_or(("default", object));
            let (make, decode) = match *kind {
                "secret" => ("secret generic", " | base64decode"),
                _ => ("configmap", ""),
            };
            let template = format!("go-template={{{{index .data \"{key}\"{decode}}}}}");
            let (kubectl, name) = (kubectl(context, namespace), words(&[name]));
            Some(format!(
                "umask 077; {kubectl} get {kind} {name} -o {} >old-value && \
                 cp old-value new-value\n{changed}\n\
                 {kubectl} create {make} {name} {} --dry-run=client -o yaml | \
                 {kubectl} apply --server-side --force-conflicts {} -f -",
                words(&[&template]),
                words(&[&format!("--from-file={key}=new-value")]),
                // An owner for each key: applying one must not take away another.
                words(&[&format!("--field-manager=by-hand:{key}")])
            ))
        }
        SettingPlace::AwsSecret { .. }
        | SettingPlace::Vercel { .. }
        | SettingPlace::AppConfiguration { .. } => None,
    }
}

/// Stops or starts a workload.
pub(super) fn scale(
    context: &str,
    kind: Workload,
    object: &str,
    replicas: Option<u64>,
    starts: bool,
) -> String {
    let (namespace, name) = object.split_once('/').unwrap_or(("default", object));
    let (kubectl, name) = (kubectl(context, namespace), words(&[name]));
    let replicas = replicas.map_or_else(|| "\"$REPLICAS\"".to_owned(), |it| it.to_string());
    match kind {
        Workload::CronJob => {
            let patch = format!("{{\"spec\":{{\"suspend\":{}}}}}", !starts);
            let patched = format!("{kubectl} patch cronjob {name} -p {}", words(&[&patch]));
            if starts { patched } else { format!("{patched}\n{kubectl} get jobs,pods") }
        }
        Workload::Deployment | Workload::StatefulSet if starts => format!(
            "{kubectl} scale {kind} {name} --replicas={replicas}\n\
             {kubectl} rollout status {kind} {name} --timeout=10m",
            kind = kind.text()
        ),
        Workload::Deployment | Workload::StatefulSet => format!(
            "{kubectl} get {kind} {name} -o wide\n\
             {kubectl} scale {kind} {name} --replicas=0\n\
             {kubectl} wait --for=delete pod -l \"$SELECTOR\" --timeout=5m; \
             {kubectl} get pods -l \"$SELECTOR\"",
            kind = kind.text()
        ),
    }
}

/// Lets what manages objects wait, or go on.
pub(super) fn manager(context: &str, manager: &str, object: &str, waits: bool) -> Option<String> {
    let (namespace, name) = object.split_once('/').unwrap_or(("default", object));
    let (kubectl, name) = (kubectl(context, namespace), words(&[name]));
    let suspend = format!("{{\"spec\":{{\"suspend\":{waits}}}}}");
    let patch = |plural: &str, patch: &str| {
        format!("{kubectl} patch {plural} {name} --type merge -p {}", words(&[patch]))
    };
    match (manager, waits) {
        ("flux-kustomization", _) => {
            Some(patch("kustomizations.kustomize.toolkit.fluxcd.io", &suspend))
        }
        ("flux-helmrelease", _) => Some(patch("helmreleases.helm.toolkit.fluxcd.io", &suspend)),
        ("argocd", true) => {
            let applications = "applications.argoproj.io";
            let wait = patch(applications, "{\"spec\":{\"syncPolicy\":{\"automated\":null}}}");
            let look =
                format!("{kubectl} get {applications} {name} -o jsonpath='{{.spec.syncPolicy}}'");
            Some(format!("{look}\n{wait}"))
        }
        // What stood there was shown when it was paused.
        ("argocd", false) => Some(format!("{kubectl} edit applications.argoproj.io {name}")),
        ("keda", _) => {
            let paused = if waits { "paused=true" } else { "paused-" };
            Some(format!(
                "{kubectl} annotate --overwrite scaledobjects.keda.sh {name} \
                 autoscaling.keda.sh/{paused}"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_stays_a_name_in_quoted_and_in_plain_words() {
        let network = Network {
            address: "db 1".into(),
            listen: "*".into(),
            clients: Vec::new(),
            databases: Vec::new(),
        };
        let probe = Probe {
            namespace: "odoo".into(),
            image: "postgres:16".into(),
            command: ["try", "{port}", "-h", "{host}:{port}"].map(str::to_owned).to_vec(),
        };
        let lines = reach("prod", &probe, &network);
        assert_eq!(
            lines.lines().next().unwrap(),
            "kubectl --context prod -n odoo create job rollforward-by-hand --image=postgres:16 \
             -- try \"$PORT\" -h 'db 1:'\"$PORT\"''"
        );
    }

    #[test]
    fn secrets_are_decoded_and_only_their_key_is_written() {
        let place = |kind| SettingPlace::Kubernetes {
            context: "prod".into(),
            kind,
            object: "odoo/db".into(),
            key: "DATABASE_URL".into(),
            inside: None,
        };
        let lines = switch(&place("secret")).unwrap();
        assert!(lines.contains("'go-template={{index .data \"DATABASE_URL\" | base64decode}}'"));
        assert!(lines.contains("create secret generic db --from-file=DATABASE_URL=new-value"));
        assert!(
            lines.ends_with("--force-conflicts --field-manager=by-hand:DATABASE_URL -f -"),
            "a second key is another owner's: {lines}"
        );
        let lines = switch(&place("configmap")).unwrap();
        assert!(lines.contains("'go-template={{index .data \"DATABASE_URL\"}}'"), "{lines}");
        assert!(lines.contains("create configmap db --from-file=DATABASE_URL=new-value"));
    }

    #[test]
    fn workloads_and_their_managers_wait_and_go_on() {
        let scaled = |kind, starts| scale("prod", kind, "odoo/odoo", Some(3), starts);
        let kubectl = "kubectl --context prod -n odoo";
        assert_eq!(
            scaled(Workload::StatefulSet, true),
            format!(
                "{kubectl} scale statefulset odoo --replicas=3\n\
                 {kubectl} rollout status statefulset odoo --timeout=10m"
            )
        );
        let suspended =
            format!("{kubectl} patch cronjob odoo -p '{{\"spec\":{{\"suspend\":true}}}}'");
        assert_eq!(
            scaled(Workload::CronJob, false),
            format!("{suspended}\n{kubectl} get jobs,pods")
        );
        let told = |name, waits| manager("prod", name, "odoo/odoo", waits).unwrap();
        assert!(told("argocd", true).ends_with("{\"automated\":null}}}'"));
        assert!(told("argocd", false).contains(" edit "), "a person puts it back");
        assert!(told("keda", true).ends_with("autoscaling.keda.sh/paused=true"));
        assert!(told("keda", false).ends_with("autoscaling.keda.sh/paused-"));
        let flux = told("flux-helmrelease", false);
        assert!(flux.contains("helmreleases") && flux.ends_with("{\"suspend\":false}}'"), "{flux}");
        assert_eq!(manager("prod", "another", "odoo/odoo", true), None);
    }
}
