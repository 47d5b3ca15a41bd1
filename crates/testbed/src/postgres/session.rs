//! A session that stays open beside the test.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::psql::{self, Address};

/// How long one answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// A `psql` in the background with one open session: to hold a transaction, a lock, or a load.
///
/// Ends (the server rolls back) on drop.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    answers: u32,
}

impl Session {
    pub(super) fn open(address: Address<'_>, database: &str) -> Self {
        let mut command = psql::command(address, database);
        // Errors come in between the answers; a statement that fails does not end the session.
        command.args(["-v", "ON_ERROR_STOP=0"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run psql");
        let (sender, lines) = mpsc::channel();
        let errors = sender.clone();
        let output = child.stdout.take().expect("psql's output is a pipe");
        thread::spawn(move || forward(output, |line| sender.send(line).is_ok()));
        let output = child.stderr.take().expect("psql's messages are a pipe");
        thread::spawn(move || forward(output, |line| errors.send(line).is_ok()));
        let input = child.stdin.take();
        Self { child, input, lines, answers: 0 }
    }

    /// Sends `sql` without waiting for its end: for statements that block.
    ///
    /// # Panics
    /// When psql has ended.
    pub fn send(&mut self, sql: &str) {
        let input = self.input.as_mut().expect("the session is open");
        writeln!(input, "{sql}").and_then(|()| input.flush()).expect("psql takes statements");
    }

    /// Runs `sql` (which ends with a semicolon) and returns all lines that came since the last
    /// answer: values, and messages as psql prints them.
    ///
    /// # Panics
    /// After a minute without the end of the answer, or when psql has ended.
    pub fn query(&mut self, sql: &str) -> String {
        self.answers += 1;
        let end = format!("-- answer {} --", self.answers);
        self.send(sql);
        self.send(&format!("\\warn {end}\n\\echo {end}"));
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let (mut answer, mut ends) = (Vec::new(), 0);
        // The mark comes on both streams, so that nothing of either is left behind.
        while ends < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line == end => ends += 1,
                Ok(line) => answer.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no end of the answer to {sql:?} after {ANSWER_DEADLINE:?}: {answer:?}")
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("psql ended while answering {sql:?}: {answer:?}")
                }
            }
        }
        answer.join("\n")
    }

    /// Closes the session after what was sent has run, and returns the lines not yet returned.
    ///
    /// # Panics
    /// When psql cannot be waited for.
    pub fn finish(mut self) -> String {
        drop(self.input.take());
        let rest: Vec<String> = self.lines.iter().collect();
        self.child.wait().expect("wait for psql");
        rest.join("\n")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Killing it closes the connection at once, also in the middle of a statement.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(stream: impl std::io::Read, mut send: impl FnMut(String) -> bool) {
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) => {
                if !send(line) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
