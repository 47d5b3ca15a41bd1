//! Ways to restore, in order: the same target from other backups, then less data.

use crate::inventory::{BackupFact, DumpFact, Inventory};
use crate::method::Choice;
use crate::plan::{Candidate, Parameters, Target};
use crate::service::{Database, Service};

/// So many backups stand in a plan: what is tried at night must fit into the objective.
const CANDIDATES_MAX: usize = 5;

/// The candidates of a plan; the first one is what its steps say.
pub(super) fn of(service: &Service, choice: &Choice, inventory: &Inventory) -> Vec<Candidate> {
    match &service.database {
        Database::Cluster(_) => of_cluster(choice, inventory),
        Database::Rds(_) => Vec::new(),
    }
}

/// The dump that was chosen, then older ones, each with what it loses more.
fn of_dumps(chosen: &DumpFact, inventory: &Inventory) -> Vec<Candidate> {
    let older = inventory.dumps.iter().filter(|dump| dump.taken < chosen.taken);
    let all = std::iter::once(chosen).chain(older).take(CANDIDATES_MAX);
    all.map(|dump| Candidate {
        name: format!("dump {}", dump.label),
        parameters: Parameters::from([
            ("dump".into(), dump.label.clone()),
            ("taken".into(), dump.taken.to_string()),
        ]),
        is_same_target: dump == chosen,
        extra_loss_s: u64::try_from(chosen.taken.duration_since(dump.taken).as_secs()).unwrap_or(0),
        reason: match dump == chosen {
            true => "the dump that was chosen".into(),
            false => "an older dump, if that one cannot be restored".into(),
        },
    })
    .collect()
}

fn of_cluster(choice: &Choice, inventory: &Inventory) -> Vec<Candidate> {
    if let Some(chosen) = super::dump::dump_for(choice, inventory) {
        return of_dumps(chosen, inventory);
    }
    let usable: Vec<&BackupFact> =
        inventory.backups.iter().filter(|backup| backup.is_valid).collect();
    let same = usable.iter().filter(|backup| backup.reaches_target);
    let mut candidates: Vec<Candidate> = same
        .take(CANDIDATES_MAX)
        .enumerate()
        .map(|(at, backup)| Candidate {
            name: format!("backup {}", backup.label),
            parameters: Parameters::from([("backup".into(), backup.label.clone())]),
            is_same_target: true,
            extra_loss_s: 0,
            reason: match at {
                0 => "the newest backup that reaches the target".into(),
                _ => "an older backup that reaches the same target".into(),
            },
        })
        .collect();
    if choice.target != Target::Immediate {
        let failed = inventory.damage.as_ref().map_or(inventory.now, |damage| damage.at);
        let early = usable.iter().find(|backup| backup.finished < failed);
        candidates.extend(early.map(|backup| Candidate {
            name: format!("backup {} as it is", backup.label),
            parameters: Parameters::from([
                ("backup".into(), backup.label.clone()),
                ("target_kind".into(), "immediate".into()),
                ("target_value".into(), String::new()),
            ]),
            is_same_target: false,
            extra_loss_s:
                u64::try_from(failed.duration_since(backup.finished).as_secs()).unwrap_or(0),
            reason: "its first consistent point, if its WAL cannot be replayed further".into(),
        }));
    }
    candidates
}
