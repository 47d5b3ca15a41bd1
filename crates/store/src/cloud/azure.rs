//! Azure Blob Storage.

use std::sync::Arc;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{Client, Settings, client_options, one_attempt};
use crate::url::Address;
use crate::{Error, OpenOptions};

const OPTIONS: [&str; 3] = ["account", "endpoint", "allow_http"];
const SECRETS: [&str; 6] =
    ["account_key", "sas_token", "bearer_token", "tenant_id", "client_id", "client_secret"];

/// Each secret, the vendor's variable for it, and what the client calls it.
const KEYS: [(&str, &[&str], AzureConfigKey); 6] = [
    ("account_key", &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"], AzureConfigKey::AccessKey),
    ("sas_token", &["AZURE_STORAGE_SAS_TOKEN"], AzureConfigKey::SasKey),
    ("bearer_token", &[], AzureConfigKey::Token),
    ("tenant_id", &["AZURE_TENANT_ID"], AzureConfigKey::AuthorityId),
    ("client_id", &["AZURE_CLIENT_ID"], AzureConfigKey::ClientId),
    ("client_secret", &["AZURE_CLIENT_SECRET"], AzureConfigKey::ClientSecret),
];

pub(super) fn client(address: &Address, options: &OpenOptions) -> Result<Client, Error> {
    address.allow(&OPTIONS)?;
    let settings = Settings::new(address, options, &SECRETS)?;
    let variable = settings.variable(&["AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"]);
    let Some(account) = address.option("account").or(variable) else {
        return Err(address.refused("the storage account is missing: add ?account=NAME"));
    };
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(&address.bucket)
        .with_client_options(client_options(address, options)?)
        .with_retry(one_attempt());
    if let Some(endpoint) = address.endpoint(None)? {
        builder = builder.with_endpoint(endpoint);
    }
    for (name, variables, key) in KEYS {
        if let Some(value) = settings.secret(name, variables) {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(file) = settings.variable(&["AZURE_FEDERATED_TOKEN_FILE"]) {
        builder = builder.with_config(AzureConfigKey::FederatedTokenFile, file);
    }
    let azure = builder.build().map_err(|_| settings.not_built("the Azure configuration"))?;
    let azure = Arc::new(azure);
    Ok(Client { objects: azure.clone(), multipart: azure, pages: None })
}
