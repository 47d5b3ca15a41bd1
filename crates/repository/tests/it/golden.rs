//! Golden repositories: what earlier versions wrote, and one that a later version could have.
//!
//! Every folder of `tests/golden` that has a repository in it is read, so a new one needs no new
//! test. `tests/golden/README.md` says how they are made.

mod fixture;
mod from_the_future;
mod restored;

use std::collections::BTreeSet;

use bytes::Bytes;
use repository::{Error, Kind, Member, PackId, Repository, names, pack_index, unlock};
use stdx::Diagnostic;
use store::Key;
use xxhash_rust::xxh3::xxh3_64;

use fixture::Fixture;

/// Places at which every object is damaged: in its header, and anywhere.
const FLIPS_IN_HEADER: usize = 12;
const FLIPS_ANYWHERE: usize = 36;

/// PostgreSQL's block size in every fixture.
const BLOCK: usize = 8192;

/// Reads an object as those do who need it; everything in it proves itself.
async fn read_whole(repository: &Repository, kind: Kind, key: &Key) -> Result<(), Error> {
    if !matches!(kind, Kind::DataPack | Kind::MetaPack) {
        return repository.read(kind, key).await.map(drop);
    }
    let (_, id) = key.as_str().rsplit_once('/').unwrap();
    let pack = PackId(id.parse().unwrap());
    let (places, _) = pack_index::read(repository, &repository.members()[0], kind, pack).await?;
    let frames: Vec<_> = places.iter().map(|place| place.at).collect();
    repository
        .read_frames(kind, pack, &frames, |at, raw| {
            let digests = &places[at].page_digests;
            if !digests.is_empty() {
                let seen: Vec<u8> =
                    raw.chunks(BLOCK).flat_map(|page| xxh3_64(page).to_le_bytes()).collect();
                assert_eq!(*digests, seen, "page digests of frame {at} of '{key}'");
            }
            Ok(())
        })
        .await
}

#[test]
fn the_golden_repositories_are_all_here() {
    let names: BTreeSet<String> = Fixture::all().into_iter().map(|it| it.name).collect();
    for name in ["from-the-future", "v1-encrypted", "v1-lz4", "v1-plain"] {
        assert!(names.contains(name), "{names:?}");
    }
}

#[tokio::test]
async fn every_backup_and_wal_file_is_read_byte_for_byte() {
    for fixture in Fixture::all() {
        let repository = fixture.open().await;
        for cluster in &fixture.clusters {
            restored::compare(&fixture, &repository, cluster).await;
        }
    }
}

#[tokio::test]
async fn every_key_opens_its_repository() {
    for fixture in Fixture::all() {
        for unlock in fixture.unlocks() {
            let member = Member { name: "golden".into(), store: fixture.store().await };
            let repository = unlock::open(vec![member], Some(&unlock)).await.unwrap();
            let name = &fixture.clusters[0].name;
            let lineage = repository::lineage::of_cluster(&repository, name).await.unwrap();
            assert_eq!(lineage.cluster, *name);
        }
        assert_eq!(fixture.unlocks().is_empty(), fixture.name == "v1-plain");
    }
}

#[tokio::test]
async fn every_object_of_every_kind_opens() {
    for fixture in Fixture::all() {
        let repository = fixture.open().await;
        for (key, bytes) in &fixture.objects {
            read_whole(&repository, fixture::kind(bytes), key).await.unwrap();
        }
    }
}

/// The repository with other bytes in place of one object.
async fn with_object(
    fixture: &Fixture,
    opened: &Repository,
    key: &Key,
    bytes: Bytes,
) -> Repository {
    let store = fixture.store_with(key, bytes).await;
    let member = Member { name: "golden".into(), store };
    Repository::new(vec![member], std::sync::Arc::clone(opened.keys()))
}

#[tokio::test]
async fn a_flipped_bit_is_found_wherever_it_is_and_the_object_is_named() {
    for fixture in Fixture::all() {
        let repository = fixture.open().await;
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |len: usize| {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            usize::try_from(noise % len as u64).unwrap()
        };
        for (key, bytes) in &fixture.objects {
            let mut bits: Vec<usize> = (0..FLIPS_IN_HEADER).map(|_| below(128 * 8)).collect();
            bits.extend((0..FLIPS_ANYWHERE).map(|_| below(bytes.len() * 8)));
            for bit in bits {
                let mut bad = bytes.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                let damaged = with_object(&fixture, &repository, key, bad.into()).await;
                let read = read_whole(&damaged, fixture::kind(bytes), key).await;
                let place = format!("bit {bit} of '{key}' of {}", fixture.name);
                let error = read.expect_err(&place).to_string();
                assert!(error.contains(key.as_str()), "{place}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn what_needs_a_newer_reader_is_refused_and_says_so() {
    for fixture in Fixture::all() {
        let repository = fixture.open().await;
        for (key, bytes) in &fixture.objects {
            let mut version = bytes.to_vec();
            version[8] = 2;
            let mut feature = bytes.to_vec();
            feature[12..16].copy_from_slice(&0x10_u32.to_le_bytes());
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &feature[..124]);
            feature[124..128].copy_from_slice(&u32::try_from(crc).unwrap().to_le_bytes());
            for newer in [version, feature] {
                let changed = with_object(&fixture, &repository, key, newer.into()).await;
                let error = read_whole(&changed, fixture::kind(bytes), key).await.unwrap_err();
                assert_eq!(error.info().code, "RF0302", "'{key}' of {}: {error}", fixture.name);
                assert!(error.to_string().contains(key.as_str()), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_newer_descriptor_slot_or_data_key_stops_the_opening() {
    let fixture = Fixture::load("v1-encrypted");
    let clear = |key: &&Key| **key == names::descriptor() || key.as_str().starts_with("keys/");
    for key in fixture.objects.keys().filter(clear) {
        let mut newer = fixture.objects[key].to_vec();
        newer[8] = 2;
        let store = fixture.store_with(key, newer.into()).await;
        let member = Member { name: "golden".into(), store };
        let opened = unlock::open(vec![member], fixture.unlocks().first()).await;
        assert_eq!(opened.unwrap_err().info().code, "RF0302", "{key}");
    }
}
