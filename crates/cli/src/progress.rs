//! Progress: a bar on a terminal, a plain line now and then elsewhere.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stdx::ByteCount;

use crate::output::Printer;

/// How often a plain line is printed.
const PLAIN_PERIOD: Duration = Duration::from_secs(10);

/// One transfer of bytes.
#[derive(Debug)]
pub(crate) struct Progress {
    verb: &'static str,
    printer: Printer,
    bar: Option<ProgressBar>,
    total: AtomicU64,
    done: AtomicU64,
    started: Instant,
    printed: Mutex<Instant>,
}

impl Progress {
    pub(crate) fn new(verb: &'static str, printer: &Printer) -> Self {
        let bar = printer.is_live().then(|| {
            let bar = ProgressBar::new(0);
            let shape = "{msg} {bar:30} {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
            if let Ok(style) = ProgressStyle::with_template(shape) {
                bar.set_style(style);
            }
            bar.set_message(verb);
            bar
        });
        let now = Instant::now();
        Self {
            verb,
            printer: printer.clone(),
            bar,
            total: AtomicU64::new(0),
            done: AtomicU64::new(0),
            started: now,
            printed: Mutex::new(now),
        }
    }

    fn begin(&self, bytes: u64) {
        self.total.store(bytes, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(bytes);
        }
    }

    fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let Ok(mut printed) = self.printed.try_lock() else { return };
        if printed.elapsed() >= PLAIN_PERIOD {
            *printed = Instant::now();
            self.printer.note(&self.line(done));
        }
    }

    fn line(&self, done: u64) -> String {
        let total = self.total.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs().max(1);
        let rate = done / seconds;
        let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
        format!(
            "{}: {} of {}, {}/s, about {left} s left",
            self.verb,
            ByteCount::new(done),
            ByteCount::new(total),
            ByteCount::new(rate)
        )
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => self.printer.note(text),
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl backup::Progress for Progress {
    fn total(&self, bytes: u64, _files: u64) {
        self.begin(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.add(bytes);
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}

impl restore::Progress for Progress {
    fn total(&self, bytes: u64, _files: u64) {
        self.begin(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.add(bytes);
    }

    fn note(&self, text: &str) {
        self.say(text);
    }
}
