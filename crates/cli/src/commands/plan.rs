//! `rollforward plan SERVICE`: every step with its effect, its undo and its time; nothing is
//! touched.

use providers::About;
use recovery::inventory::Inventory;
use recovery::method::{Method, Wish};
use recovery::plan::{Mode, Plan, Target, confirmation, plan_text};
use recovery::planner::{PlanError, Request, compile};
use recovery::service::Service;
use stdx::{Clock, SystemClock};

use super::Context;
use super::target_arguments::{TargetArguments, parse_time};
use crate::config::Config;
use crate::failure::Error;
use crate::orchestra::driver::{own_program, providers};
use crate::orchestra::gather::{Asked, inventory};
use crate::wiring::block_on;

/// What `plan`, `runbook` and `recover` take in common.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Wanted {
    /// The service; may be left out when there is only one
    pub(crate) service: Option<String>,
    /// automated-snapshot, manual-snapshot, pitr, dump or cross-region [default: by the table]
    #[arg(long, value_name = "METHOD", value_parser = parse_method)]
    pub(crate) method: Option<Method>,
    #[command(flatten)]
    pub(crate) target: TargetArguments,
    /// This dump, restored beside the service's database on its own server
    #[arg(long, value_name = "LABEL", conflicts_with_all = ["target", "before_incident"])]
    pub(crate) dump: Option<String>,
    /// Up to just before the destructive transaction that `locate` puts first
    #[arg(long, conflicts_with = "target")]
    pub(crate) before_incident: bool,
    /// About when it happened, as somebody remembers: the search looks a day around it
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) about: Option<jiff::Timestamp>,
    /// The table that was damaged, for the search
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,
    /// The standby site to go on at: the service's own site is lost
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<String>,
    /// Somebody has broken in: recover to before, rotate credentials, hold evidence, tell legal
    #[arg(long)]
    pub(crate) breach: bool,
    /// When somebody or something noticed: the clock of the RTO starts there [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) started_at: Option<jiff::Timestamp>,
}

fn parse_method(text: &str) -> Result<Method, String> {
    Method::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Method::ALL.iter().map(|(name, _)| *name).collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    wanted: Wanted,
    /// For a drill, or to restore and prove only
    #[arg(long, value_name = "MODE", default_value = "incident", value_parser = ["incident", "drill", "copy"])]
    mode: String,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let service = config.service(arguments.wanted.service.as_deref())?;
    let mode = Mode::parse(&arguments.mode).unwrap_or(Mode::Incident);
    block_on(async {
        let (plan, _) = make(&config, service, &arguments.wanted, mode).await?;
        let document = serde_json::json!({
            "confirm": confirmation(&plan), "plan": plan.to_value(),
        });
        context.printer.result(&document, plan_text(&plan).trim_end());
        for step in not_performable(&config, &plan)? {
            context.printer.note(&format!("warning: this version cannot perform {step}"));
        }
        context.printer.next(&match mode {
            Mode::Incident => {
                format!("rollforward recover {} … --confirm {}", service.name, confirmation(&plan))
            }
            _ => format!("rollforward drill {}", service.name),
        });
        Ok(0)
    })
}

/// The service where it is to be recovered or drilled.
pub(crate) fn placed(service: &Service, site: Option<&str>, mode: Mode) -> anyhow::Result<Service> {
    let Some(name) = site else { return Ok(service.clone()) };
    let placed = match mode {
        Mode::Incident => service.at_site(name),
        Mode::Drill | Mode::Copy => service.drilled_at(name),
    };
    placed.ok_or_else(|| {
        let known: Vec<&str> = service.sites.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        let what = format!("service '{}' has no site '{name}'; it has: {known}", service.name);
        Error::Usage(what).into()
    })
}

impl Wanted {
    /// What the operator wants, in the planner's words.
    pub(crate) fn wish(&self) -> Wish {
        let arguments = &self.target;
        let target = if self.before_incident {
            None
        } else if let Some(label) = &self.dump {
            Some(Target::Dump(label.clone()))
        } else if let Some(time) = arguments.target_time {
            Some(Target::Time(time.to_string()))
        } else if let Some(lsn) = arguments.target_lsn {
            Some(Target::Lsn(lsn.to_string()))
        } else if let Some(xid) = arguments.target_xid {
            Some(Target::Xid(xid.to_string()))
        } else if let Some(name) = &arguments.target_name {
            Some(Target::Name(name.clone()))
        } else if let Some(before) = arguments.before {
            Some(Target::Before(before.to_string()))
        } else if arguments.immediate {
            Some(Target::Immediate)
        } else {
            arguments.latest.then_some(Target::Latest)
        };
        Wish { method: self.method, target, before_incident: self.before_incident }
    }

    pub(crate) fn asked(&self) -> anyhow::Result<Asked> {
        for (is_given, option) in
            [(self.target.exclusive, "exclusive"), (self.target.timeline.is_some(), "timeline")]
        {
            if is_given {
                let what = format!("a plan takes no --{option}: use --before, or `restore`");
                return Err(Error::Usage(what).into());
            }
        }
        let now = SystemClock::new().now();
        Ok(Asked {
            wish: self.wish(),
            is_breach: self.breach,
            is_site_lost: self.site.is_some(),
            backup: self.target.backup.as_ref().map(ToString::to_string),
            alert_at: self.started_at.unwrap_or(now),
            about: self.about,
            table: self.table.clone(),
            now,
        })
    }
}

/// Gathers, chooses and compiles.
pub(crate) async fn make(
    config: &Config,
    service: &Service,
    wanted: &Wanted,
    mode: Mode,
) -> anyhow::Result<(Plan, Inventory)> {
    let mut asked = wanted.asked()?;
    let placed = placed(service, wanted.site.as_deref(), mode)?;
    let service = &placed;
    if mode != Mode::Incident && asked.wish.target.is_none() && !asked.wish.before_incident {
        asked.wish.target = Some(Target::Latest);
    }
    let inventory = inventory(config, &own_program(config)?, service, &asked, mode).await?;
    let request = Request {
        mode,
        wish: asked.wish,
        binary: env!("CARGO_PKG_VERSION").into(),
        persons: config.persons.clone(),
        is_breach: wanted.breach,
    };
    let plan = compile(service, &request, &inventory).map_err(|error| refused(&error))?;
    Ok((plan, inventory))
}

/// Steps that no provider of this binary performs, for people. A run with one of them must not
/// begin: it would end in the middle, with users shut out.
pub(crate) fn not_performable(config: &Config, plan: &Plan) -> anyhow::Result<Vec<String>> {
    let effects = providers(config, About::default())?;
    let steps = plan.steps.iter().filter(|step| !step.kind.is_recorded_only());
    let missing = steps.filter(|step| effects.of(step).is_none());
    Ok(missing.map(|step| format!("{} ({})", step.id, step.effect)).collect())
}

/// Refuses a plan that this binary cannot perform to its end.
pub(crate) fn must_be_performable(config: &Config, plan: &Plan) -> anyhow::Result<()> {
    let missing = not_performable(config, plan)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Refused {
        what: format!("this version cannot perform {}; nothing was touched", missing.join("; ")),
        hint: format!("follow it by hand: rollforward runbook {}", plan.service),
    }
    .into())
}

fn refused(error: &PlanError) -> anyhow::Error {
    Error::Refused { what: error.to_string(), hint: error.hint() }.into()
}
