//! A backup's memory does not grow with what it copies.

mod heavy {
    use std::fs::File;
    use std::io::Write;

    use stdx::id::fill_random;

    use crate::fixture::{Protected, builder};

    /// The promise is 150 MB for the product; the test's own program has the archiver in it as
    /// well.
    const PEAK_MAX_KIB: u64 = 150_000;

    /// More than twice the promise, in one file that does not shrink and so fills every buffer.
    const FILE_MIB: usize = 400;

    #[tokio::test(flavor = "multi_thread")]
    async fn memory_stays_bounded_while_incompressible_files_pass() {
        let protected = Protected::start(builder(18)).await;
        let mut noise = vec![0; 1 << 20];
        fill_random(&mut noise);
        let path = protected.cluster.data_dir().join("large");
        let mut file = File::create(path).unwrap();
        for at in 0..FILE_MIB {
            // Each mebibyte another one, so that none is like the one before.
            noise[..8].copy_from_slice(&at.to_le_bytes());
            file.write_all(&noise).unwrap();
        }
        drop(file);
        let report = protected.backup().await;
        assert!(
            report.statistics.bytes_packed > (FILE_MIB as u64) << 20,
            "{:?}",
            report.statistics
        );
        let peak = peak_kib();
        assert!(peak < PEAK_MAX_KIB, "{peak} KiB");
        eprintln!("peak {peak} KiB");
    }

    /// The most memory this process ever had.
    fn peak_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}
