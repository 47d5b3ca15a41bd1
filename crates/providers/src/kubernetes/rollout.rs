//! How far a workload is, by its status alone: the rules of `kubectl rollout status`
//! (k8s.io/kubectl, pkg/polymorphichelpers/rollout_status.go), and what pods say.

use serde_json::Value;

use super::client::{number, text};

/// Reasons of waiting containers that do not go away by themselves soon.
const STUCK_REASONS: [&str; 7] = [
    "CrashLoopBackOff",
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
];

/// A container that crashes may have come too early once.
const RESTARTS_MIN: i64 = 2;

/// How far a rollout is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rollout {
    /// Every replica is new and available.
    Done,
    /// On its way.
    Going(String),
    /// It will not come to an end.
    Failed(String),
}

/// The status of a Deployment.
pub(super) fn deployment(object: &Value) -> Rollout {
    if !is_observed(object) {
        return Rollout::Going("not yet seen by its controller".into());
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let late = conditions.into_iter().flatten().find(|condition| {
        text(condition, "/type") == Some("Progressing")
            && text(condition, "/reason") == Some("ProgressDeadlineExceeded")
    });
    if let Some(late) = late {
        let said = text(late, "/message").unwrap_or_default();
        return Rollout::Failed(format!("ProgressDeadlineExceeded: {said}"));
    }
    let count = |name: &str| number(object, &format!("/status/{name}")).unwrap_or(0);
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let (updated, all) = (count("updatedReplicas"), count("replicas"));
    let available = count("availableReplicas");
    if updated < wanted {
        Rollout::Going(format!("{updated} of {wanted} replicas are new"))
    } else if all > updated {
        Rollout::Going(format!("{} old replicas are still there", all - updated))
    } else if available < updated {
        Rollout::Going(format!("{available} of {updated} replicas are available"))
    } else {
        Rollout::Done
    }
}

/// The status of a StatefulSet whose pods are replaced by itself.
pub(super) fn stateful_set(object: &Value) -> Rollout {
    if !is_observed(object) {
        return Rollout::Going("not yet seen by its controller".into());
    }
    if text(object, "/spec/updateStrategy/type") == Some("OnDelete") {
        return Rollout::Failed(
            "its update strategy is OnDelete: its pods are not replaced".into(),
        );
    }
    let wanted = number(object, "/spec/replicas").unwrap_or(1);
    let ready = number(object, "/status/readyReplicas").unwrap_or(0);
    let updated = number(object, "/status/updatedReplicas").unwrap_or(0);
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition").unwrap_or(0);
    if ready < wanted {
        Rollout::Going(format!("{ready} of {wanted} replicas are ready"))
    } else if partition > 0 {
        match updated >= wanted - partition {
            true => Rollout::Done,
            false => {
                Rollout::Going(format!("{updated} of {} replicas are new", wanted - partition))
            }
        }
    } else if text(object, "/status/updateRevision") == text(object, "/status/currentRevision") {
        Rollout::Done
    } else {
        Rollout::Going(format!("{updated} of {wanted} replicas are new"))
    }
}

fn is_observed(object: &Value) -> bool {
    number(object, "/metadata/generation") <= number(object, "/status/observedGeneration")
}

/// What keeps a pod from running, if it will not go away by itself.
pub(super) fn stuck(pod: &Value) -> Option<String> {
    let name = text(pod, "/metadata/name").unwrap_or_default();
    let all = ["/status/initContainerStatuses", "/status/containerStatuses"];
    let statuses = all.iter().filter_map(|at| pod.pointer(at)?.as_array()).flatten();
    for status in statuses {
        let Some(reason) = text(status, "/state/waiting/reason") else { continue };
        let restarts = number(status, "/restartCount").unwrap_or(0);
        let early = reason == "CrashLoopBackOff" && restarts < RESTARTS_MIN;
        if !early && STUCK_REASONS.contains(&reason) {
            let code = number(status, "/lastState/terminated/exitCode");
            let code = code.map(|code| format!(", last exit code {code}")).unwrap_or_default();
            let said = text(status, "/state/waiting/message").unwrap_or_default();
            return Some(format!("pod {name}: {reason}, {restarts} restarts{code} {said}"));
        }
    }
    None
}

/// Whether something of a pod may still run.
pub(super) fn is_alive(pod: &Value) -> bool {
    !matches!(text(pod, "/status/phase"), Some("Succeeded" | "Failed"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(spec: i64, status: &Value) -> Value {
        json!({ "metadata": { "generation": 3 }, "spec": { "replicas": spec }, "status": status })
    }

    #[test]
    fn a_deployment_is_done_when_every_replica_is_new_and_available() {
        let status = |observed, updated, all, available| {
            json!({ "observedGeneration": observed, "updatedReplicas": updated,
                    "replicas": all, "availableReplicas": available })
        };
        assert_eq!(deployment(&seen(2, &status(3, 2, 2, 2))), Rollout::Done);
        for (status, says) in [
            (status(2, 2, 2, 2), "not yet seen"),
            (status(3, 1, 2, 2), "1 of 2 replicas are new"),
            (status(3, 2, 3, 3), "1 old"),
            (status(3, 2, 2, 1), "1 of 2 replicas are available"),
        ] {
            let Rollout::Going(text) = deployment(&seen(2, &status)) else { panic!("{says}") };
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn a_deployment_behind_its_deadline_has_failed() {
        let status = json!({ "observedGeneration": 3, "conditions": [
            { "type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out" }
        ] });
        let Rollout::Failed(text) = deployment(&seen(1, &status)) else { panic!() };
        assert_eq!(text, "ProgressDeadlineExceeded: timed out");
    }

    #[test]
    fn a_stateful_set_is_done_when_its_revisions_are_one() {
        let status = json!({ "observedGeneration": 3, "readyReplicas": 2, "updatedReplicas": 1,
                             "currentRevision": "a", "updateRevision": "b" });
        assert_eq!(
            stateful_set(&seen(2, &status)),
            Rollout::Going("1 of 2 replicas are new".into())
        );
        let mut partitioned = seen(2, &status);
        partitioned["spec"]["updateStrategy"] = json!({ "rollingUpdate": { "partition": 1 } });
        assert_eq!(stateful_set(&partitioned), Rollout::Done);
        let mut done = status;
        done["currentRevision"] = json!("b");
        assert_eq!(stateful_set(&seen(2, &done)), Rollout::Done);
        let mut by_hand = seen(2, &done);
        by_hand["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
        assert!(matches!(stateful_set(&by_hand), Rollout::Failed(_)));
    }

    #[test]
    fn a_crash_counts_when_it_repeats() {
        let pod = |reason: &str, restarts: i64| {
            json!({ "metadata": { "name": "p" }, "status": { "containerStatuses": [
                { "restartCount": restarts, "state": { "waiting": { "reason": reason } },
                  "lastState": { "terminated": { "exitCode": 7 } } } ] } })
        };
        assert_eq!(stuck(&pod("CrashLoopBackOff", 1)), None);
        let text = stuck(&pod("CrashLoopBackOff", 2)).unwrap();
        assert!(
            text.starts_with("pod p: CrashLoopBackOff, 2 restarts, last exit code 7"),
            "{text}"
        );
        assert!(stuck(&pod("ImagePullBackOff", 0)).is_some());
        assert_eq!(stuck(&pod("ContainerCreating", 0)), None);
    }
}
