//! Tests of the authenticated database on disk.
#![recursion_limit = "256"]

use std::{path::Path, sync::Arc};

use commonware_glue::stateful::db::DatabaseSet;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    buffer::paged::CacheRef,
    tokio::{Config, Context, Runner},
};
use commonware_utils::{NZU16, NZUsize};
use soma_protocol::{Changes, Key, MemoryState};
use soma_store::StoreError;
use soma_store::database::{Databases, VALUE_BYTES_MAX, commitment, config, load, merkleize};

/// The changes of block `height`: keys written and deleted, with values of many lengths.
fn changes(height: u64) -> Changes {
    let mut changes = Changes::default();
    for at in 0..20 {
        let byte = u8::try_from((height * 7 + at * at) % 90).unwrap_or_default();
        let length = usize::try_from(height * at * 13 % 3_000).unwrap_or_default();
        let deleted = (height + at).is_multiple_of(5);
        let value = (!deleted).then(|| Arc::from(vec![byte; length]));
        changes.0.insert(Key([byte; 32]), value);
    }
    changes
}

fn on(dir: &Path) -> Runner {
    Runner::new(Config::new().with_storage_directory(dir))
}

async fn open(context: &Context) -> Databases<Context> {
    let cache = CacheRef::new(NZU16!(4_084), NZUsize!(64));
    let context = context.child("database");
    <Databases<Context> as DatabaseSet<Context>>::init(context, config("test", cache), None).await
}

#[test]
fn a_reopened_database_loads_what_was_committed_under_the_same_root() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = MemoryState::default();
    let mut last = None;
    for heights in [1..=1, 2..=40, 41..=120] {
        let root = on(dir.path()).start(async |context| {
            let databases = open(&context).await;
            let mut root = None;
            for height in heights {
                let changes = changes(height);
                expected.apply(&changes);
                let batch = DatabaseSet::<Context>::new_batches(&databases).await;
                let merkleized = merkleize::<Context>(batch, height, &changes).await.unwrap();
                root = Some(commitment::<Context>(&merkleized));
                DatabaseSet::<Context>::apply(&databases, merkleized).await;
                last = Some(height);
            }
            assert!(DatabaseSet::<Context>::finalize(&databases).await.durable().await);
            root
        });
        on(dir.path()).start(async |context| {
            let databases = open(&context).await;
            let database = databases.read().await;
            let (height, memory) = load(&database).await.unwrap().expect("it has commits");
            assert_eq!((Some(height), &memory), (last, &expected));
            assert_eq!(Some(database.root()), root.map(|commitment| commitment.root));
        });
    }
}

#[test]
fn the_longest_value_is_read_again_and_a_longer_one_is_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let longest = |bytes: usize| {
        let mut changes = Changes::default();
        changes.0.insert(Key([1; 32]), Some(Arc::from(vec![7; bytes])));
        changes
    };
    on(dir.path()).start(async |context| {
        let databases = open(&context).await;
        let batch = async || DatabaseSet::<Context>::new_batches(&databases).await;
        let changes = longest(VALUE_BYTES_MAX + 1);
        let refused = merkleize::<Context>(batch().await, 1, &changes).await;
        assert!(matches!(refused, Err(StoreError::TooLong { .. })));
        let changes = longest(VALUE_BYTES_MAX);
        let merkleized = merkleize::<Context>(batch().await, 1, &changes).await.unwrap();
        DatabaseSet::<Context>::apply(&databases, merkleized).await;
        assert!(DatabaseSet::<Context>::finalize(&databases).await.durable().await);
    });
    on(dir.path()).start(async |context| {
        let databases = open(&context).await;
        let database = databases.read().await;
        let (_, memory) = load(&database).await.unwrap().expect("it has a commit");
        assert_eq!(memory.0[&Key([1; 32])].len(), VALUE_BYTES_MAX);
    });
}

#[test]
fn a_new_database_is_empty_and_has_the_root_of_the_genesis_header() {
    let dir = tempfile::tempdir().unwrap();
    on(dir.path()).start(async |context| {
        let databases = open(&context).await;
        let database = databases.read().await;
        assert!(load(&database).await.unwrap().is_none());
        assert_eq!(database.root(), soma_store::database::empty_commitment::<Context>().root);
    });
}
