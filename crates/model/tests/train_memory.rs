//! A step needs no more memory than the steps before it, and a checkpoint almost none.
#![expect(unsafe_code, reason = "an allocator that counts can only be declared so")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{Architecture, Engine, KernelChoice, Weights};

struct Counting;

/// Bytes allocated now, and the most since the last reset.
static LIVE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(live, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steps_after_the_first_keep_nothing_and_need_little_for_a_moment() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let architecture = Architecture { layers: 2, ..Architecture::nano() };
    let weights = Weights::init(&architecture, [0; 32]).unwrap();
    let corpus = Corpus::from("some text to learn, again and again; ".repeat(400).as_bytes());
    let recipe = Recipe { batch: 4, ..Recipe::default() };
    let mut trainer = Trainer::new(&engine, &weights, recipe, corpus).unwrap();
    for _ in 0..3 {
        trainer.step().unwrap();
    }
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    for _ in 0..10 {
        trainer.step().unwrap();
    }
    let kept = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    let most = MOST.load(Ordering::Relaxed) - before;
    assert!(kept < 1 << 16, "{kept} bytes kept");
    assert!(most < 1 << 20, "{most} bytes for a moment");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    trainer.save_checkpoint(&path).unwrap();
    let most = MOST.load(Ordering::Relaxed) - before;
    let size = usize::try_from(path.metadata().unwrap().len()).unwrap();
    assert!(most < 1 << 20 && most < size / 4, "{most} bytes to write {size}");
}
