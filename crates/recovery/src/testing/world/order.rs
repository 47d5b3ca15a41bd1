//! The order of safety: what must not happen before what.

use super::Things;
use crate::plan::StepKind;

impl Things {
    pub(super) fn check_order(&mut self, kind: StepKind) {
        let running = self.stopped_writers.values().any(|stopped| !stopped)
            || (self.is_incident && self.stopped_writers.is_empty());
        match kind {
            StepKind::StopWriter if self.has_door && !self.is_door_shut => {
                self.violate("a writer was stopped before the door was shut");
            }
            kind if kind.is_fence() && running => self.violate("fenced while a writer ran"),
            StepKind::RestoreFiles
                if !self.is_proved || (self.is_incident && self.setting != "old") =>
            {
                self.violate("files were not copied between proof and switch");
            }
            StepKind::Salvage if !self.is_fenced => self.violate("salvaged before the fence"),
            StepKind::RenameDatabase if !self.is_fenced => {
                self.violate("a name went elsewhere before the fence");
            }
            StepKind::SwitchSetting | StepKind::RenameDatabase if !self.is_proved => {
                self.violate("the setting was switched before the data were proved");
            }
            StepKind::StartWriter if self.is_incident && self.setting == "old" => {
                self.violate("a writer was started on the old database");
            }
            StepKind::OpenDoor if !self.is_smoked => {
                self.violate("the door was opened before the smoke test");
            }
            StepKind::StopWriter if self.paused.values().any(|paused| !paused) => {
                self.violate("a writer was stopped while something would start it again");
            }
            StepKind::SwitchTraffic if !self.is_smoked => {
                self.violate("traffic was switched before the smoke test");
            }
            StepKind::Adopt if self.has_door && self.is_door_shut => {
                self.violate("adopted before the door was open");
            }
            _ => {}
        }
    }
}
