//! What a store needs besides its address.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Secret;
use crate::local::Access;
use crate::retry::RetryPolicy;

/// How to open a store. Nothing here is read from the process's environment: the caller captures
/// what it wants to hand over.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Credentials by name. S3: `access_key_id`, `secret_access_key`, `session_token`. GCS:
    /// `service_account_key` (the JSON itself), `service_account_path`, `bearer_token`. Azure:
    /// `account_key`, `sas_token`, `bearer_token`, `tenant_id`, `client_id`, `client_secret`.
    /// Unknown names are refused. They win over [`environment`](Self::environment).
    pub secrets: BTreeMap<String, Secret>,
    /// The vendor's standard variables as the caller captured them (`AWS_ACCESS_KEY_ID`,
    /// `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_KEY`, …); others are ignored.
    pub environment: BTreeMap<String, Secret>,
    /// Certificates (PEM) trusted besides the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether to create a local directory that is missing. Only `init` does: at any other time a
    /// missing directory is a disk that is not mounted.
    pub create: bool,
    /// Who may read what a local store creates.
    pub access: Access,
    /// How long a remote store may take.
    pub deadlines: Deadlines,
    /// How often a remote store is asked again.
    pub retry: RetryPolicy,
    /// Whether `memory:` is an address: only in tests.
    pub allow_memory: bool,
}

/// How long one request to a remote store may take. All of them are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect, TLS included.
    pub connect: Duration,
    /// From the request (without its body) to the answer's head.
    pub answer: Duration,
    /// Between two pieces of an answer's body.
    pub stall: Duration,
    /// The slowest transfer that counts as progress, in bytes per second: a body of `n` bytes gets
    /// `answer + n / rate_min`.
    pub rate_min: u64,
}

impl Default for Deadlines {
    /// For a store across the world over a slow line: a part of 8 MiB gets 94 s, four of them in
    /// parallel need 4 Mbit/s. A silent store is given up after 30 s.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            rate_min: 128 << 10,
        }
    }
}

impl Deadlines {
    /// The time for a request that moves `len` bytes.
    #[must_use]
    pub fn transfer(&self, len: u64) -> Duration {
        self.answer + Duration::from_secs(len / self.rate_min.max(1))
    }
}
