//! The recovery kit: what to have on paper when the machine with the configuration is gone.

use std::fmt::Write as _;

use jiff::Timestamp;
use stdx::Id;

use crate::key_file::Fingerprint;

/// What a recovery kit tells. Nothing in it is secret; the recovery code and the key file are kept
/// elsewhere.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The repositories of the set: name and address without secrets.
    pub repositories: Vec<(String, String)>,
    /// The set's id.
    pub set: Id,
    /// The clusters in it, by name.
    pub clusters: Vec<String>,
    /// The keys that open it: slot name and fingerprint. Empty without encryption.
    pub keys: Vec<(String, Fingerprint)>,
    /// Whether a recovery code opens it.
    pub recovery_code: bool,
    /// The version of the program that made the repository.
    pub version: String,
    /// When the kit was made.
    pub made: Timestamp,
}

impl Kit {
    /// The kit as Markdown.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::from("# Recovery kit\n\n");
        out.push_str(
            "Print this, and keep it away from the databases. It holds no secret; the recovery \
             code and the key file do, and belong somewhere else.\n\n",
        );
        self.facts(&mut out);
        self.keys(&mut out);
        self.commands(&mut out);
        out
    }

    fn facts(&self, out: &mut String) {
        let made = self.made.strftime("%Y-%m-%d");
        line(out, &format!("- made: {made}, by rollforward {}", self.version));
        line(out, &format!("- repository set: `{}`", self.set));
        for (name, address) in &self.repositories {
            line(out, &format!("- repository `{name}`: `{address}`"));
        }
        for cluster in &self.clusters {
            line(out, &format!("- cluster: `{cluster}`"));
        }
        out.push('\n');
    }

    fn keys(&self, out: &mut String) {
        out.push_str("## What opens it\n\n");
        if self.keys.is_empty() && !self.recovery_code {
            out.push_str("The repository is not encrypted: access to its place is enough.\n\n");
            return;
        }
        for (name, fingerprint) in &self.keys {
            line(out, &format!("- key file `{name}`, fingerprint `{fingerprint}`"));
        }
        if self.recovery_code {
            line(out, "- the recovery code: six groups of five characters, shown once at `init`");
        }
        out.push_str("\nOne of them is enough. Without any, nothing and nobody can read it.\n\n");
    }

    fn commands(&self, out: &mut String) {
        let address = self.repositories.first().map_or("ADDRESS", |(_, address)| address);
        let cluster = self.clusters.first().map_or("CLUSTER", String::as_str);
        out.push_str("## On a bare machine\n\n");
        out.push_str(
            "Needed: this program, PostgreSQL of the same major version, access to the address \
             above, and one of the keys.\n\n",
        );
        out.push_str("```sh\n");
        line(out, "# fetches the configuration; asks for the recovery code or a key file");
        line(out, &format!("rollforward init --from-repository {}", quoted(address)));
        line(out, &format!("rollforward key prove --repository {address}"));
        line(out, &format!("rollforward backups {}", quoted(cluster)));
        line(out, &format!("rollforward window {}", quoted(cluster)));
        line(out, "# an empty directory of the user that runs PostgreSQL");
        line(out, &format!("rollforward restore {} --to DIR --latest --start", quoted(cluster)));
        out.push_str("```\n");
    }
}

fn line(out: &mut String, text: &str) {
    let _ = writeln!(out, "{text}"); // a String takes everything
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::Secret;

    #[test]
    fn tells_everything_but_the_secrets() {
        let secret = Secret::from_bytes([7; 32]);
        let kit = Kit {
            repositories: vec![("dr".into(), "s3://dr/prod".into())],
            set: Id::from_bytes([1; 16]),
            clusters: vec!["order's".into()],
            keys: vec![("host".into(), Fingerprint::of(&secret))],
            recovery_code: true,
            version: "0.1.0".into(),
            made: "2026-11-21T02:00:00Z".parse().unwrap(),
        };
        insta::assert_snapshot!(kit.render(), @r"
        # Recovery kit

        Print this, and keep it away from the databases. It holds no secret; the recovery code and the key file do, and belong somewhere else.

        - made: 2026-11-21, by rollforward 0.1.0
        - repository set: `01040g2081040g2081040g2081`
        - repository `dr`: `s3://dr/prod`
        - cluster: `order's`

        ## What opens it

        - key file `host`, fingerprint `racb-emag-qkyh-132f`
        - the recovery code: six groups of five characters, shown once at `init`

        One of them is enough. Without any, nothing and nobody can read it.

        ## On a bare machine

        Needed: this program, PostgreSQL of the same major version, access to the address above, and one of the keys.

        ```sh
        # fetches the configuration; asks for the recovery code or a key file
        rollforward init --from-repository s3://dr/prod
        rollforward key prove --repository s3://dr/prod
        rollforward backups 'order'\''s'
        rollforward window 'order'\''s'
        # an empty directory of the user that runs PostgreSQL
        rollforward restore 'order'\''s' --to DIR --latest --start
        ```
        ");
    }

    #[test]
    fn says_when_nothing_is_needed_to_open_it() {
        let kit = Kit {
            repositories: vec![("disk".into(), "/backup it".into())],
            set: Id::from_bytes([1; 16]),
            clusters: Vec::new(),
            keys: Vec::new(),
            recovery_code: false,
            version: "0.1.0".into(),
            made: "2026-11-21T02:00:00Z".parse().unwrap(),
        };
        let text = kit.render();
        assert!(text.contains("not encrypted"), "{text}");
        assert!(text.contains("--from-repository '/backup it'"), "{text}");
    }
}
