//! A card with what is kept on it: models, and the memory of a pass.
//!
//! What is kept is freed with its owner, or when memory is short. Nothing is freed for a pass that
//! would not have room all the same.
#![expect(unsafe_code, reason = "numbers are copied as the bytes that they are")]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::driver::{Argument, Driver, Kernel, Memory};
use crate::error::DeviceFault;

/// The kernels, which the driver compiles; made by `.ci/ptx`.
const KERNELS: &str = include_str!("../../cuda/kernels.ptx");

/// Numbers that are copied to and from a card.
pub(crate) trait Number: Copy + Default + plain::Plain {}

mod plain {
    /// Types without padding, of which any bits are a value.
    pub(crate) trait Plain {}
}

macro_rules! numbers {
    ($($type:ty)+) => {$(
        impl plain::Plain for $type {}
        impl Number for $type {}
    )+};
}

numbers!(u16 u32 f32 f64);

/// The bytes of numbers.
pub(crate) fn bytes_of<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: the types are plain, so all their bytes are initialized.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// The bytes of numbers, to write.
pub(crate) fn bytes_of_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: the types are plain, so any bytes may be written.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// What cards keep for an owner, who has this: it is freed with it.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<Arc<Memory>>>);

impl Kept {
    fn memories(&self) -> MutexGuard<'_, Vec<Arc<Memory>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this card keeps.
    fn on(&self, driver: &Arc<Driver>) -> Option<Arc<Memory>> {
        self.memories().iter().find(|memory| memory.is_on(driver)).cloned()
    }

    /// Frees what this card keeps, unless a pass uses it; whether it did.
    fn free_on(&self, driver: &Arc<Driver>) -> bool {
        let mut memories = self.memories();
        let count = memories.len();
        memories.retain(|memory| !memory.is_on(driver) || Arc::strong_count(memory) > 1);
        memories.len() < count
    }
}

/// What a pass needs: what is kept for owners, with its bytes, then rooms with theirs.
#[derive(Clone, Debug)]
pub(crate) struct Need<'a> {
    pub(crate) kept: Vec<(&'a Arc<Kept>, usize)>,
    pub(crate) rooms: Vec<usize>,
    /// Bytes that are needed before the rooms are.
    pub(crate) staging: usize,
}

impl Need<'_> {
    fn bytes(&self) -> usize {
        let kept: usize = self.kept.iter().map(|(_, bytes)| bytes).sum();
        kept + self.staging.max(self.rooms.iter().sum())
    }
}

/// What there was no memory for, and how much could be had at that time.
#[derive(Clone, Copy, Debug)]
struct Shortage {
    needed: usize,
    available: usize,
}

/// A card that was opened.
#[derive(Debug)]
pub(crate) struct Card {
    driver: Arc<Driver>,
    name: String,
    multiprocessors: usize,
    /// For whom something is kept, from what was used longest ago on.
    owners: Vec<Weak<Kept>>,
    /// Memory of passes, by its use.
    rooms: Vec<Option<Memory>>,
    shortage: Option<Shortage>,
    /// Whether it failed: nothing is computed on it any more.
    has_failed: bool,
}

impl Card {
    /// Opens card `index` with the driver in `library`, or with the system's.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(crate) fn open(library: Option<&Path>, index: u32) -> Result<Self, DeviceFault> {
        if cfg!(target_endian = "big") {
            return Err(DeviceFault::NoDriver);
        }
        let driver = Arc::new(Driver::open(library, index, KERNELS)?);
        Ok(Self {
            name: driver.name(),
            multiprocessors: driver.multiprocessors(),
            driver,
            owners: Vec::new(),
            rooms: Vec::new(),
            shortage: None,
            has_failed: false,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its multiprocessors.
    pub(crate) fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Memory that is free, in bytes.
    pub(crate) fn free_bytes(&self) -> Result<usize, DeviceFault> {
        self.driver.free_bytes()
    }

    /// Whether it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Computes nothing on it any more.
    pub(crate) fn give_up(&mut self) {
        self.has_failed = true;
        self.rooms.clear();
        while self.free_oldest() {}
    }

    /// Starts a kernel, which runs after everything started before.
    ///
    /// # Safety
    /// That of [`Driver::launch`].
    pub(crate) unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        threads: usize,
        arguments: &[Argument],
    ) -> Result<(), DeviceFault> {
        // SAFETY: the caller promises the same.
        unsafe { self.driver.launch(kernel, grid, threads, arguments) }
    }

    /// New memory.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Memory, DeviceFault> {
        Memory::new(&self.driver, bytes)
    }

    /// What is kept for this owner; if there is nothing, `bytes` that `fill` writes. It makes room
    /// by freeing the memory of passes, and what is kept for others.
    pub(crate) fn keep(
        &mut self,
        owner: &Arc<Kept>,
        bytes: usize,
        fill: impl FnOnce(&Self, &Memory) -> Result<(), DeviceFault>,
    ) -> Result<Arc<Memory>, DeviceFault> {
        let memory = if let Some(memory) = owner.on(&self.driver) {
            memory
        } else {
            let memory = loop {
                match self.allocate(bytes) {
                    Err(DeviceFault::OutOfMemory) if self.free_something() => {}
                    memory => break Arc::new(memory?),
                }
            };
            fill(self, &memory)?;
            owner.memories().push(Arc::clone(&memory));
            memory
        };
        // The last one was used last.
        let key = Arc::downgrade(owner);
        self.owners.retain(|other| other.strong_count() > 0 && !other.ptr_eq(&key));
        self.owners.push(key);
        Ok(memory)
    }

    /// Frees the memory of passes, or else what is kept and was used longest ago; false if there is
    /// nothing.
    fn free_something(&mut self) -> bool {
        let had_rooms = self.rooms.iter().any(Option::is_some);
        self.rooms.clear();
        had_rooms || self.free_oldest()
    }

    /// Frees what is kept and was used longest ago, but not what a pass uses; false if there is
    /// nothing.
    fn free_oldest(&mut self) -> bool {
        let driver = &self.driver;
        let freed = self
            .owners
            .iter()
            .position(|owner| owner.upgrade().is_some_and(|owner| owner.free_on(driver)));
        if let Some(at) = freed {
            self.owners.remove(at);
        }
        freed.is_some()
    }

    /// Whether there is memory for a pass, if all is freed that it does not need; asked before
    /// anything is freed for it.
    pub(crate) fn has_memory_for(&self, need: &Need<'_>) -> Result<bool, DeviceFault> {
        let is_kept = need.kept.iter().all(|(owner, _)| owner.on(&self.driver).is_some());
        let room_bytes = |room: usize| self.rooms.get(room).and_then(Option::as_ref);
        let mut rooms = need.rooms.iter().enumerate();
        if is_kept
            && rooms.all(|(at, bytes)| room_bytes(at).is_some_and(|room| room.bytes() >= *bytes))
        {
            return Ok(true);
        }
        let (needed, available) = (need.bytes(), self.available()?);
        // The same again is tried when clearly more is free, not whenever some bytes are.
        let is_hopeless = self.shortage.is_some_and(|shortage| {
            needed >= shortage.needed && available < shortage.available + needed / 16
        });
        Ok(needed <= available && !is_hopeless)
    }

    /// Remembers that there was no memory for a pass, and frees what it had so far.
    pub(crate) fn note_shortage(&mut self, need: &Need<'_>) -> Result<(), DeviceFault> {
        self.rooms.clear();
        self.shortage = Some(Shortage { needed: need.bytes(), available: self.available()? });
        Ok(())
    }

    /// Bytes that could be had if everything here was freed.
    fn available(&self) -> Result<usize, DeviceFault> {
        let rooms: usize = self.rooms.iter().flatten().map(Memory::bytes).sum();
        let owners = self.owners.iter().filter_map(Weak::upgrade);
        let kept = owners.filter_map(|owner| owner.on(&self.driver));
        Ok(self.free_bytes()? + rooms + kept.map(|memory| memory.bytes()).sum::<usize>())
    }

    /// Makes the memory of a pass for each use at least so long; its content is unspecified. It
    /// makes room by freeing what was there, and what is kept for others.
    pub(crate) fn make_rooms(&mut self, bytes: &[usize]) -> Result<(), DeviceFault> {
        match self.grow_rooms(bytes) {
            Err(DeviceFault::OutOfMemory) => self.rooms.clear(),
            result => return result,
        }
        loop {
            match self.grow_rooms(bytes) {
                Err(DeviceFault::OutOfMemory) if self.free_oldest() => {}
                result => return result,
            }
        }
    }

    fn grow_rooms(&mut self, bytes: &[usize]) -> Result<(), DeviceFault> {
        if self.rooms.len() < bytes.len() {
            self.rooms.resize_with(bytes.len(), || None);
        }
        for (at, &bytes) in bytes.iter().enumerate() {
            if self.rooms[at].as_ref().is_none_or(|memory| memory.bytes() < bytes) {
                self.rooms[at] = None;
                self.rooms[at] = Some(self.allocate(bytes)?);
            }
        }
        Ok(())
    }

    /// The memory of a pass for this use.
    ///
    /// # Panics
    /// If none was made.
    #[expect(clippy::expect_used, reason = "a pass makes its rooms before it starts")]
    pub(crate) fn room(&self, room: usize) -> &Memory {
        self.rooms[room].as_ref().expect("the pass made this room")
    }
}
