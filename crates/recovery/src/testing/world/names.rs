//! What things are called.

use crate::effect::StepContext;
use crate::plan::StepKind;

pub(super) fn object_of(context: &StepContext) -> Option<String> {
    match context.step.kind {
        StepKind::ShutDoor => Some("door".into()),
        StepKind::StopWriter => Some(format!("writer {}", writer_of(context))),
        StepKind::ActivateSite => Some(format!("site {}", writer_of(context))),
        StepKind::PauseManager => Some(format!("manager {}", manager_of(context))),
        StepKind::Fence | StepKind::FenceDatabase => Some("fence".into()),
        StepKind::SwitchSetting | StepKind::RenameDatabase => Some("setting".into()),
        StepKind::SwitchTraffic => Some(format!("traffic {}", traffic_of(context))),
        _ => None,
    }
}

pub(super) fn writer_of(context: &StepContext) -> String {
    let name = ["name", "object", "unit", "workflow"].into_iter();
    name.filter_map(|name| context.parameters.get(name)).next().cloned().unwrap_or_default()
}

pub(super) fn manager_of(context: &StepContext) -> String {
    context.parameters.get("object").cloned().unwrap_or_default()
}

pub(super) fn traffic_of(context: &StepContext) -> String {
    context.parameters.get("name").cloned().unwrap_or_default()
}

pub(super) fn directory_of(context: &StepContext) -> String {
    let names = ["directory", "new_instance", "new_database"].into_iter();
    names.filter_map(|name| context.parameters.get(name)).next().cloned().unwrap_or_default()
}
