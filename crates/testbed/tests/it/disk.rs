//! The disk that fills up, and takes no writes when told so.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use testbed::{SmallDisk, as_postgres};

#[test]
fn a_small_disk_is_full_when_it_is_full() {
    let disk = SmallDisk::new(4);
    let path = disk.path().to_owned();
    assert_eq!(disk.free_bytes(), 4 << 20);
    let full = fs::write(path.join("large"), vec![1; 5 << 20]).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    fs::remove_file(path.join("large")).unwrap();
    let filler = disk.fill(8192);
    assert_eq!(disk.free_bytes(), 8192);
    assert!(fs::write(path.join("more"), vec![1; 8193]).is_err());
    fs::remove_file(filler).unwrap();
    let mut touch = Command::new("touch");
    assert!(as_postgres(touch.arg(path.join("mine"))).status().unwrap().success());
    drop(disk);
    assert!(!path.exists());
}

#[test]
fn nobody_writes_to_a_disk_that_is_read_only() {
    let disk = SmallDisk::new(4);
    fs::write(disk.path().join("kept"), "x").unwrap();
    disk.set_read_only();
    let refused = fs::write(disk.path().join("more"), "x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::read(disk.path().join("kept")).unwrap(), b"x");
}
