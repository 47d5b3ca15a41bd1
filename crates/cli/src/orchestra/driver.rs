//! A driver on this host.

use std::collections::BTreeMap;
use std::sync::Arc;

use providers::{About, Channel, KubernetesAccess, OwnProgram, Providers, Secrets};
use recovery::effect::Effects;
use recovery::journal::{Home, Loaded, Writer};
use recovery::report::Report;
use recovery::runner::{Driver, Ended, Faults, NoFaults, When};
use recovery::service::Service;
use recovery::template::Template;
use stdx::{Id, SystemClock};
use zeroize::Zeroizing;

use super::{buckets, channels, files, measured, show};
use crate::config::Config;
use crate::output::Printer;
use crate::{secrets, wiring};

/// Names a point at which a driver under test dies: `After act:restore.cluster.shop`. A star at
/// the end stands for anything, `#2` for the second such point: `Before append:*#2`.
#[cfg(debug_assertions)]
const FAULT_VARIABLE: &str = "ROLLFORWARD_FAULT";

/// Resolves references of the configuration.
#[derive(Debug)]
pub(crate) struct Resolver;

impl Secrets for Resolver {
    fn resolve(&self, reference: &str) -> Result<Zeroizing<String>, String> {
        secrets::resolve_text(reference, "a step")
    }
}

/// Dies where the environment says, as if killed: only in builds for tests.
#[cfg(debug_assertions)]
struct Kill {
    point: String,
    /// Points that fit and are lived through first.
    left: std::sync::atomic::AtomicU32,
}

#[cfg(debug_assertions)]
impl Kill {
    fn at(text: &str) -> Self {
        let (point, number) = text.rsplit_once('#').unwrap_or((text, "1"));
        let left = number.parse().unwrap_or(1_u32).saturating_sub(1);
        Self { point: point.into(), left: left.into() }
    }
}

#[cfg(debug_assertions)]
impl Faults for Kill {
    fn dies_at(&self, when: When, what: &str) -> bool {
        let seen = format!("{when:?} {what}");
        let fits = match self.point.strip_suffix('*') {
            Some(begin) => seen.starts_with(begin),
            None => seen == self.point,
        };
        if fits && self.left.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            // No destructor, no signal handler: nothing is left in order.
            std::process::abort();
        }
        if fits {
            self.left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        false
    }
}

#[cfg(debug_assertions)]
fn faults() -> Arc<dyn Faults> {
    match std::env::var(FAULT_VARIABLE) {
        Ok(point) => Arc::new(Kill::at(&point)),
        Err(_) => Arc::new(NoFaults),
    }
}

#[cfg(not(debug_assertions))]
fn faults() -> Arc<dyn Faults> {
    let _ = When::Before;
    Arc::new(NoFaults)
}

/// This program, as steps call it.
pub(crate) fn own_program(config: &Config) -> anyhow::Result<OwnProgram> {
    Ok(OwnProgram { program: wiring::own_program()?, config: config.path.clone() })
}

/// Every provider of this binary; channels speak of this.
pub(crate) fn providers(config: &Config, about: About) -> anyhow::Result<Arc<dyn Effects>> {
    with_channels(config, about, channels::resolved(config))
}

/// The same, with one template for all that is told.
pub(crate) fn providers_in_words(
    config: &Config,
    about: About,
    words: &(Template, Template),
) -> anyhow::Result<Arc<dyn Effects>> {
    let mut channels = channels::resolved(config);
    for channel in channels.values_mut() {
        channel.template = Some(words.clone());
    }
    with_channels(config, about, channels)
}

fn with_channels(
    config: &Config,
    about: About,
    channels: BTreeMap<String, Channel>,
) -> anyhow::Result<Arc<dyn Effects>> {
    let kubernetes = kubernetes_access(config);
    let made = Providers::new(own_program(config)?, Arc::new(Resolver), channels, kubernetes);
    let made = made.map_err(|why| anyhow::anyhow!("make the HTTP client: {why}"))?;
    Ok(Arc::new(made.with_buckets(Arc::new(buckets::Opener)).with_about(about)))
}

/// How the Kubernetes clusters of the configuration are reached.
pub(crate) fn kubernetes_access(config: &Config) -> BTreeMap<String, KubernetesAccess> {
    let access = config.kubernetes.iter().map(|(name, cluster)| {
        let access = KubernetesAccess {
            context: cluster.context.clone(),
            kubeconfig: cluster.kubeconfig.clone(),
            uid: cluster.uid.clone(),
        };
        (name.clone(), access)
    });
    access.collect()
}

/// A driver; Ctrl-C asks it to pause after the step.
pub(crate) fn driver(
    config: &Config,
    home: &Home,
    about: About,
    printer: &Printer,
    epoch: u32,
    ends_when_waiting: bool,
) -> anyhow::Result<Driver> {
    let (sender, pause) = tokio::sync::watch::channel(false);
    let notes = printer.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            notes.note("pauses after this step; another Ctrl-C changes nothing");
            sender.send_replace(true);
        }
    });
    Ok(Driver {
        home: home.clone(),
        writer: Writer {
            id: Id::random(),
            epoch,
            binary: env!("CARGO_PKG_VERSION").into(),
            boot: files::boot_id(),
        },
        effects: providers(config, about)?,
        clock: Arc::new(SystemClock::new()),
        observer: Arc::new(show::Lines::new(printer)),
        faults: faults(),
        host: wiring::host_name(),
        ends_when_waiting,
        pause,
    })
}

/// Drives a run to its end, or until it waits; then the report, and the claim if it is over.
pub(crate) async fn drive_to_end(
    config: &Config,
    driver: &Driver,
    service: &Service,
    loaded: &Loaded,
) -> anyhow::Result<(Ended, Report, std::path::PathBuf)> {
    let run = loaded.records.first().map(|record| record.run.clone()).unwrap_or_default();
    files::note_driver(config, &run)?;
    let (ended, state) = recovery::runner::drive(driver, loaded).await?;
    if matches!(ended, Ended::Closed { .. }) {
        recovery::journal::release(&driver.home, &service.name, &state.run).await?;
    }
    let loaded = driver.home.load(&run).await?;
    let report = Report::of(&loaded)?;
    let (path, _) = files::write_report(config, &report, &driver.home.keys)?;
    if let Err(error) = measured::remember(config, &report, &loaded) {
        tracing::warn!("what the run took is not remembered: {error:#}");
    }
    Ok((ended, report, path))
}

/// How the process ends.
pub(crate) fn exit_code(ended: &Ended) -> u8 {
    use recovery::journal::Verdict;
    use recovery::machine::Awaited;
    match ended {
        Ended::Closed { verdict: Verdict::Restored | Verdict::Superseded, .. } => 0,
        Ended::Closed { verdict: Verdict::RolledBack | Verdict::RolledBackWithErrors, .. } => 6,
        Ended::Closed { verdict: Verdict::Halted, .. } => 7,
        Ended::Waiting(Awaited::Approval { .. }) => 5,
        Ended::Waiting(_) => 7,
    }
}
