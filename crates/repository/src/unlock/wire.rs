//! Descriptor, slot and epoch as they are stored: `docs/repository-format.md`, section "Keys".

use minicbor::{Decode, Encode};

use super::ArgonCost;

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct DescriptorWire {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) member: [u8; 16],
    #[n(1)]
    pub(super) encryption: u8,
    #[n(2)]
    pub(super) single_writer: bool,
    #[n(3)]
    pub(super) created_us: i64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct SlotWire {
    #[n(0)]
    pub(super) method: u8,
    #[n(1)]
    pub(super) name: String,
    #[n(2)]
    pub(super) created_us: i64,
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) salt: [u8; 32],
    #[n(4)]
    pub(super) argon: Option<ArgonCost>,
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) wrapped: Vec<u8>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
pub(super) struct EpochWire {
    #[n(0)]
    pub(super) epoch: u32,
    #[n(1)]
    pub(super) created_us: i64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) salt: [u8; 32],
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) wrapped: Vec<u8>,
}
