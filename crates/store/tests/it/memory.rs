//! The store in memory.

use std::sync::Arc;

use store::MemoryStore;
use store::testing::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_every_promise() {
    conformance(Arc::new(MemoryStore::new())).await;
}
