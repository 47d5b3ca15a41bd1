//! `rollforward recover SERVICE`: from the alert to "declared restored", in one run.

use std::io::IsTerminal;
use std::path::PathBuf;

use recovery::inventory::Inventory;
use recovery::journal::{
    Appended, Entry, Home, IncidentEntry, Loaded, append_incident, claim, claimed_by,
    load_incident, open_incident, open_incident_of,
};
use recovery::machine::State;
use recovery::plan::{
    Mode, Parameters, Plan, confirmation, night_screen, plan_text, runbook, type_to_start,
};
use recovery::service::{Database, Service};
use stdx::{Clock, Id, SystemClock};

use super::plan::{Wanted, make, must_be_performable};
use super::{Context, finding};
use crate::config::Config;
use crate::failure::Error;
use crate::orchestra::channels::about_run;
use crate::orchestra::driver::{drive_to_end, driver, exit_code, own_program};
use crate::orchestra::{files, open_home, persons};
use crate::secrets;
use crate::wiring::block_on;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// Go on from the incident's last run with another target: what it shut stays shut
    #[arg(long)]
    again: bool,
    /// The code of the plan that was read, as `plan` prints it: for scripts
    #[arg(long, value_name = "CODE")]
    confirm: Option<String>,
    /// Confirm whatever plan is made; refused when it loses more than the objective allows
    #[arg(long, conflicts_with = "confirm")]
    confirm_any: bool,
    /// Who asks
    #[arg(long = "as", value_name = "PERSON")]
    person: Option<String>,
    /// The person's key file [default: NAME.person beside the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// End instead of waiting when somebody has to say something
    #[arg(long)]
    no_wait: bool,
    /// Do not look for WAL that was not archived yet
    #[arg(long)]
    no_salvage: bool,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.wanted.service.as_deref())?;
    block_on(recover(context, arguments, &config, service))
}

async fn recover(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    service: &Service,
) -> anyhow::Result<u8> {
    let home = open_home(config, Some(service), true, context.printer).await?;
    let before = claimed_by(&home, &service.name).await?.map(|claim| claim.run);
    match (&before, arguments.again) {
        (Some(run), false) => {
            context.printer.note(&format!("run {run} has service '{}'", service.name));
            context.printer.next(&format!(
                "rollforward run watch {run}; another target: rollforward recover {} --again …",
                service.name
            ));
            return Ok(8);
        }
        (None, true) => {
            return Err(Error::Usage(format!(
                "service '{}' has no run to go on from",
                service.name
            ))
            .into());
        }
        _ => {}
    }
    let requester = persons::requester(arguments.person.as_deref());
    persons::signer(config, &requester, arguments.key_file.as_deref())?;
    persons::must_drive(config, &requester)?;
    salvage_first(context, arguments, config, service).await;
    let (plan, inventory) = make(config, service, &arguments.wanted, Mode::Incident).await?;
    must_be_performable(config, &plan)?;
    if !confirmed(context, arguments, &plan, &inventory)? {
        return Ok(5);
    }
    let loaded =
        begin(config, &home, service, arguments, &plan, &requester, before.as_deref()).await?;
    drive_run(context, config, &home, service, &loaded, arguments.no_wait).await
}

/// The newest WAL is often not archived yet: without it the damage may not be found.
async fn salvage_first(
    context: &Context<'_>,
    arguments: &Arguments,
    config: &Config,
    service: &Service,
) {
    let Database::Cluster(place) = &service.database else { return };
    let is_lost = arguments.wanted.site.is_some();
    if arguments.no_salvage || is_lost || !arguments.wanted.before_incident {
        return;
    }
    let Ok(own) = own_program(config) else { return };
    let words = ["wal", "salvage", &place.cluster.name].map(str::to_owned);
    if let Err(failure) = own.run(&words).await {
        context.printer.note(&format!("warning: {}", failure.message));
    }
}

/// Shows what is proposed, and has it confirmed: typed, or by the plan's code.
fn confirmed(
    context: &Context<'_>,
    arguments: &Arguments,
    plan: &Plan,
    inventory: &Inventory,
) -> anyhow::Result<bool> {
    let code = confirmation(plan);
    let elapsed = arguments.wanted.started_at.map_or(0, |at| {
        SystemClock::new().now().duration_since(at).as_secs().max(0).unsigned_abs()
    });
    context.printer.note(&night_screen(plan, inventory, elapsed));
    if let Some(given) = &arguments.confirm {
        if *given == code {
            return Ok(true);
        }
        return Err(Error::Refused {
            what: format!("expected --confirm {code}, seen {given}: the plan is another one now",),
            hint: "look at it again: `rollforward plan`".into(),
        }
        .into());
    }
    if arguments.confirm_any {
        let allowed = plan.objectives.rpo.as_secs();
        return match plan.predicted_loss_s {
            Some(loss) if loss <= allowed => Ok(true),
            loss => Err(Error::Refused {
                what: format!(
                    "the plan loses {}, the objective allows {allowed} s",
                    loss.map_or_else(|| "an unknown amount".into(), |loss| format!("{loss} s"))
                ),
                hint: format!("confirm this very plan: --confirm {code}"),
            }
            .into()),
        };
    }
    if !std::io::stdin().is_terminal() {
        context.printer.next(&format!("confirm it: --confirm {code}"));
        return Ok(false);
    }
    loop {
        let answer = secrets::ask("> ")?;
        if answer == type_to_start(plan, inventory) {
            return Ok(true);
        }
        match answer.as_str() {
            "p" | "a" => context.printer.note(&plan_text(plan)),
            "q" | "" => {
                context.printer.note("nothing happened");
                return Ok(false);
            }
            _ => context.printer.note("that starts nothing; q ends"),
        }
    }
}

/// The incident of the service that is open, or a new one.
async fn incident(
    home: &Home,
    service: &Service,
    plan: &Plan,
    alert_at: jiff::Timestamp,
    by: &str,
) -> anyhow::Result<String> {
    if let Some(open) = open_incident_of(home, &service.name).await? {
        return Ok(open.id);
    }
    let id = named(&service.name);
    let fields = Parameters::from([
        ("service".into(), service.name.clone()),
        ("summary".into(), format!("recovery to {}", plan.target)),
        ("started".into(), alert_at.to_string()),
    ]);
    let now = SystemClock::new().now();
    let entry = IncidentEntry { kind: "open".into(), at: now, by: by.into(), fields };
    Ok(open_incident(home, &service.name, &id, &entry).await?.id)
}

/// A name that can be spoken: `tms-1120-k7f3`.
pub(crate) fn named(service: &str) -> String {
    let day = SystemClock::new().now().strftime("%m%d").to_string();
    format!("{service}-{day}-{}", Id::random().short())
}

async fn begin(
    config: &Config,
    home: &Home,
    service: &Service,
    arguments: &Arguments,
    plan: &Plan,
    requester: &str,
    before: Option<&str>,
) -> anyhow::Result<Loaded> {
    let now = SystemClock::new().now();
    let alert_at = arguments.wanted.started_at.unwrap_or(now);
    let originals = match before {
        Some(before) => close_superseded(home, before).await?,
        None => Parameters::new(),
    };
    let incident = incident(home, service, plan, alert_at, requester).await?;
    let mut known = load_incident(home, &incident).await?.originals();
    known.extend(
        originals.into_iter().filter(|(object, _)| !known.contains_key(object)).collect::<Vec<_>>(),
    );
    let run = named(&service.name);
    if let Err(there) = claim(home, &service.name, &run, before).await? {
        return Err(Error::Refused {
            what: format!("run '{}' has service '{}'", there.run, service.name),
            hint: format!("rollforward run watch {}", there.run),
        }
        .into());
    }
    let entry = Entry::Created {
        plan: Box::new(plan.clone()),
        requester: requester.into(),
        incident: incident.clone(),
        alert_at,
        declared_at: now,
        is_confirmed: true,
        supersedes: before.map(str::to_owned),
        originals: known,
    };
    create(config, home, &run, plan, entry).await?;
    let fields =
        Parameters::from([("run".into(), run.clone()), ("target".into(), plan.target.to_string())]);
    let entry = IncidentEntry { kind: "run".into(), at: now, by: requester.into(), fields };
    append_incident(home, &incident, &entry).await?;
    Ok(home.load(&run).await?)
}

/// Writes a run's first record and its runbook.
pub(crate) async fn create(
    config: &Config,
    home: &Home,
    run: &str,
    plan: &Plan,
    entry: Entry,
) -> anyhow::Result<()> {
    let writer = recovery::journal::Writer {
        id: Id::random(),
        epoch: 1,
        binary: env!("CARGO_PKG_VERSION").into(),
        boot: files::boot_id(),
    };
    let mut end = Appended::nothing(run);
    home.append(&mut end, &writer, &SystemClock::new(), entry).await?;
    let text = runbook(plan);
    if let Err(error) = home.put_runbook(run, &text).await {
        tracing::warn!(%error, "the runbook is not beside the journal");
    }
    files::write(&files::folder(config, run).join("runbook.md"), &text)
}

/// Closes the run that is gone on from; what objects were before it.
async fn close_superseded(home: &Home, run: &str) -> anyhow::Result<Parameters> {
    let mut loaded = home.load(run).await?;
    let state = State::replay(&loaded.records)?;
    if !state.is_closed() {
        let writer = recovery::journal::Writer {
            id: Id::random(),
            epoch: state.epoch + 1,
            binary: env!("CARGO_PKG_VERSION").into(),
            boot: files::boot_id(),
        };
        let closed = Entry::Closed {
            verdict: recovery::journal::Verdict::Superseded,
            service: recovery::journal::ServiceState::Shut,
            reason: "another target".into(),
        };
        home.append(&mut loaded.end, &writer, &SystemClock::new(), closed).await?;
    }
    Ok(state.originals)
}

/// Drives, reports, and says how it ended.
pub(crate) async fn drive_run(
    context: &Context<'_>,
    config: &Config,
    home: &Home,
    service: &Service,
    loaded: &Loaded,
    no_wait: bool,
) -> anyhow::Result<u8> {
    let run = loaded.records.first().map(|record| record.run.clone()).unwrap_or_default();
    context.printer.note(&format!(
        "run {run}; runbook: '{}'",
        files::folder(config, &run).join("runbook.md").display()
    ));
    let state = State::replay(&loaded.records)?;
    let no_wait = no_wait || !std::io::stdin().is_terminal();
    let incident = load_incident(home, &state.incident).await.ok();
    let about = about_run(config, &state, incident.as_ref());
    let driver = driver(config, home, about, context.printer, state.epoch, no_wait)?;
    let (ended, report, path) = drive_to_end(config, &driver, service, loaded).await?;
    context.printer.result(&report.to_value(), recovery::report::markdown(&report).trim_end());
    if report.ended.is_some() && report.state.plan.mode == Mode::Drill {
        for text in finding::of_drill(home, &report).await? {
            context.printer.note(&format!("finding: {text}"));
        }
        context.printer.next(&format!(
            "read '{}'; what is to be mended: rollforward finding list {}",
            path.display(),
            service.name
        ));
        return Ok(exit_code(&ended));
    }
    context.printer.next(&match report.ended {
        Some(_) => format!(
            "read '{}'; rollforward incident close {}",
            path.display(),
            report.state.incident
        ),
        None => format!("rollforward run show {run}"),
    });
    Ok(exit_code(&ended))
}
