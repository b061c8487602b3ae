//! Bounds that more than one module relies on. Only numbers; the sizes of single components are
//! defined where they are used.

use std::{num::NonZeroU64, time::Duration};

use commonware_runtime::Quota;
use commonware_utils::{NZU32, NZU64};

use crate::calendar::TERM_BLOCKS;

/// The most bytes of transactions in a block: 1 MiB, the most weight that the rules allow.
pub const BLOCK_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(BLOCK_BYTES_MAX as u64 == soma_protocol::BLOCK_WEIGHT_MAX);
/// The most transactions in a block.
pub const BLOCK_TRANSACTIONS_MAX: usize = soma_protocol::BLOCK_TRANSACTIONS_MAX as usize;
/// The largest committee; it bounds certificates.
pub(crate) const SEATS_MAX: usize = soma_protocol::record::SEATS_MAX as usize;
/// The most nodes that one node connects to, itself included. Mailboxes are allocated for all of
/// them.
pub const PEERS_MAX: usize = 128;

/// The longest gossip message: 256 KiB.
pub const GOSSIP_BYTES_MAX: usize = 1 << 18;
/// The longest response of the sync protocol: a block with its framing.
pub(crate) const RESPONSE_BYTES_MAX: usize = 5 << 18;
/// The most messages per second from one peer on one channel. Mailboxes are allocated for this many
/// messages from every peer.
pub const QUOTA: Quota = Quota::per_second(NZU32!(256));
/// Like [`QUOTA`], for gossip, whose messages are longer.
pub const GOSSIP_QUOTA: Quota = Quota::per_second(NZU32!(64));
/// Like [`QUOTA`], for messages about leases: a node sends each peer five in a second at most.
pub const LEASES_QUOTA: Quota = Quota::per_second(NZU32!(16));
/// How long a peer is refused that broke the protocol: long enough that garbage costs nothing,
/// short enough that nodes which block each other by mistake vote together again without an
/// operator.
pub const BLOCK_DURATION: Duration = Duration::from_mins(10);

/// The number of finalized blocks in one file. All files stay open, so there must be few; a file is
/// pruned as a whole.
pub(crate) const SECTION_BLOCKS: NonZeroU64 = NZU64!(1 << 15);
/// The number of terms whose superseded state is kept for nodes that sync.
pub(crate) const SNAPSHOT_TERMS: u64 = 8;
/// The fewest blocks that a node keeps: peers that sync meanwhile need them.
pub const KEEP_BLOCKS_MIN: u64 = SNAPSHOT_TERMS * TERM_BLOCKS;
