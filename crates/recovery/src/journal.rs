//! The journal of a run: numbered records in one home, copied elsewhere; what happened is what
//! stands here, and a driver that lost its memory knows the rest by probing.

mod chain;
mod claim;
mod entry;
mod home;
mod inbox;
mod incident;
mod opening;
mod record;

pub use chain::{ChainError, check_chain};
pub use claim::{Claim, claim, claimed_by, release};
pub use entry::{Entry, FailureClass, ServiceState, Verdict};
pub use home::{Appended, CopyFailed, Home, HomeError, Loaded, Newest};
pub use inbox::{Message, MessageKind, Received, read_inbox, send, send_as};
pub use incident::{
    FINDING_PREFIX, Incident, IncidentEntry, IncidentState, append_incident, findings, incidents,
    incidents_and_damaged, load_incident,
};
pub use opening::{Opened, close_incident, open_incident, open_incident_of};
pub use record::{Record, RecordError, Writer};
