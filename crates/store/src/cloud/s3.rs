//! Amazon S3 and what speaks its language.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};

use super::{Client, Settings, client_options, one_attempt};
use crate::url::Address;
use crate::{Error, OpenOptions};

const OPTIONS: [&str; 5] = ["region", "endpoint", "style", "checksum", "allow_http"];
const SECRETS: [&str; 3] = ["access_key_id", "secret_access_key", "session_token"];
const CHECKSUMS: [&str; 3] = ["crc64nvme", "sha256", "none"];
const STYLES: [&str; 2] = ["path", "virtual"];

/// Roles that a container or a service account brings along, as the vendor's variables name them.
const AMBIENT: [(&str, AmazonS3ConfigKey); 6] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

pub(super) fn client(address: &Address, options: &OpenOptions) -> Result<Client, Error> {
    address.allow(&OPTIONS)?;
    let settings = Settings::new(address, options, &SECRETS)?;
    let fallback = settings.variable(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]);
    let endpoint = address.endpoint(fallback)?;
    let encrypted = endpoint.as_ref().is_none_or(|url| url.starts_with("https://"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&address.bucket)
        .with_client_options(client_options(address, options)?)
        .with_retry(one_attempt())
        .with_disable_bulk_delete(true) // one object each; not every look-alike has the bulk call
        .with_virtual_hosted_style_request(virtual_hosted(address)?);
    let region = settings.variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]);
    if let Some(region) = address.option("region").or(region) {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(checksum) = checksum(address)? {
        // The checksum header is signed and TLS guards the way: hashing the body for the signature
        // too would cost more than compressing it.
        builder = builder.with_checksum_algorithm(checksum).with_unsigned_payload(encrypted);
    }
    let s3 = credentials(builder, &settings)?
        .build()
        .map_err(|_| settings.not_built("the S3 configuration"))?;
    let s3 = Arc::new(s3);
    Ok(Client { objects: s3.clone(), multipart: s3.clone(), pages: Some(s3) })
}

fn virtual_hosted(address: &Address) -> Result<bool, Error> {
    match address.option("style") {
        None | Some("path") => Ok(false),
        Some("virtual") => Ok(true),
        Some(seen) => Err(address.unknown("style", seen, &STYLES)),
    }
}

/// The checksum that the store verifies on arrival.
fn checksum(address: &Address) -> Result<Option<Checksum>, Error> {
    match address.option("checksum") {
        None | Some("crc64nvme") => Ok(Some(Checksum::CRC64NVME)),
        Some("sha256") => Ok(Some(Checksum::SHA256)),
        Some("none") => Ok(None),
        Some(seen) => Err(address.unknown("checksum", seen, &CHECKSUMS)),
    }
}

fn credentials(
    mut builder: AmazonS3Builder,
    settings: &Settings<'_>,
) -> Result<AmazonS3Builder, Error> {
    let [id_name, secret_name, token_name] = SECRETS;
    let id = settings.secret(id_name, &["AWS_ACCESS_KEY_ID"]);
    let secret = settings.secret(secret_name, &["AWS_SECRET_ACCESS_KEY"]);
    let token = settings.secret(token_name, &["AWS_SESSION_TOKEN"]);
    match (id, secret, token) {
        (Some(id), Some(secret), token) => {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            return Ok(match token {
                Some(token) => builder.with_token(token),
                None => builder,
            });
        }
        (None, None, None) => {}
        (None, _, _) => return Err(settings.missing(id_name)),
        (Some(_), None, _) => return Err(settings.missing(secret_name)),
    }
    for (variable, key) in AMBIENT {
        if let Some(value) = settings.variable(&[variable]) {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}
