//! `rollforward person add|list`: the keys of those who request and approve.

use std::path::PathBuf;

use super::Context;
use crate::failure::Error;
use crate::orchestra::persons;
use crate::output::table;

/// Commands about persons.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a person's key, under a passphrase; prints the line for the configuration
    Add(AddArguments),
    /// List the persons of the configuration
    List,
}

/// Arguments of `person add`.
#[derive(Debug, clap::Args)]
pub(crate) struct AddArguments {
    /// The person's name
    name: String,
    /// What the person may do; may be repeated
    #[arg(long = "role", value_name = "ROLE", default_values = ["recovery-operator"])]
    roles: Vec<String>,
    /// Where the key goes [default: NAME.person beside the configuration]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

pub(crate) fn run(context: &Context<'_>, command: &Command) -> anyhow::Result<u8> {
    match command {
        Command::Add(arguments) => add(context, arguments),
        Command::List => list(context),
    }
}

fn add(context: &Context<'_>, arguments: &AddArguments) -> anyhow::Result<u8> {
    let config = context.config()?;
    let fits = !arguments.name.is_empty()
        && arguments.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !fits {
        return Err(
            Error::Usage("a person's name has letters, digits, '-' and '_' only".into()).into()
        );
    }
    let path = arguments
        .key_file
        .clone()
        .unwrap_or_else(|| persons::default_path(&config, &arguments.name));
    let key = persons::create(&path)?;
    let roles: Vec<String> = arguments.roles.iter().map(|role| format!("\"{role}\"")).collect();
    let line =
        format!("{} = {{ key = \"{key}\", roles = [{}] }}", arguments.name, roles.join(", "));
    let document = serde_json::json!({
        "name": arguments.name, "key": key, "roles": arguments.roles, "file": path, "line": line,
    });
    context
        .printer
        .result(&document, &format!("'{}' holds the key\n[person]\n{line}", path.display()));
    context.printer.next(&format!("put that line into '{}'", config.path.display()));
    Ok(0)
}

fn list(context: &Context<'_>) -> anyhow::Result<u8> {
    let config = context.config()?;
    let mut rows = table(&["person", "roles", "key"]);
    for (name, person) in &config.persons {
        rows.add_row([name.clone(), person.roles.join(", "), person.key.clone()]);
    }
    let text = if config.persons.is_empty() { "no persons".to_owned() } else { rows.to_string() };
    let document: Vec<serde_json::Value> = config
        .persons
        .iter()
        .map(|(name, person)| {
            serde_json::json!({ "name": name, "key": person.key, "roles": person.roles })
        })
        .collect();
    context.printer.result(&serde_json::json!({ "persons": document }), &text);
    Ok(0)
}
