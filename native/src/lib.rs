//! `k2i_native`: what `k2i_core.native` finds when the wheel is installed.
//!
//! No rule lives here that Python has not: see `README.md`.

pub mod avro;
pub mod binary;
pub mod columns;
#[cfg(feature = "python")]
mod guard;
pub mod json;
pub mod kafka;
pub mod protobuf;
#[cfg(feature = "python")]
mod python;
