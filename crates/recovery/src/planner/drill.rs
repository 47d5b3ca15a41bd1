//! A drill touches nothing of production: every place it changes must be its own.

use super::{PlanError, files};
use crate::service::{BindingPlace, Bindings, Database, Service, Writer};

/// Refuses a drill that would touch production.
pub(super) fn check(service: &Service) -> Result<(), PlanError> {
    let undeclared = |what| PlanError::Undeclared { service: service.name.clone(), what };
    let drill = service.drill.as_ref().ok_or_else(|| undeclared("drill"))?;
    let touches =
        |what: String| Err(PlanError::TouchesProduction { service: service.name.clone(), what });
    if let (Some(ours), Some(theirs)) = (&drill.setting, &service.setting)
        && ours.place == theirs.place
    {
        return touches(format!("its setting is {}", ours.place.describe()));
    }
    if service.setting.is_some() && !drill.writers.is_empty() && drill.setting.is_none() {
        return Err(undeclared("setting for the drill's writers"));
    }
    let is_ours =
        |writer: &&Writer| service.writers.iter().any(|ours| ours.describe() == writer.describe());
    if let Some(writer) = drill.writers.iter().find(is_ours) {
        return touches(format!("its writer is {}", writer.describe()));
    }
    let is_production =
        |describes: &str| service.traffic.iter().any(|it| it.describe() == describes);
    if let Some(traffic) = drill.traffic.iter().find(|it| is_production(&it.describe())) {
        return touches(format!("it leads users: {}", traffic.describe()));
    }
    let same_smoke = |url: &str| service.smoke.iter().any(|smoke| smoke.url == url);
    if let Some(smoke) = drill.smoke.iter().find(|smoke| same_smoke(&smoke.url)) {
        return touches(format!("its smoke test asks {}", smoke.url));
    }
    for bucket in drill.files.iter().map(|files| files.bucket.as_str()) {
        // The bucket of a standby site is where production copies to: what is missing is added.
        let copy = |copy: Option<_>| copy.filter(|_| service.site.is_none());
        let theirs = service.files.iter().flat_map(|it| [Some(&it.bucket), copy(it.copy.as_ref())]);
        if theirs.flatten().any(|other| files::overlap(bucket, other)) {
            return touches(format!("its files are in {}", files::shown(bucket)));
        }
    }
    match same_directory(service, drill) {
        Some(path) => touches(format!("it restores into '{path}'")),
        None => Ok(()),
    }
}

/// The drill's folder, when it is the cluster's own or lies in it.
fn same_directory<'s>(service: &Service, drill: &'s Bindings) -> Option<&'s str> {
    let (BindingPlace::Directory(path), Database::Cluster(place)) =
        (&drill.database, &service.database)
    else {
        return None;
    };
    let data = std::path::Path::new(&place.cluster.data_directory);
    std::path::Path::new(path).starts_with(data).then_some(path.as_str())
}
