//! A status page of one's own: `index.html` and `status.json` in a directory that a web server
//! shows, or in a bucket. The JSON is what the next update starts from; a reader never sees half of
//! a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions, RetryConfig};
use recovery::effect::Failure;
use serde_json::{Value, json};

use super::About;
use super::public::{Phase, update};
use super::send::Refusal;

const JSON: (&str, &str) = ("status.json", "application/json");
const HTML: (&str, &str) = ("index.html", "text/html; charset=utf-8");

/// So many incidents are kept on the page.
const INCIDENTS_MAX: usize = 20;
/// So many updates of one incident are kept.
const UPDATES_MAX: usize = 50;

/// Where the page is.
pub enum Place {
    /// In a directory.
    Directory(PathBuf),
    /// In a bucket, below a prefix.
    Bucket {
        /// The bucket.
        store: Box<AmazonS3>,
        /// The prefix; empty for none.
        prefix: String,
    },
}

impl Place {
    /// A place in a bucket of S3 or what speaks its language. Options are `region` and `endpoint`;
    /// id and secret of a key win over the variables of the environment that begin with `AWS_`.
    ///
    /// # Errors
    /// What is missing, in words without secrets.
    pub fn bucket(
        bucket: &str,
        prefix: &str,
        options: &BTreeMap<String, String>,
        key: Option<(&str, &str)>,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        // Channels have a patience of their own.
        let once = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(once);
        for (name, value) in environment {
            if let Ok(known) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(known, value);
            }
        }
        if let Some(region) = options.get("region") {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = options.get("endpoint") {
            let is_plain = endpoint.starts_with("http://");
            builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
        }
        if let Some((id, secret)) = key {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.build().map_err(|_| format!("bucket '{bucket}' cannot be reached"))?;
        Ok(Self::Bucket { store: Box::new(store), prefix: prefix.to_owned() })
    }
}

/// A page of one's own.
pub struct Page {
    /// Where it is.
    pub place: Place,
    /// What users call the service.
    pub name: String,
}

impl Page {
    pub(super) async fn tell(
        &self,
        about: &About,
        what: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(update) = update(about, what) else { return Ok(()) };
        let before = self.read().await?;
        let says = |it: &Value| {
            it.pointer("/updates/0/body").and_then(Value::as_str) == Some(&update.body)
        };
        let mut incidents =
            before.get("incidents").and_then(Value::as_array).cloned().unwrap_or_default();
        let at = incidents.iter().position(|it| it["status"] != Phase::Resolved.text());
        match at.and_then(|at| incidents.get_mut(at)) {
            Some(open) if says(open) => {}
            Some(open) => add(open, update.phase, &update.body, now),
            None if update.phase == Phase::Resolved => return Ok(()),
            None => {
                let name = format!("{}: disruption", self.name);
                let mut begun = json!({ "name": name, "began_at": now.to_string(), "updates": [] });
                add(&mut begun, update.phase, &update.body, now);
                incidents.insert(0, begun);
            }
        }
        incidents.truncate(INCIDENTS_MAX);
        let is_well = incidents.iter().all(|it| it["status"] == Phase::Resolved.text());
        let document = json!({
            "page": { "name": self.name, "updated_at": now.to_string() },
            "status": {
                "indicator": if is_well { "none" } else { "major" },
                "description": if is_well { "Everything works" } else { "There is a problem" },
            },
            "incidents": incidents,
        });
        // The JSON is the memory: it comes last, so that an update that was cut off is made again.
        self.write(HTML, html(&document)).await?;
        self.write(JSON, serde_json::to_string_pretty(&document).unwrap_or_default()).await
    }

    /// What the page said before; nothing when there was none.
    async fn read(&self) -> Result<Value, Refusal> {
        let text = match &self.place {
            Place::Directory(folder) => match std::fs::read(folder.join(JSON.0)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Ok(Value::Null);
                }
                read => read.map_err(|error| failed(&folder.display(), &error))?,
            },
            Place::Bucket { store, prefix } => match store.get(&key(prefix, JSON.0)).await {
                Err(object_store::Error::NotFound { .. }) => return Ok(Value::Null),
                Err(error) => return Err(failed(store, &error)),
                Ok(found) => found.bytes().await.map_err(|error| failed(store, &error))?.to_vec(),
            },
        };
        // A page that somebody else has damaged begins anew.
        Ok(serde_json::from_slice(&text).unwrap_or_default())
    }

    async fn write(
        &self,
        (name, kind): (&'static str, &'static str),
        text: String,
    ) -> Result<(), Refusal> {
        match &self.place {
            Place::Directory(folder) => {
                let path = folder.join(name);
                stdx::durable::write_atomic(&path, text.as_bytes(), 0o644)
                    .map_err(|error| failed(&path.display(), &error))
            }
            Place::Bucket { store, prefix } => {
                let attributes = Attributes::from_iter([
                    (Attribute::ContentType, kind),
                    (Attribute::CacheControl, "no-cache"),
                ]);
                let options = PutOptions { attributes, ..PutOptions::default() };
                let put = store.put_opts(&key(prefix, name), text.into(), options).await;
                put.map(drop).map_err(|error| failed(store, &error))
            }
        }
    }
}

fn key(prefix: &str, name: &str) -> Key {
    match prefix.is_empty() {
        true => Key::from(name),
        false => Key::from(format!("{prefix}/{name}")),
    }
}

fn failed(place: &dyn std::fmt::Display, error: &dyn std::fmt::Display) -> Refusal {
    let why = format!("the status page in '{place}' cannot be written: {error}");
    Failure::retry("RF1109", why).hint("may this user write there?").into()
}

fn add(incident: &mut Value, phase: Phase, body: &str, now: Timestamp) {
    let Some(fields) = incident.as_object_mut() else { return };
    fields.insert("status".into(), phase.text().into());
    if phase == Phase::Resolved {
        fields.insert("resolved_at".into(), now.to_string().into());
    }
    let update = json!({ "status": phase.text(), "body": body, "at": now.to_string() });
    if let Some(updates) = fields.get_mut("updates").and_then(Value::as_array_mut) {
        updates.insert(0, update);
        updates.truncate(UPDATES_MAX);
    }
}

fn html(document: &Value) -> String {
    let text = |value: &Value, name: &str| {
        escaped(value.get(name).and_then(Value::as_str).unwrap_or_default())
    };
    let (page, status) = (&document["page"], &document["status"]);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"refresh\" content=\"60\"><title>{name}</title>\n<style>\
         body{{font:16px/1.5 sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}}\
         .major{{color:#b00020}}.none{{color:#0a6b2d}}time{{color:#666}}</style></head>\n\
         <body><h1>{name}</h1>\n<p class=\"{}\"><strong>{}</strong></p>\n",
        text(status, "indicator"),
        text(status, "description"),
        name = text(page, "name"),
    );
    for incident in document["incidents"].as_array().into_iter().flatten() {
        out.push_str(&format!("<h2>{}</h2>\n<ul>\n", text(incident, "name")));
        for update in incident["updates"].as_array().into_iter().flatten() {
            out.push_str(&format!(
                "<li><strong>{}</strong> {} <time>{}</time></li>\n",
                text(update, "status"),
                text(update, "body"),
                text(update, "at")
            ));
        }
        out.push_str("</ul>\n");
    }
    out.push_str(&format!("<p><time>{}</time></p></body></html>\n", text(page, "updated_at")));
    out
}

fn escaped(text: &str) -> String {
    let entities = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")];
    entities.iter().fold(text.to_owned(), |text, (c, entity)| text.replace(*c, entity))
}
