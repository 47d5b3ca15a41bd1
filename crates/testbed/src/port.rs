//! TCP ports that no other test takes at the same time.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;

/// Below the range from which Linux takes ports for outgoing connections (32768 upwards).
const RANGE: RangeInclusive<u16> = 20_000..=31_999;
/// Lock files of the ports; shared by all test processes of the machine.
const LOCKS: &str = "/tmp/rollforward-ports";

/// A free port of 127.0.0.1, reserved among all test processes of this machine until dropped.
///
/// Unlike a port learned by binding to port 0 and closing again, it cannot be handed to a second
/// test between that moment and the start of the server.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port on which nobody listens.
    ///
    /// # Panics
    /// When none is left or the lock files cannot be made.
    pub fn reserve() -> Self {
        let locks = Path::new(LOCKS);
        fs::create_dir_all(locks).expect("create the folder of port locks");
        // Another user may have made it; then its mode is right already. No sticky bit: with it
        // the kernel forbids opening another user's lock file (fs.protected_regular).
        let _ = fs::set_permissions(locks, Permissions::from_mode(0o777));
        // Processes start their search at different places, so that they rarely meet.
        let start = process::id().wrapping_mul(97) as usize % RANGE.len();
        let mut numbers = RANGE.skip(start).chain(RANGE.take(start));
        numbers
            .find_map(|number| Self::try_reserve(locks, number))
            .unwrap_or_else(|| panic!("no free port in {RANGE:?}"))
    }

    /// Returns the port's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    fn try_reserve(locks: &Path, number: u16) -> Option<Self> {
        let path = locks.join(number.to_string());
        let file = OpenOptions::new().create(true).append(true).open(&path).ok()?;
        let _ = fs::set_permissions(&path, Permissions::from_mode(0o666));
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => panic!("lock '{}': {error}", path.display()),
        }
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_reservations_differ_and_both_can_be_bound() {
        let (one, two) = (Port::reserve(), Port::reserve());
        assert_ne!(one.number(), two.number());
        for port in [&one, &two] {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_is_not_reserved() {
        let port = Port::reserve();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        let number = port.number();
        drop(port);
        assert!(Port::try_reserve(Path::new(LOCKS), number).is_none());
        drop(listener);
    }
}
