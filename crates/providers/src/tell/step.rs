//! The last steps of a recovery: each channel hears that users are back.

use std::sync::Arc;

use async_trait::async_trait;
use recovery::effect::{Effect, Failure, Found, StepContext};
use recovery::plan::Parameters;

use super::Channels;
use crate::looked::Looked;

/// Tells one channel. Repeated by a driver that takes over: told twice is better than not told.
#[derive(Debug)]
pub(crate) struct TellStep {
    channels: Arc<Channels>,
    told: Looked,
}

impl TellStep {
    pub(crate) fn new(channels: Arc<Channels>) -> Self {
        Self { channels, told: Looked::default() }
    }
}

#[async_trait]
impl Effect for TellStep {
    async fn probe(&self, context: &StepContext) -> Found {
        self.told.probe(context)
    }

    async fn act(&self, context: &StepContext) -> Result<(), Failure> {
        let fact = |name: &str| context.facts.get(name).map_or("not known", String::as_str);
        let text = format!(
            "Users are back. The database is at {}, port {}.\nReport: rollforward report {}",
            fact("host"),
            fact("port"),
            context.run
        );
        let said = |name: &str| context.parameters.get(name).cloned();
        let what = said("what").unwrap_or_else(|| "open again".into());
        let text = said("text").unwrap_or(text);
        self.channels.tell(context.parameter("channel")?, &what, &text).await?;
        self.told.remember(context, Parameters::new());
        Ok(())
    }
}
