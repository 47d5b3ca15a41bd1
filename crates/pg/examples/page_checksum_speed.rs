//! Prints how many GB/s one core checksums with data in its cache.
//! `cargo run --release -p pg --example page_checksum_speed`

use std::hint::black_box;
use std::time::{Duration, Instant};

use pg::BlockNumber;
use pg::page::{page_checksum, verify_page};

/// 64 pages of 8 KiB: half a megabyte, inside any second-level cache of today.
const PAGES: u32 = 64;
const PAGE_LEN: usize = 8192;
const RUN: Duration = Duration::from_millis(500);

#[allow(clippy::print_stdout)] // this is the program's output
fn main() {
    let data: Vec<u8> =
        (0..PAGES as usize * PAGE_LEN).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
    let speed = measure(&data, |page, block| u32::from(page_checksum(page, block)));
    println!("page_checksum {speed:.1} GB/s");
    let speed = measure(&data, |page, block| u32::from(verify_page(page, block).is_intact()));
    println!("verify_page {speed:.1} GB/s");
}

/// The best of five runs: other work on the machine only ever slows one down.
fn measure(data: &[u8], work: impl Fn(&[u8], BlockNumber) -> u32) -> f64 {
    (0..5).map(|_| one_run(data, &work)).fold(0.0, f64::max)
}

#[allow(clippy::cast_precision_loss)] // a rate for people
fn one_run(data: &[u8], work: &impl Fn(&[u8], BlockNumber) -> u32) -> f64 {
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < RUN {
        for (page, block) in data.chunks_exact(PAGE_LEN).zip(0..) {
            black_box(work(black_box(page), BlockNumber::new(block)));
        }
        bytes += data.len();
    }
    bytes as f64 / begin.elapsed().as_secs_f64() / 1e9
}
