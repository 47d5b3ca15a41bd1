//! The codes of what steps meet. They stand in journals and reports; `explain` has their pages.

use stdx::diagnostic::{CodeInfo, Exit, Retry};

const fn code(code: &'static str, title: &'static str, retry: Retry) -> CodeInfo {
    CodeInfo { code, title, retry, exit: Exit::Failed }
}

/// The user-facing errors of this crate.
pub const CODES: &[CodeInfo] = &[
    code("RF1101", "a command of the service did not do what it should", Retry::Retry),
    code("RF1102", "a command of ours could not be run", Retry::Permanent),
    code("RF1103", "the cluster is not the one that the plan means", Retry::Permanent),
    code("RF1104", "a file of the service cannot be read or changed", Retry::Permanent),
    code("RF1105", "the database does not show what it should", Retry::Permanent),
    code("RF1106", "the restored data are damaged", Retry::Permanent),
    code("RF1107", "the service's own SQL says that something is wrong", Retry::Permanent),
    code("RF1108", "a smoke test failed", Retry::Permanent),
    code("RF1109", "a channel could not be told", Retry::Retry),
    code("RF1110", "a secret does not resolve", Retry::Permanent),
    code("RF1111", "the door did not move", Retry::Retry),
    code("RF1120", "the API server of Kubernetes refused", Retry::Permanent),
    code("RF1121", "the API server of Kubernetes did not answer", Retry::Retry),
    code("RF1122", "a Kubernetes cluster cannot be reached as it is declared", Retry::Permanent),
    code("RF1123", "a workload of Kubernetes is not as it should be", Retry::Permanent),
    code("RF1124", "something in Kubernetes would undo our steps", Retry::Permanent),
    code("RF1125", "the database is not reached from inside of Kubernetes", Retry::Permanent),
    code("RF1161", "what leads users does not answer", Retry::Retry),
    code("RF1162", "what leads users refuses us", Retry::Permanent),
    code("RF1163", "somebody else has led users elsewhere", Retry::Permanent),
    code("RF1164", "users cannot be led to the standby site", Retry::Permanent),
    code("RF1165", "users are not seen to be led to the standby site", Retry::Wait),
    code("RF1141", "files that rows point to are missing", Retry::Permanent),
    code("RF1142", "a bucket of files does not answer", Retry::Retry),
    code("RF1143", "a bucket of files and its copy are not alike", Retry::Permanent),
];
