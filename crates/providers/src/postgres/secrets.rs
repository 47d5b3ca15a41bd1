//! Every secret must resolve before the run touches anything.

use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use crate::Secrets;
use crate::command::words;
use crate::looked::Looked;

pub(crate) struct ResolveSecrets {
    secrets: Arc<dyn Secrets>,
    looked: Looked,
}

impl ResolveSecrets {
    pub(crate) fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self { secrets, looked: Looked::default() }
    }
}

#[async_trait]
impl Effect for ResolveSecrets {
    async fn probe(&self, context: &StepContext) -> Found {
        self.looked.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        for reference in words(context, "references")? {
            let resolved = self.secrets.resolve(&reference);
            let why = match resolved.as_ref().map(|value| value.is_empty()) {
                Ok(false) => continue,
                Ok(true) => "it is empty".to_owned(),
                Err(why) => why.clone(),
            };
            return Err(Failure::terminal(
                "RF1110",
                format!("secret {reference} does not resolve: {why}"),
            )
            .hint("nothing was touched: mend it, and start again"));
        }
        self.looked.remember(context, Parameters::new());
        Ok(())
    }
}
