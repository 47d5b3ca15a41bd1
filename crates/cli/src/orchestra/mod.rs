//! Where recovery runs meet this machine: the journal's home, the inventory, persons, the driver.

pub(crate) mod attend;
pub(crate) mod buckets;
pub(crate) mod channels;
pub(crate) mod driver;
pub(crate) mod driverless;
pub(crate) mod files;
pub(crate) mod gather;
pub(crate) mod home;
pub(crate) mod kubernetes;
pub(crate) mod measured;
pub(crate) mod persons;
pub(crate) mod show;
pub(crate) mod traffic;

pub(crate) use home::{open_home, open_home_of, open_homes};
