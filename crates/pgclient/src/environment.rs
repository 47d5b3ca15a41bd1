//! Connecting PostgreSQL's own programs: what libpq reads from the environment.

use crate::{ConnectOptions, Secret, SslMode};

impl ConnectOptions {
    /// The variables that make libpq connect as these options do. The password is among them, and
    /// never on a command line, which everybody may read.
    ///
    /// PostgreSQL: `PQconninfoOptions`, src/interfaces/libpq/fe-connect.c.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, Secret)> {
        let list = |of: &dyn Fn(&crate::options::Place) -> String| {
            self.places.iter().map(of).collect::<Vec<_>>().join(",")
        };
        let address = |place: &crate::options::Place| {
            place.address.map(|address| address.to_string()).unwrap_or_default()
        };
        let mut variables = vec![
            ("PGHOST", list(&|place| place.host.clone())),
            ("PGPORT", list(&|place| place.port.to_string())),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGAPPNAME", self.application_name.clone()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().max(1).to_string()),
            ("PGSSLMODE", ssl_mode(self.ssl_mode).to_owned()),
        ];
        if self.places.iter().any(|place| place.address.is_some()) {
            variables.push(("PGHOSTADDR", list(&address)));
        }
        if let Some(file) = &self.passfile {
            variables.push(("PGPASSFILE", file.to_string_lossy().into_owned()));
        }
        if let Some(file) = &self.ssl_root_cert {
            variables.push(("PGSSLROOTCERT", file.to_string_lossy().into_owned()));
        }
        if let Some(options) = &self.session_options {
            variables.push(("PGOPTIONS", options.clone()));
        }
        let secret = |(name, value)| (name, Secret::new(value));
        let password = self.password.clone().map(|password| ("PGPASSWORD", password));
        variables.into_iter().map(secret).chain(password).collect()
    }
}

fn ssl_mode(mode: SslMode) -> &'static str {
    match mode {
        SslMode::Disable => "disable",
        SslMode::Allow => "allow",
        SslMode::Prefer => "prefer",
        SslMode::Require => "require",
        SslMode::VerifyCa => "verify-ca",
        SslMode::VerifyFull => "verify-full",
    }
}

#[cfg(test)]
mod tests {
    use crate::ConnectOptions;

    #[test]
    fn every_option_becomes_a_variable() {
        let check = |conninfo: &str, expect: &str| {
            let options = ConnectOptions::parse(conninfo).unwrap();
            let text: Vec<String> = options
                .environment()
                .iter()
                .map(|(name, value)| format!("{name}={}", value.expose()))
                .collect();
            assert_eq!(text.join(" "), expect);
        };
        check(
            "host=a,b port=1,2 user=u dbname=d=e password=p sslmode=require options='-c x=1'",
            "PGHOST=a,b PGPORT=1,2 PGUSER=u PGDATABASE=d=e PGAPPNAME=rollforward \
             PGCONNECT_TIMEOUT=15 PGSSLMODE=require PGOPTIONS=-c x=1 PGPASSWORD=p",
        );
        check(
            "hostaddr=127.0.0.1 passfile=/p connect_timeout=3 sslmode=disable",
            "PGHOST=127.0.0.1 PGPORT=5432 PGUSER=postgres PGDATABASE=postgres \
             PGAPPNAME=rollforward PGCONNECT_TIMEOUT=3 PGSSLMODE=disable PGHOSTADDR=127.0.0.1 \
             PGPASSFILE=/p",
        );
    }
}
