//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

/// An online shop on PostgreSQL, for demonstrations. Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "rollforward-shop", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// File with the line DATABASE_URL=postgres://…, or with the URL alone; read at start only
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,

    /// Address to serve at; port 0 takes a free one. The choice is printed as one line of JSON
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// While this file exists the shop is shut: it answers 503 and places no orders
    #[arg(long, value_name = "FILE")]
    pub(crate) maintenance: Option<PathBuf>,

    /// File with the token that is let in while the shop is shut (Authorization: Bearer …)
    #[arg(long, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,

    /// Orders to place per second; 0 places none
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub(crate) writes_per_second: f64,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the tables and fill them, the same for the same seed
    #[command(alias = "schema")]
    Load(LoadArguments),
}

/// How to fill the tables.
#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    #[command(flatten)]
    pub(crate) settings: SettingsArgument,

    /// Size of tables and indexes together, such as 300MB or 5GB, more or less; 0 only makes them
    #[arg(long, default_value = "300MB")]
    pub(crate) size: Size,

    /// Another seed gives other data
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u32,
}

/// Where the connection string is.
#[derive(Debug, Args)]
pub(crate) struct SettingsArgument {
    /// File with the line DATABASE_URL=postgres://…, or with the URL alone
    #[arg(long, value_name = "FILE")]
    pub(crate) settings: PathBuf,
}

/// A number of bytes, written as PostgreSQL does: kB, MB, GB are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1 << 10,
            "mb" => 1 << 20,
            "gb" => 1 << 30,
            _ => return Err(format!("expected a unit of kB, MB or GB, seen '{unit}'")),
        };
        let number: u64 = digits.parse().map_err(|_| format!("no size: '{text}'"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("too large: '{text}'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_postgresql_writes_them() {
        assert_eq!("300MB".parse(), Ok(Size(300 << 20)));
        assert_eq!("5 GB".parse(), Ok(Size(5 << 30)));
        assert_eq!("0".parse(), Ok(Size(0)));
        for bad in ["", "MB", "1TB", "-1", "99999999999999999999", "99999999999GB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
