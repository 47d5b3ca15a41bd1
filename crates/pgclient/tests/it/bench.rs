//! What several tests need.

use pgclient::{Client, ConnectOptions};
use testbed::postgres::Cluster;

/// A session as superuser through the cluster's socket.
pub(crate) async fn connect(cluster: &Cluster) -> Client {
    Client::connect(&ConnectOptions::parse(&cluster.conninfo()).unwrap()).await.unwrap()
}

/// An error's text in every form, with all its sources and hints.
pub(crate) fn every_word(error: &pgclient::Error) -> String {
    use stdx::Diagnostic;
    let mut text = format!("{error} {error:?} {:?}", error.hints());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}
