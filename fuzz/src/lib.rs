//! What the fuzz targets call. `src/decoders` is also a module of the repository crate's tests,
//! which feed it the same seeds on the toolchain that everybody has.

pub mod decoders;
