//! Google Cloud Storage.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};

use super::{Client, Settings, client_options, one_attempt};
use crate::url::Address;
use crate::{Error, OpenOptions};

const OPTIONS: [&str; 2] = ["endpoint", "allow_http"];
const SECRETS: [&str; 3] = ["service_account_key", "service_account_path", "bearer_token"];

pub(super) fn client(address: &Address, options: &OpenOptions) -> Result<Client, Error> {
    address.allow(&OPTIONS)?;
    let settings = Settings::new(address, options, &SECRETS)?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&address.bucket)
        .with_client_options(client_options(address, options)?)
        .with_retry(one_attempt());
    if let Some(endpoint) = address.endpoint(None)? {
        builder = builder.with_base_url(&endpoint);
    }
    let [key, path, bearer] = SECRETS;
    if let Some(bearer) = settings.secret(bearer, &[]) {
        let credential = GcpCredential { bearer: bearer.to_owned() };
        builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(credential)));
    } else if let Some(json) = settings.secret(key, &[]) {
        builder = builder.with_service_account_key(json);
    } else if let Some(path) = settings.secret(path, &[]) {
        builder = builder.with_service_account_path(path);
    } else if let Some(path) = settings.variable(&["GOOGLE_APPLICATION_CREDENTIALS"]) {
        builder = builder.with_application_credentials(path);
    }
    let gcs = builder.build().map_err(|_| settings.not_built("the service account's key"))?;
    let gcs = Arc::new(gcs);
    Ok(Client { objects: gcs.clone(), multipart: gcs.clone(), pages: Some(gcs) })
}
