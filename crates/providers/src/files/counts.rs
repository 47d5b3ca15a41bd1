//! Counting files and naming the first ones.

/// Names that are shown.
const NAMED_MAX: usize = 20;

/// Files of one kind.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) count: u64,
    first: Vec<String>,
}

impl Counted {
    pub(super) fn add(&mut self, name: &str) {
        self.count += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(name.to_owned());
        }
    }

    /// `'a', 'b' and 3 more`.
    pub(super) fn names(&self) -> String {
        let named = self.first.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
        let more = self.count.saturating_sub(named.len() as u64);
        let named = named.join(", ");
        if more == 0 { named } else { format!("{named} and {more} more") }
    }
}
