//! How the server was started the last time: `postmaster.opts`.

/// The arguments of the last start, without the data directory's, from the text of
/// `postmaster.opts`: the program, then each argument in double quotes that nothing escapes
/// (`CreateOptsFile` in PostgreSQL's `postmaster.c`).
pub(super) fn arguments(text: &str) -> Vec<String> {
    let line = text.trim_end_matches('\n');
    let Some((_, quoted)) = line.split_once(" \"") else { return Vec::new() };
    let quoted = quoted.strip_suffix('"').unwrap_or(quoted);
    let mut arguments = Vec::new();
    let mut all = quoted.split("\" \"");
    while let Some(argument) = all.next() {
        match argument {
            "-D" => drop(all.next()),
            argument if argument.starts_with("-D") => {}
            argument => arguments.push(argument.to_owned()),
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::arguments;

    #[test]
    fn the_data_directory_is_left_out_and_spaces_stay() {
        let text = "/usr/lib/postgresql/15/bin/postgres \"-D\" \"/a b\" \"-p\" \"5433\" \
                    \"-c\" \"config_file=/etc/my db/postgresql.conf\"\n";
        let expected = ["-p", "5433", "-c", "config_file=/etc/my db/postgresql.conf"];
        assert_eq!(arguments(text), expected);
        assert_eq!(arguments("/bin/postgres \"-D/data\" \"-i\"\n"), ["-i"]);
        assert_eq!(arguments("/bin/postgres\n"), Vec::<String>::new());
        assert_eq!(arguments("\""), Vec::<String>::new());
        assert_eq!(arguments("x \"-D"), Vec::<String>::new());
    }
}
