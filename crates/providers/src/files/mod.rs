//! Files that rows point to: looked for in their bucket and in a copy of it, and copied back where
//! they are missing. Nothing is ever replaced or removed.

mod check;
mod compare;
mod counts;
mod keys;
mod lookup;
mod put_back;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::journal::FailureClass;
use recovery::plan::{Parameters, Step, StepKind};
use store::Bucket;

use crate::looked::Looked;

pub use keys::one_query;

/// Opens buckets: the shell resolves references to credentials and knows the clouds.
pub trait Buckets: Send + Sync {
    /// The bucket at an address, with credentials by name of option and reference.
    ///
    /// # Errors
    /// Why there is none; never a secret.
    fn open(
        &self,
        url: &str,
        credentials: &BTreeMap<String, String>,
    ) -> Result<Arc<dyn Bucket>, String>;
}

/// Checks files and copies them back.
pub(crate) struct FileSteps {
    buckets: Arc<dyn Buckets>,
    looked: Looked,
}

/// The buckets of a step.
struct Places {
    bucket: Arc<dyn Bucket>,
    copy: Option<Arc<dyn Bucket>>,
    /// How the bucket is called in outputs.
    name: String,
}

impl FileSteps {
    pub(crate) fn new(buckets: Arc<dyn Buckets>) -> Self {
        Self { buckets, looked: Looked::default() }
    }

    pub(crate) fn of(&self, step: &Step) -> Option<&dyn Effect> {
        // The keys are asked of a restored cluster of ours.
        step.parameters.contains_key("cluster").then_some(self as &dyn Effect)
    }

    fn places(&self, context: &StepContext) -> Result<Places, Failure> {
        let url = context.parameter("bucket")?;
        let copy = context.parameters.get("copy");
        Ok(Places {
            bucket: self.open(context, url, "credential.")?,
            copy: copy.map(|copy| self.open(context, copy, "copy_credential.")).transpose()?,
            name: store::bucket::shown(url).to_owned(),
        })
    }

    fn open(
        &self,
        context: &StepContext,
        url: &str,
        prefix: &str,
    ) -> Result<Arc<dyn Bucket>, Failure> {
        let credentials = context.parameters.iter().filter_map(|(name, reference)| {
            name.strip_prefix(prefix).map(|name| (name.to_owned(), reference.clone()))
        });
        let opened = self.buckets.open(url, &credentials.collect());
        opened.map_err(|why| Failure::terminal("RF1142", why))
    }
}

/// A limit in files.
fn limit(context: &StepContext, name: &str) -> Option<u64> {
    context.parameters.get(name).and_then(|text| text.parse().ok())
}

/// A bucket that did not answer; a write that did not may have happened.
fn failure(error: &store::Error) -> Failure {
    let class = match error {
        store::Error::Unavailable { verb: "write", .. } => FailureClass::Ambiguous,
        store::Error::Unavailable { .. } => FailureClass::Retry,
        _ => FailureClass::Terminal,
    };
    Failure::new(class, "RF1142", error.to_string())
        .hint("`rollforward check SERVICE` asks every bucket again")
}

#[async_trait]
impl Effect for FileSteps {
    async fn precheck(&self, context: &StepContext) -> Result<(), Failure> {
        one_query(context.parameter("keys_sql")?)
            .map_err(|why| Failure::terminal("RF1107", format!("keys_sql: {why}")))?;
        let places = self.places(context)?;
        places.bucket.list(None, 1).await.map(drop).map_err(|error| failure(&error))
    }

    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let places = self.places(context)?;
        let outputs = match context.step.kind {
            StepKind::RestoreFiles => put_back::run(context, &places).await?,
            _ => check::run(context, &places).await?,
        };
        self.looked.remember(context, outputs);
        Ok(())
    }

    async fn verify(&self, context: &StepContext) -> Result<Parameters, Failure> {
        Ok(self.looked.outputs(context).unwrap_or_default())
    }

    async fn undo(&self, _context: &StepContext) -> Result<String, Failure> {
        Ok("nothing to undo: files were only added, where nothing had that name".into())
    }
}
