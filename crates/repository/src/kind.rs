//! What an object is.

/// The kind of an object: byte 10 of its header, and part of what its frames are sealed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Describes the repository: set id, encryption. In the clear.
    Descriptor = 1,
    /// One way to open the root key. In the clear but for the wrapped key.
    KeySlot = 2,
    /// One data key, wrapped by the root key.
    KeyEpoch = 3,
    /// A copy of the configuration.
    Config = 4,
    /// One cluster's history begins.
    Lineage = 5,
    /// A host that may write into a lineage.
    Writer = 6,
    /// The current timeline of a lineage; the highest number wins.
    LineageState = 7,
    /// A timeline id that a restore has taken before it promotes.
    TimelineReservation = 8,
    /// Binds a cluster's name to a lineage; the highest number wins.
    ClusterName = 9,
    /// A backup's root: its existence is the backup's.
    BackupRoot = 10,
    /// File content.
    DataPack = 11,
    /// Nodes of backup trees.
    MetaPack = 12,
    /// One complete WAL segment.
    WalSegment = 13,
    /// A part of the current WAL segment.
    WalPiece = 14,
    /// A timeline history file.
    TimelineHistory = 15,
    /// A backup history file (`.backup`).
    BackupHistory = 16,
    /// The last, incomplete segment of a dead timeline (`.partial`).
    WalPartial = 17,
    /// A segment of the same name with other content.
    WalConflict = 18,
    /// WAL that is known to be missing.
    WalGap = 19,
    /// Derived data of a range of WAL segments.
    WalIndex = 20,
    /// A running writer.
    Lease = 21,
    /// Keeps objects from expiry without a time limit.
    Hold = 22,
    /// A pack that expiry is about to delete.
    Condemned = 23,
    /// Where the live frames of a compacted pack are now.
    Moved = 24,
    /// A rebuildable list of backups.
    Catalog = 25,
    /// A record of a recovery run.
    Journal = 26,
    /// A logical dump's root.
    DumpRoot = 27,
}

impl Kind {
    /// Every kind of format version 1.
    pub const ALL: [Self; 27] = [
        Self::Descriptor,
        Self::KeySlot,
        Self::KeyEpoch,
        Self::Config,
        Self::Lineage,
        Self::Writer,
        Self::LineageState,
        Self::TimelineReservation,
        Self::ClusterName,
        Self::BackupRoot,
        Self::DataPack,
        Self::MetaPack,
        Self::WalSegment,
        Self::WalPiece,
        Self::TimelineHistory,
        Self::BackupHistory,
        Self::WalPartial,
        Self::WalConflict,
        Self::WalGap,
        Self::WalIndex,
        Self::Lease,
        Self::Hold,
        Self::Condemned,
        Self::Moved,
        Self::Catalog,
        Self::Journal,
        Self::DumpRoot,
    ];

    /// The kind with this number, if format version 1 has it.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}
