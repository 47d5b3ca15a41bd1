//! A repository that a later version could have left: everything format 1 allows, hand-made.
//!
//! Written from `docs/repository-format.md` alone. Incremental page lists over three backups, two
//! key epochs, compacted packs (one twice), pieces of WAL by two writers, a gap that was filled, a
//! segment that was indexed again, a second lineage of a clone, and objects of every kind. Every
//! header has unknown optional bits, every map unknown keys, every array of fixed positions more of
//! them.

mod backups;
mod cbor;
mod sealing;
mod tree;
mod wal;

use std::path::{Path, PathBuf};

use repository::key_file::KeyFile;
use repository::recovery_code::RecoveryCode;
use stdx::Id;

use crate::Result;
use crate::cluster::{Cluster, Noise, control};
use crate::expected::Expected;
use cbor::{Value, structure};
use sealing::{Codec, Frame, Object, Set, gcm, hkdf};

/// 2026-11-21 02:00 UTC in microseconds.
const NOW_US: u64 = 1_795_226_400_000_000;

/// The cluster, and a clone of it that is a lineage of its own.
const CLUSTERS: [&str; 2] = ["shop", "shop-copy"];

/// The repository under way.
struct Making {
    set: Set,
    folder: PathBuf,
    expected: Expected,
    system_id: u64,
}

/// A cluster's history and who writes it.
#[derive(Clone, Copy)]
struct Lineage {
    id: [u8; 16],
    name: &'static str,
    writers: [[u8; 16]; 2],
}

/// Makes the repository in `folder/repository`, with its keys and `expected.txt` beside it.
pub(crate) fn make(folder: &Path) -> Result<()> {
    let mut noise = Noise(0xf07e_0001);
    let mut random = [0; 64];
    stdx::id::fill_random(&mut random);
    let (root, data) = random.split_at(32);
    let second = hkdf(data, b"", &[b"second epoch"]);
    let epochs = vec![data.try_into()?, second.get(..32).unwrap_or_default().try_into()?];
    let set = Set { id: noise.id(), root: root.try_into()?, epochs, noise };
    let system_id = control()?.system_id.get();
    let repository = folder.join("repository");
    let mut making = Making { set, folder: repository, expected: Expected::default(), system_id };
    making.keys(folder)?;
    for (number, name) in (0..).zip(CLUSTERS) {
        let lineage = making.lineage(name)?;
        making.wal(&lineage, number)?;
        let generations = if number == 0 { 3 } else { 1 };
        making.backups(&lineage, Cluster::new(0xf07e_1000 + number), generations)?;
    }
    making.others()?;
    making.expected.save(folder)
}

fn text(id: [u8; 16]) -> String {
    Id::from_bytes(id).to_string()
}

fn first16(digest: &[u8; 32]) -> [u8; 16] {
    digest.first_chunk().copied().unwrap_or_default()
}

impl Making {
    fn put(&self, key: &str, object: &Object) -> Result<()> {
        let path = self.folder.join(key);
        std::fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        if path.exists() {
            return Err(format!("'{key}' is there already").into());
        }
        Ok(std::fs::write(path, &object.bytes)?)
    }

    /// Seals structures, one a frame, and puts them.
    fn record(&mut self, key: &str, kind: u8, epoch: u32, frames: &[Value]) -> Result<()> {
        let frames: Vec<Frame> = frames.iter().map(Frame::of).collect();
        let object = self.set.object(kind, epoch, true, &frames)?;
        self.put(key, &object)
    }

    /// Slots, data keys, and the descriptor, all in the clear.
    fn keys(&mut self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let file = KeyFile::random();
        std::fs::write(folder.join("key"), file.render().as_bytes())?;
        let code = RecoveryCode::random();
        std::fs::write(folder.join("recovery-code"), format!("{}\n", code.render().as_str()))?;
        let repository::unlock::Unlock::KeyFile { secret, .. } = file.unlock("key") else {
            return Err("a key file unlocks as one".into());
        };
        self.slot(1, "host", secret.expose())?;
        self.slot(3, "paper", code.secret().expose())?;
        self.slot(9, "a method nobody knows", &[1; 32])?;
        for number in 1..=self.set.epochs.len() {
            self.epoch(u32::try_from(number)?)?;
        }
        let descriptor = structure([
            (0, (&self.set.noise.id()).into()),
            (1, 1.into()),
            (2, Value::Bool(false)),
            (3, NOW_US.into()),
        ]);
        self.record("rollforward", 1, 0, &[descriptor])
    }

    fn slot(&mut self, method: u8, name: &str, ikm: &[u8; 32]) -> Result<()> {
        let key = format!("keys/slot/{}", text(self.set.noise.id()));
        let salt = self.set.noise.secret();
        let wrapping = hkdf(ikm, &salt, &[b"rollforward v1 slot", &self.set.id]);
        let wrapping = wrapping.get(..32).unwrap_or_default();
        let associated = [b"slot", &self.set.id[..], key.as_bytes(), &[method]].concat();
        let wrapped = gcm(wrapping, [0; 12], &associated, &self.set.root)?;
        let slot = structure([
            (0, u64::from(method).into()),
            (1, name.into()),
            (2, NOW_US.into()),
            (3, (&salt).into()),
            (5, wrapped.as_slice().into()),
        ]);
        self.record(&key, 2, 0, &[slot])
    }

    fn epoch(&mut self, number: u32) -> Result<()> {
        let salt = self.set.noise.secret();
        let wrapping = hkdf(&self.set.root, &salt, &[b"rollforward v1 epoch", &self.set.id]);
        let wrapping = wrapping.get(..32).unwrap_or_default();
        let associated = [b"epoch", &self.set.id[..], &number.to_le_bytes()].concat();
        let data_key = *self.set.epochs.get(number as usize - 1).ok_or("no such epoch")?;
        let wrapped = gcm(wrapping, [0; 12], &associated, &data_key)?;
        let epoch = structure([
            (0, u64::from(number).into()),
            (1, NOW_US.into()),
            (2, (&salt).into()),
            (3, wrapped.as_slice().into()),
        ]);
        self.record(&format!("keys/epoch/{number:08x}"), 3, 0, &[epoch])
    }

    /// The records that begin a cluster's history.
    fn lineage(&mut self, name: &'static str) -> Result<Lineage> {
        let noise = &mut self.set.noise;
        let lineage = Lineage { id: noise.id(), name, writers: [noise.id(), noise.id()] };
        let id = text(lineage.id);
        self.expected.cluster(name, &id, self.system_id);
        let record = structure([
            (0, name.into()),
            (1, self.system_id.into()),
            (2, NOW_US.into()),
            (3, (&lineage.id).into()),
        ]);
        self.record(&format!("lineage/{id}/record"), 5, 1, &[record])?;
        for writer in lineage.writers {
            let record = structure([
                (0, (&writer).into()),
                (1, "db1".into()),
                (2, "/srv/pg".into()),
                (3, (&self.set.digest(b"a token")?).into()),
                (4, NOW_US.into()),
                (5, (&lineage.id).into()),
            ]);
            self.record(&format!("lineage/{id}/writer/{}", text(writer)), 6, 1, &[record])?;
        }
        for number in 1..=2 {
            let state = structure([
                (0, number.into()),
                (1, 1.into()),
                (2, (&lineage.writers[0]).into()),
                (3, "registered".into()),
                (4, NOW_US.into()),
                (5, (&lineage.id).into()),
            ]);
            let epoch = u32::try_from(number)?;
            self.record(&format!("lineage/{id}/state/{number:08x}"), 7, epoch, &[state])?;
        }
        let reservation = structure([
            (0, 2.into()),
            (1, 1.into()),
            (2, (&lineage.writers[1]).into()),
            (3, "db2:/srv/restored".into()),
            (4, NOW_US.into()),
            (5, (&lineage.id).into()),
        ]);
        self.record(&format!("lineage/{id}/timeline/00000002"), 8, 2, &[reservation])?;
        let hash = text(first16(blake3::hash(name.as_bytes()).as_bytes()));
        let binding = structure([(0, name.into()), (1, (&lineage.id).into())]);
        self.record(&format!("cluster/{hash}/00000001"), 9, 1, &[binding])?;
        Ok(lineage)
    }

    /// Objects that this version writes rarely, or only keeps out of the way of.
    fn others(&mut self) -> Result<()> {
        let config = Frame { raw: b"# toml\n".to_vec(), codec: Codec::None, pages: false };
        let object = self.set.object(4, 2, true, &[config])?;
        self.put("config/00000001", &object)?;
        let lease = self.set.noise.id();
        for beat in [1_u64, 2] {
            let record = structure([
                (0, (&lease).into()),
                (1, "db1:4711".into()),
                (2, "20261121T040000Z-aaaa".into()),
                (4, 2.into()),
                (5, 900.into()),
                (6, beat.into()),
            ]);
            self.record(&format!("lease/{}/{beat:08x}", text(lease)), 21, 2, &[record])?;
        }
        let later = structure([(0, "decided later".into())]);
        let hold = text(self.set.noise.id());
        self.record(&format!("hold/{hold}"), 22, 2, std::slice::from_ref(&later))?;
        self.record("catalog/00000001", 25, 2, std::slice::from_ref(&later))?;
        self.record("journal/tms-1120-k7f3/00000001", 26, 2, std::slice::from_ref(&later))?;
        let dump = format!("dump/{}/20261121T050000Z-dump", text(self.set.noise.id()));
        self.record(&dump, 27, 2, &[later])
    }
}
