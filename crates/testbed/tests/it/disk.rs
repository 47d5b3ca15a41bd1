//! The disk that fills up.

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
