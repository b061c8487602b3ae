//! A card with what is kept on it: models, and the memory of a pass.
//!
//! What is kept belongs to an owner and is freed once the owner is gone, or when memory is short.
#![expect(unsafe_code, reason = "numbers are copied as the bytes that they are")]

use std::path::Path;
use std::sync::{Arc, Weak};

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

/// What is kept for an owner.
#[derive(Debug)]
struct Kept {
    owner: Weak<()>,
    memory: Arc<Memory>,
}

/// A card that was opened.
#[derive(Debug)]
pub(crate) struct Card {
    driver: Arc<Driver>,
    name: String,
    multiprocessors: usize,
    kept: Vec<Kept>,
    /// Memory of passes, by its use.
    rooms: Vec<Option<Memory>>,
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
            kept: Vec::new(),
            rooms: Vec::new(),
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

    /// Whether it failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Computes nothing on it any more.
    pub(crate) fn give_up(&mut self) {
        self.has_failed = true;
        self.kept.clear();
        self.rooms.clear();
    }

    /// Starts a kernel, which runs after everything started before.
    pub(crate) fn launch(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        threads: usize,
        arguments: &[Argument],
    ) -> Result<(), DeviceFault> {
        self.driver.launch(kernel, grid, threads, arguments)
    }

    /// New memory.
    pub(crate) fn allocate(&self, bytes: usize) -> Result<Memory, DeviceFault> {
        Memory::new(&self.driver, bytes)
    }

    /// What is kept for this owner; if there is nothing, `bytes` that `fill` writes. It makes room
    /// by removing what is kept for others.
    pub(crate) fn keep(
        &mut self,
        owner: &Arc<()>,
        bytes: usize,
        fill: impl FnOnce(&Self, &Memory) -> Result<(), DeviceFault>,
    ) -> Result<Arc<Memory>, DeviceFault> {
        let key = Arc::downgrade(owner);
        self.kept.retain(|kept| kept.owner.strong_count() > 0);
        if let Some(at) = self.kept.iter().position(|kept| kept.owner.ptr_eq(&key)) {
            // The last one was used last.
            let kept = self.kept.remove(at);
            let memory = Arc::clone(&kept.memory);
            self.kept.push(kept);
            return Ok(memory);
        }
        let memory = loop {
            match self.allocate(bytes) {
                Err(DeviceFault::OutOfMemory) if self.free_something() => {}
                memory => break Arc::new(memory?),
            }
        };
        fill(self, &memory)?;
        self.kept.push(Kept { owner: key, memory: Arc::clone(&memory) });
        Ok(memory)
    }

    /// Frees the memory of passes, or else what was used longest ago; false if there is nothing.
    fn free_something(&mut self) -> bool {
        if self.rooms.iter().any(Option::is_some) {
            self.rooms.clear();
            return true;
        }
        if self.kept.is_empty() {
            return false;
        }
        self.kept.remove(0);
        true
    }

    /// Frees everything but what is kept for this owner.
    pub(crate) fn free_others(&mut self, owner: &Arc<()>) {
        let key = Arc::downgrade(owner);
        self.rooms.clear();
        self.kept.retain(|kept| kept.owner.ptr_eq(&key));
    }

    /// Frees the memory of passes.
    pub(crate) fn free_rooms(&mut self) {
        self.rooms.clear();
    }

    /// Makes the memory of a pass for this use at least so long; its content is unspecified.
    pub(crate) fn make_room(&mut self, room: usize, bytes: usize) -> Result<(), DeviceFault> {
        if self.rooms.len() <= room {
            self.rooms.resize_with(room + 1, || None);
        }
        if self.rooms[room].as_ref().is_none_or(|memory| memory.bytes() < bytes) {
            self.rooms[room] = None;
            self.rooms[room] = Some(self.allocate(bytes)?);
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
