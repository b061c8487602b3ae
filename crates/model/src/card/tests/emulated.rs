//! The emulated card: built once, used by one test at a time.
#![expect(unsafe_code, reason = "the emulated driver is a C library, too")]

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::Library;

use crate::device::Card;

/// The emulated card. The others wait while a test has it.
pub(super) struct Emulated {
    library: Library,
    path: &'static Path,
    _lock: MutexGuard<'static, ()>,
}

impl Emulated {
    /// `None`, with a message, where there is no compiler.
    pub(super) fn new() -> Option<Self> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        static LOCK: Mutex<()> = Mutex::new(());
        let path = LIBRARY.get_or_init(build).as_deref()?;
        let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it was built from `emulated.cpp`, which does nothing at loading.
        let library = unsafe { Library::new(path) }.unwrap();
        let emulated = Self { library, path, _lock: lock };
        // SAFETY: this is its declaration.
        unsafe { emulated.library.get::<extern "C" fn()>("emulated_reset").unwrap()() };
        Some(emulated)
    }

    /// The driver's library.
    pub(super) fn path(&self) -> &'static Path {
        self.path
    }

    pub(super) fn card(&self) -> Card {
        Card::open(Some(self.path), 0).unwrap()
    }

    /// Lets the card do something else; `Choices` in `emulated.cpp` says what.
    pub(super) fn set(&self, name: &str, value: i64) {
        type Set = extern "C" fn(*const c_char, i64);
        let name = CString::new(name).unwrap();
        // SAFETY: this is its declaration.
        unsafe { self.library.get::<Set>("emulated_set").unwrap()(name.as_ptr(), value) };
    }

    /// What the card did; `Facts` in `emulated.cpp` says what.
    pub(super) fn get(&self, name: &str) -> i64 {
        type Get = extern "C" fn(*const c_char) -> i64;
        let name = CString::new(name).unwrap();
        // SAFETY: this is its declaration.
        unsafe { self.library.get::<Get>("emulated_get").unwrap()(name.as_ptr()) }
    }

    /// What a careless kernel sees of a copy that nobody waited for.
    pub(super) fn careless(&self) -> f32 {
        // SAFETY: this is its declaration.
        unsafe { self.library.get::<extern "C" fn() -> f32>("emulated_careless").unwrap()() }
    }

    /// Every order of threads, with copies as late and as early as may be.
    pub(super) fn in_every_order(&self, mut test: impl FnMut()) {
        for (descending, early) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            self.set("descending", descending);
            self.set("early", early);
            test();
        }
    }
}

/// Builds the emulated driver beside the test program, unless this very source was built before.
fn build() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut hasher = blake3::Hasher::new();
    let kernels = ["arithmetic.cuh", "functions.cuh", "product.cuh", "kernels.cu"];
    for name in kernels.into_iter().chain(["emulated.hpp", "emulated.cpp"]) {
        hasher.update(&std::fs::read(folder.join(name)).unwrap());
    }
    let program = std::env::current_exe().unwrap();
    let hash = hasher.finalize().to_hex();
    let library = program.with_file_name(format!("soma-emulated-{}.so", &hash[..16]));
    if library.exists() {
        return Some(library);
    }
    // Under an emulator of another CPU, the compiler makes libraries for this machine.
    let makes_ours = |name: &&str| {
        let output = Command::new(name).arg("-dumpmachine").output();
        output.is_ok_and(|output| output.stdout.starts_with(std::env::consts::ARCH.as_bytes()))
    };
    let compiler = ["c++", "g++", "clang++"].into_iter().find(makes_ours);
    let Some(compiler) = compiler.filter(|_| cfg!(target_os = "linux")) else {
        eprintln!("skipped: no C++ compiler for Linux on this CPU, to emulate a card with");
        return None;
    };
    let temporary = library.with_extension(format!("{}.tmp", std::process::id()));
    let mut command = Command::new(compiler);
    command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-fPIC"]);
    command.args(["-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-o"]);
    command.arg(&temporary).arg(folder.join("emulated.cpp"));
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("fma") {
        // The library's fma gives the same bits, slowly.
        command.arg("-mfma");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&temporary, &library).unwrap();
    Some(library)
}
