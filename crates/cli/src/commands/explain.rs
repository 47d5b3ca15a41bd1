//! `rollforward explain CODE`.

use serde::Serialize;

use super::Context;
use crate::failure::Error;
use crate::output::table;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The code, for example RF0107; without one, all are listed
    code: Option<String>,
}

#[derive(Serialize)]
struct Page {
    code: String,
    text: String,
}

pub(crate) fn run(context: &Context<'_>, arguments: &Arguments) -> anyhow::Result<u8> {
    let Some(code) = &arguments.code else {
        let pages: Vec<Page> = crate::explain::codes()
            .map(|info| Page { code: info.code.into(), text: info.title.into() })
            .collect();
        let mut list = table(&["code", "error"]);
        for page in &pages {
            list.add_row([&page.code, &page.text]);
        }
        context.printer.result(&pages, &list.to_string());
        return Ok(0);
    };
    let Some(text) = crate::explain::page(code) else {
        return Err(Error::Usage(format!("there is no error code '{code}'")).into());
    };
    let page = Page { code: code.to_uppercase(), text };
    context.printer.result(&page, &page.text);
    Ok(0)
}
