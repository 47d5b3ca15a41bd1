//! A world without databases: door, writers, old and new database, setting, people. It outlives its
//! drivers, misbehaves as told, and notes every breach of the order of safety.

mod names;
mod order;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::misbehaviour::Misbehaviour;
use crate::effect::{Effect, Effects, Failure, Found, StepContext};
use crate::plan::{Parameters, Step, StepKind};
use names::{directory_of, manager_of, object_of, traffic_of, writer_of};

/// Probes that find a restore under way before it is there.
const RESTORE_PROBES: u32 = 3;

/// A database that a run made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    key: String,
    probes_left: u32,
    is_half: bool,
}

/// What there is.
#[derive(Debug, Default)]
struct Things {
    is_door_shut: bool,
    stopped_writers: BTreeMap<String, bool>,
    paused: BTreeMap<String, bool>,
    networked: Vec<String>,
    active: BTreeSet<String>,
    is_fenced: bool,
    is_salvaged: bool,
    is_proved: bool,
    are_files_back: bool,
    is_smoked: bool,
    is_adopted: bool,
    at_standby: BTreeSet<String>,
    backups: u32,
    made: BTreeMap<String, Made>,
    setting: String,
    foreign_writes: u64,
    told: Vec<String>,
    silent: Vec<String>,
    scripts: BTreeMap<String, VecDeque<Misbehaviour>>,
    violations: Vec<String>,
    acts: u32,
    is_incident: bool,
    has_door: bool,
}

/// What of the world must be equal after a disturbed and an undisturbed run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether users are kept out.
    pub is_door_shut: bool,
    /// Writers that do not run.
    pub stopped: Vec<String>,
    /// Managers that wait.
    pub paused: Vec<String>,
    /// Whether the old database refuses sessions.
    pub is_fenced: bool,
    /// Databases that were made and are there.
    pub made: Vec<String>,
    /// What the setting points to.
    pub setting: String,
    /// Whether the new database is the production.
    pub is_adopted: bool,
    /// Traffic that is led to the standby site.
    pub at_standby: Vec<String>,
    /// Whether missing files were copied back; nothing takes them away again.
    pub are_files_back: bool,
}

/// The world. Clones are the same world.
#[derive(Clone, Debug, Default)]
pub struct World {
    things: Arc<Mutex<Things>>,
}

impl World {
    /// A world in which everything runs, and the old database is damaged.
    #[must_use]
    pub fn new(is_incident: bool, has_door: bool) -> Self {
        let world = Self::default();
        world.with(|things| {
            things.setting = "old".into();
            things.is_incident = is_incident;
            things.has_door = has_door;
        });
        world
    }

    fn with<T>(&self, look: impl FnOnce(&mut Things) -> T) -> T {
        look(&mut self.things.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A step misbehaves, in this order, one call each.
    pub fn script(&self, step: &str, misbehaviours: &[Misbehaviour]) {
        self.with(|things| {
            things.scripts.entry(step.into()).or_default().extend(misbehaviours);
        });
    }

    /// Somebody else's directory is there.
    pub fn put_stranger(&self, directory: &str) {
        self.with(|things| {
            let made = Made { key: "stranger".into(), probes_left: 0, is_half: false };
            things.made.insert(directory.into(), made);
        });
    }

    /// Users write into the new database.
    pub fn write_foreign(&self, transactions: u64) {
        self.with(|things| things.foreign_writes += transactions);
    }

    /// A channel does not answer; or answers again.
    pub fn silence(&self, channel: &str, is_silent: bool) {
        self.with(|things| {
            things.silent.retain(|name| name != channel);
            if is_silent {
                things.silent.push(channel.into());
            }
        });
    }

    /// Whether a channel does not answer.
    #[must_use]
    pub fn is_silent(&self, channel: &str) -> bool {
        self.with(|things| things.silent.iter().any(|silent| silent == channel))
    }

    /// A person leaves out what is proved or asked, and answers for it.
    pub fn leave_out(&self, kind: StepKind) {
        self.with(|things| {
            things.is_proved |= kind == StepKind::Prove;
            things.is_smoked |= kind == StepKind::Smoke;
        });
    }

    /// What channels were told.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        self.with(|things| things.told.clone())
    }

    /// Breaches of the order of safety.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.with(|things| things.violations.clone())
    }

    /// How often something was acted.
    #[must_use]
    pub fn acts(&self) -> u32 {
        self.with(|things| things.acts)
    }

    /// What must be equal in the end.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.with(|things| Snapshot {
            is_door_shut: things.is_door_shut,
            stopped: things
                .stopped_writers
                .iter()
                .filter(|(_, stopped)| **stopped)
                .map(|(name, _)| name.clone())
                .collect(),
            paused: things
                .paused
                .iter()
                .filter(|(_, paused)| **paused)
                .map(|(name, _)| name.clone())
                .collect(),
            is_fenced: things.is_fenced,
            made: things.made.keys().cloned().collect(),
            setting: things.setting.clone(),
            is_adopted: things.is_adopted,
            at_standby: things.at_standby.iter().cloned().collect(),
            are_files_back: things.are_files_back,
        })
    }

    /// The effects of this world.
    #[must_use]
    pub fn effects(&self) -> WorldEffects {
        WorldEffects { effect: WorldEffect { world: self.clone() } }
    }

    fn misbehaviour(&self, step: &Step, wanted: &[Misbehaviour]) -> Option<Misbehaviour> {
        self.with(|things| {
            let script = things.scripts.get_mut(step.id.as_str())?;
            let next = script.front().copied()?;
            let for_good = matches!(next, Misbehaviour::FailForGood);
            wanted
                .contains(&next)
                .then(|| if for_good { next } else { script.pop_front().unwrap_or(next) })
        })
    }
}

/// The effects of a [`World`].
#[derive(Debug)]
pub struct WorldEffects {
    effect: WorldEffect,
}

#[async_trait]
impl Effects for WorldEffects {
    fn of(&self, step: &Step) -> Option<&dyn Effect> {
        (!step.kind.is_recorded_only()).then_some(&self.effect as &dyn Effect)
    }

    async fn count_foreign_writes(&self, _context: &StepContext) -> Result<u64, Failure> {
        Ok(self.effect.world.with(|things| things.foreign_writes))
    }

    async fn tell(&self, channel: &str, what: &str, text: &str) -> Result<(), Failure> {
        self.effect.world.with(|things| {
            if things.silent.iter().any(|name| name == channel) {
                return Err(Failure::retry("RF1090", "the channel does not answer"));
            }
            things.told.push(format!("{channel}: {what}: {text}"));
            Ok(())
        })
    }
}

#[derive(Debug)]
struct WorldEffect {
    world: World,
}

impl Things {
    fn violate(&mut self, text: &str) {
        self.violations.push(text.into());
    }

    fn value_of(&self, context: &StepContext) -> Option<String> {
        Some(match context.step.kind {
            StepKind::ShutDoor => if self.is_door_shut { "shut" } else { "open" }.into(),
            StepKind::StopWriter => {
                let stopped = self.stopped_writers.get(&writer_of(context)).copied();
                if stopped.unwrap_or(false) { "stopped" } else { "running" }.into()
            }
            StepKind::ActivateSite => {
                if self.active.contains(&writer_of(context)) { "up" } else { "down" }.into()
            }
            StepKind::PauseManager => if self.is_paused(context) { "paused" } else { "on" }.into(),
            StepKind::Fence | StepKind::FenceDatabase => {
                if self.is_fenced { "fenced" } else { "open" }.into()
            }
            StepKind::SwitchSetting | StepKind::RenameDatabase => self.setting.clone(),
            StepKind::SwitchTraffic => {
                let is_there = self.at_standby.contains(&traffic_of(context));
                if is_there { "standby" } else { "primary" }.into()
            }
            _ => return None,
        })
    }

    fn is_paused(&self, context: &StepContext) -> bool {
        self.paused.get(&manager_of(context)).copied().unwrap_or(false)
    }

    fn restored_of(&self, context: &StepContext) -> String {
        context.facts.get("directory").cloned().unwrap_or_default()
    }

    fn probe(&mut self, context: &StepContext) -> Found {
        let is = |there: bool| if there { Found::Done } else { Found::Absent };
        match context.step.kind {
            StepKind::ShutDoor => is(self.is_door_shut),
            StepKind::OpenDoor => is(!self.is_door_shut),
            StepKind::StopWriter => {
                is(self.stopped_writers.get(&writer_of(context)).copied().unwrap_or(false))
            }
            StepKind::StartWriter => is(!self
                .stopped_writers
                .get(&writer_of(context))
                .copied()
                .unwrap_or(!self.is_incident)),
            StepKind::ActivateSite => is(self.active.contains(&writer_of(context))),
            StepKind::PauseManager => is(self.is_paused(context)),
            StepKind::ResumeManager => is(!self.is_paused(context)),
            StepKind::OpenNetwork => is(self.networked.contains(&self.restored_of(context))),
            kind if kind.is_fence() => is(self.is_fenced),
            StepKind::SwitchSetting | StepKind::RenameDatabase => {
                is(self.setting == self.restored_of(context))
            }
            StepKind::Adopt => is(self.is_adopted),
            StepKind::SwitchTraffic => is(self.at_standby.contains(&traffic_of(context))),
            StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump => {
                self.probe_made(context)
            }
            // What only looks, or only adds, is done every time it is asked for.
            _ => Found::Absent,
        }
    }

    fn probe_made(&mut self, context: &StepContext) -> Found {
        match self.made.get_mut(&directory_of(context)) {
            None => Found::Absent,
            Some(made) if made.key != context.key => {
                Found::Foreign(format!("made by {}", made.key))
            }
            Some(made) if made.is_half => Found::Broken("half a database".into()),
            Some(made) if made.probes_left > 0 => {
                made.probes_left -= 1;
                Found::Running { progress: format!("{} left", made.probes_left) }
            }
            Some(_) => Found::Done,
        }
    }

    fn act(&mut self, context: &StepContext, is_half: bool) {
        self.acts += 1;
        self.check_order(context.step.kind);
        match context.step.kind {
            StepKind::ShutDoor => self.is_door_shut = true,
            StepKind::OpenDoor => self.is_door_shut = false,
            StepKind::StopWriter => drop(self.stopped_writers.insert(writer_of(context), true)),
            StepKind::StartWriter => drop(self.stopped_writers.insert(writer_of(context), false)),
            StepKind::ActivateSite => drop(self.active.insert(writer_of(context))),
            StepKind::PauseManager => drop(self.paused.insert(manager_of(context), true)),
            StepKind::ResumeManager => drop(self.paused.insert(manager_of(context), false)),
            StepKind::OpenNetwork => {
                if !self.is_proved {
                    self.violate("the network was let in before the data were proved");
                }
                self.networked.push(self.restored_of(context));
            }
            kind if kind.is_fence() => self.is_fenced = true,
            StepKind::Salvage => self.is_salvaged = true,
            StepKind::SwitchSetting | StepKind::RenameDatabase => {
                self.setting = self.restored_of(context);
            }
            StepKind::Prove => self.is_proved = true,
            StepKind::RestoreFiles => self.are_files_back = true,
            StepKind::Smoke => self.is_smoked = true,
            StepKind::Adopt => self.is_adopted = true,
            StepKind::Backup => self.backups += 1,
            StepKind::SwitchTraffic => {
                self.at_standby.insert(traffic_of(context));
            }
            StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump => {
                let made = Made { key: context.key.clone(), probes_left: RESTORE_PROBES, is_half };
                self.made.insert(directory_of(context), made);
            }
            _ => {}
        }
    }

    fn undo(&mut self, context: &StepContext) -> Result<String, Failure> {
        let original =
            object_of(context).and_then(|object| context.originals.get(&object).cloned());
        let is_untouched = object_of(context).is_some() && original.is_none();
        match context.step.kind {
            // What was found as it should be is nobody's to change.
            StepKind::ShutDoor
            | StepKind::StopWriter
            | StepKind::StartWriter
            | StepKind::PauseManager
                if is_untouched => {}
            StepKind::ShutDoor => self.is_door_shut = original.as_deref() == Some("shut"),
            StepKind::StopWriter => {
                let stopped = original.as_deref() == Some("stopped");
                self.stopped_writers.insert(writer_of(context), stopped);
                if !stopped && self.is_fenced {
                    self.violate("a writer was started again before the fence was lifted");
                }
            }
            StepKind::ActivateSite if original.as_deref() == Some("down") => {
                self.active.remove(&writer_of(context));
            }
            StepKind::PauseManager => {
                self.paused.insert(manager_of(context), original.as_deref() == Some("paused"));
            }
            kind if kind.is_fence() => self.is_fenced = original.as_deref() == Some("fenced"),
            StepKind::SwitchSetting | StepKind::RenameDatabase => {
                self.setting = original.unwrap_or(self.setting.clone());
            }
            StepKind::StartWriter => drop(self.stopped_writers.insert(writer_of(context), true)),
            StepKind::SwitchTraffic if original.as_deref() == Some("primary") => {
                self.at_standby.remove(&traffic_of(context));
            }
            StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump => {
                let directory = directory_of(context);
                if self.setting == directory {
                    self.violate("the database that the setting points to was removed");
                }
                match self.made.get(&directory) {
                    Some(made) if made.key != context.key => {
                        return Err(Failure::terminal("RF1091", "it is somebody else's"));
                    }
                    _ => drop(self.made.remove(&directory)),
                }
            }
            _ => {}
        }
        Ok("undone".into())
    }
}

#[async_trait]
impl Effect for WorldEffect {
    async fn original(&self, context: &StepContext) -> Result<Option<(String, String)>, Failure> {
        let value = self.world.with(|things| things.value_of(context));
        Ok(object_of(context).zip(value))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        if self.world.misbehaviour(&context.step, &[Misbehaviour::ProbeFails]).is_some() {
            return Found::Unknown("no answer".into());
        }
        let key = format!("looked:{}", context.key);
        let looked = self.world.with(|things| things.told.contains(&key));
        if looked {
            return Found::Done;
        }
        self.world.with(|things| things.probe(context))
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        use Misbehaviour as M;
        let all = [
            M::FailBefore,
            M::LoseAnswer,
            M::LoseRequest,
            M::Twice,
            M::Half,
            M::Hang,
            M::FailForGood,
            M::BadData,
        ];
        let misbehaviour = self.world.misbehaviour(&context.step, &all);
        let act = |is_half| self.world.with(|things| things.act(context, is_half));
        match misbehaviour {
            None => act(false),
            Some(M::FailBefore) => return Err(Failure::retry("RF1092", "try again")),
            Some(M::LoseRequest) => return Err(Failure::ambiguous("RF1093", "no answer")),
            Some(M::LoseAnswer) => {
                act(false);
                self.look(context);
                return Err(Failure::ambiguous("RF1093", "no answer"));
            }
            Some(M::Twice) => {
                act(false);
                act(false);
            }
            Some(M::Half) => {
                let makes = matches!(
                    context.step.kind,
                    StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump
                );
                if makes {
                    act(true);
                }
                return Err(Failure::ambiguous("RF1093", "no answer"));
            }
            Some(M::Hang) => std::future::pending::<()>().await,
            Some(M::BadData) => return Err(Failure::data("RF1094", "the backup is damaged")),
            Some(_) => return Err(Failure::terminal("RF1095", "it does not work")),
        }
        self.look(context);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(match context.step.kind {
            StepKind::RestoreCluster | StepKind::RestoreInstance | StepKind::RestoreDump => {
                Parameters::from([("directory".into(), directory_of(context))])
            }
            _ => Parameters::new(),
        })
    }

    async fn undo(&self, context: &StepContext) -> Result<String, Failure> {
        if self.world.misbehaviour(&context.step, &[Misbehaviour::UndoFails]).is_some() {
            return Err(Failure::retry("RF1096", "try again"));
        }
        self.world.with(|things| things.undo(context))
    }
}

impl WorldEffect {
    /// A step that only looks is done once it has looked: its key remembers.
    fn look(&self, context: &StepContext) {
        let found = self.world.with(|things| things.probe(context));
        if found == Found::Absent {
            self.world.with(|things| things.told.push(format!("looked:{}", context.key)));
        }
    }
}
