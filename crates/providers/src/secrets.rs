//! Where secrets come from: the shell resolves references; nothing here keeps a value.

use zeroize::Zeroizing;

/// Resolves references such as `env:NAME` and `file:/path`.
pub trait Secrets: Send + Sync {
    /// The value behind a reference.
    ///
    /// # Errors
    /// Why it does not resolve; never the value.
    fn resolve(&self, reference: &str) -> Result<Zeroizing<String>, String>;
}
