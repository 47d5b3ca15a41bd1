//! How fast a directory takes a streamed upload: `local_upload DIR GIB`.
//!
//! Writes buffers of 8 MiB with random content and prints the rate, the durable end included.
//! Compare with `dd if=FILE of=DIR/x bs=8M conv=fsync`, FILE in the page cache.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a measurement on a terminal

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use store::local::{Access, LocalStore};
use store::{Key, Store};

const WRITE_LEN: usize = 8 << 20;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (dir, gib) = (arguments.next().unwrap(), arguments.next().unwrap());
    let writes = gib.parse::<usize>().unwrap() * (1 << 30) / WRITE_LEN;
    let mut content = vec![0; WRITE_LEN];
    stdx::id::fill_random(&mut content);
    let content = Bytes::from(content);

    let store = LocalStore::create(Path::new(&dir), Access::Owner).unwrap();
    let key = Key::new(format!("upload/{}", stdx::Id::random())).unwrap();
    let begun = Instant::now();
    let mut upload = store.upload(&key).await.unwrap();
    for _ in 0..writes {
        upload.write(content.clone()).await.unwrap();
    }
    let written = begun.elapsed();
    upload.finish().await.unwrap();
    let total = begun.elapsed();
    #[allow(clippy::cast_precision_loss)] // for display
    let rate = (writes * WRITE_LEN) as f64 / total.as_secs_f64() / 1e6;
    println!(
        "{rate:.0} MB/s; finish took {:.2} s of {:.2}",
        (total - written).as_secs_f64(),
        total.as_secs_f64()
    );
    store.delete(&key).await.unwrap();
}
