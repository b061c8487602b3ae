//! The functions of NVIDIA's driver that are needed, taken from its library at run time.
//!
//! The library is never unloaded: it has threads of its own. What a kernel reaches with its
//! arguments only whoever launches it knows; all else here is safe to call.
#![expect(unsafe_code, reason = "the driver is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use libloading::Library;

use super::card::{Number, bytes_of, bytes_of_mut};
use crate::error::DeviceFault;

/// What a function of the driver returns if it succeeds.
const SUCCESS: c_int = 0;
/// What it returns if the card has too little memory.
const OUT_OF_MEMORY: c_int = 2;
/// What it returns if there is no card.
const NO_DEVICE: c_int = 100;
/// The attribute that counts multiprocessors.
const MULTIPROCESSORS: c_int = 16;
/// The attribute that is the first number of the compute capability.
const CAPABILITY: c_int = 75;
/// The option of a compilation that names where errors are written, and the one with its length.
const ERROR_LOG: [c_int; 2] = [5, 6];
/// Bytes of what the compiler may say of an error.
const LOG_BYTES: usize = 4 << 10;
/// The least compute capability that the kernels run on (Ampere).
const CAPABILITY_MIN: c_int = 8;

/// Declares functions of the driver: a field, the name in the library, the types of arguments.
macro_rules! functions {
    ($($field:ident = $symbol:literal($($argument:ty),*);)+) => {
        #[derive(Clone, Copy, Debug)]
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> c_int,)+
        }

        impl Functions {
            fn of(library: &Library) -> Result<Self, DeviceFault> {
                let absent = |function| move |_| DeviceFault::OldDriver { function };
                Ok(Self {
                    $(
                        // SAFETY: this is its declaration in cuda.h.
                        $field: *unsafe { library.get($symbol) }.map_err(absent($symbol))?,
                    )+
                })
            }
        }
    };
}

functions! {
    init = "cuInit"(c_uint);
    count = "cuDeviceGetCount"(*mut c_int);
    get = "cuDeviceGet"(*mut c_int, c_int);
    name = "cuDeviceGetName"(*mut c_char, c_int, c_int);
    attribute = "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    retain = "cuDevicePrimaryCtxRetain"(*mut *mut c_void, c_int);
    release = "cuDevicePrimaryCtxRelease_v2"(c_int);
    set_current = "cuCtxSetCurrent"(*mut c_void);
    load = "cuModuleLoadDataEx"(
        *mut *mut c_void, *const c_void, c_uint, *const c_int, *const *mut c_void
    );
    unload = "cuModuleUnload"(*mut c_void);
    function = "cuModuleGetFunction"(*mut *mut c_void, *mut c_void, *const c_char);
    memory = "cuMemGetInfo_v2"(*mut usize, *mut usize);
    allocate = "cuMemAlloc_v2"(*mut u64, usize);
    free = "cuMemFree_v2"(u64);
    write = "cuMemcpyHtoD_v2"(u64, *const c_void, usize);
    read = "cuMemcpyDtoH_v2"(*mut c_void, u64, usize);
    fill = "cuMemsetD32_v2"(u64, c_uint, usize);
    launch = "cuLaunchKernel"(
        *mut c_void, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, *mut c_void,
        *mut *mut c_void, *mut *mut c_void
    );
    error_text = "cuGetErrorString"(c_int, *mut *const c_char);
}

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// A number of 32 bits.
    U32,
    /// A number of 64 bits, or an address.
    U64,
    /// A float32.
    F32,
    /// A float64.
    F64,
}

/// Declares the kernels, whose names and types of arguments are those in `kernels.cu`.
macro_rules! kernels {
    ($($kernel:ident = $name:literal($($argument:ident),*),)+) => {
        /// A kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kernel {
            $($kernel,)+
        }

        impl Kernel {
            /// All of them, in the order of their numbers, with names and arguments.
            pub(crate) const ALL: &'static [(Self, &'static str, &'static [Type])] =
                &[$((Self::$kernel, $name, &[$(Type::$argument),*]),)+];
        }
    };
}

kernels! {
    PlaceWeights = "place_weights"(U64, U32, U32, U64, U32, U64, U32, U64),
    Embed = "embed"(U64, U64, U64, U32, U32, U64),
    Normalize = "normalize"(U64, U64, U64, U32, U32, U64),
    LinearLarge = "linear_large"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    LinearMedium = "linear_medium"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    LinearSmall = "linear_small"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    LinearLargeHalf = "linear_large_half"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    LinearMediumHalf = "linear_medium_half"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    LinearSmallHalf = "linear_small_half"(U64, U64, U64, U32, U32, U32, U32, U32, U64, U64),
    Rotate = "rotate"(U64, U64, U64, U64, U32, U32, U32, U32),
    Transpose = "transpose"(U64, U32, U32, U32, U32, U64),
    ScoresMedium = "scores_medium"(U64, U32, U32, U32, U32, F32, U64, U64, U64, U64),
    ScoresSmall = "scores_small"(U64, U32, U32, U32, U32, F32, U64, U64, U64, U64),
    Weigh = "weigh"(U64, U64, U64, U64, U32, U64),
    ValuesMedium = "values_medium"(U64, U32, U32, U32, U32, U32, U64, U64, U64, U64, U64, U64),
    ValuesSmall = "values_small"(U64, U32, U32, U32, U32, U32, U64, U64, U64, U64, U64, U64),
    Likelihood = "likelihood"(U64, U64, U64, U32, U32, U64, U64),
    SumRows = "sum_rows"(U64, U64, U32, U32, U64, U64),
    Characteristic = "characteristic"(U64, U64, F64, U32, U32, U32, U64),
    Functions = "functions"(U64, U32, U64),
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Argument {
    /// An address on the card.
    Address(u64),
    /// A number of 32 bits.
    Count(usize),
    /// A number of 64 bits.
    Long(usize),
    /// A float32.
    Float(f32),
    /// A float64.
    Double(f64),
}

impl Argument {
    /// Its bits, from the lowest on, as the driver reads them on a little-endian machine.
    #[expect(clippy::cast_possible_truncation, reason = "counts are below 2^32")]
    fn bits(self) -> u64 {
        match self {
            Self::Address(address) => address,
            Self::Count(count) => u64::from(count as u32),
            Self::Long(count) => count as u64,
            Self::Float(value) => u64::from(value.to_bits()),
            Self::Double(value) => value.to_bits(),
        }
    }

    fn has_type(self) -> Type {
        match self {
            Self::Address(_) | Self::Long(_) => Type::U64,
            Self::Count(_) => Type::U32,
            Self::Float(_) => Type::F32,
            Self::Double(_) => Type::F64,
        }
    }
}

/// A card in use: a context with the kernels in it.
#[derive(Debug)]
pub(crate) struct Driver {
    functions: Functions,
    device: c_int,
    context: *mut c_void,
    module: *mut c_void,
    kernels: Vec<*mut c_void>,
}

// SAFETY: the driver's functions may be called from any thread, and every call here first makes the
// context current on its own.
unsafe impl Send for Driver {}
// SAFETY: as above.
unsafe impl Sync for Driver {}

impl Driver {
    /// Opens card `index` with the driver in `library`, or with the system's.
    ///
    /// # Errors
    /// Why the card cannot be used.
    pub(crate) fn open(
        library: Option<&Path>,
        index: u32,
        kernels: &str,
    ) -> Result<Self, DeviceFault> {
        let library = match library {
            // SAFETY: the caller names a library that is a driver.
            Some(path) => unsafe { Library::new(path) }.map_err(|_| DeviceFault::NoDriver)?,
            None => system_library()?,
        };
        let functions = Functions::of(&library);
        // Whatever becomes of the card: unloading it while its threads run would end the process.
        std::mem::forget(library);
        let functions = functions?;
        let device = find(functions, index)?;
        let mut driver = Self {
            functions,
            device,
            context: ptr::null_mut(),
            module: ptr::null_mut(),
            kernels: Vec::new(),
        };
        // SAFETY: the context is a place to write to, and the device exists.
        check(functions, "cuDevicePrimaryCtxRetain", unsafe {
            (functions.retain)(&raw mut driver.context, device)
        })?;
        driver.enter()?;
        driver.compile(kernels)?;
        Ok(driver)
    }

    /// Lets the driver compile the kernels.
    fn compile(&mut self, kernels: &str) -> Result<(), DeviceFault> {
        let not_text = |_| DeviceFault::Kernels { reason: "they are not text".to_owned() };
        let text = CString::new(kernels).map_err(not_text)?;
        let mut log = [0_u8; LOG_BYTES];
        let values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(LOG_BYTES)];
        // SAFETY: the text ends with a zero byte and outlives the call, and so do the two options
        // and the log, whose length the second one is.
        let code = unsafe {
            (self.functions.load)(
                &raw mut self.module,
                text.as_ptr().cast(),
                2,
                ERROR_LOG.as_ptr(),
                values.as_ptr(),
            )
        };
        match self.check("cuModuleLoadDataEx", code) {
            Err(DeviceFault::Failed { reason, .. }) => {
                let said = CStr::from_bytes_until_nul(&log).map(CStr::to_string_lossy);
                let first = said.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
                let separator = if first.is_empty() { "" } else { ": " };
                return Err(DeviceFault::Kernels { reason: format!("{reason}{separator}{first}") });
            }
            result => result?,
        }
        for (_, name, _) in Kernel::ALL {
            let name = CString::new(*name).map_err(not_text)?;
            let mut function = ptr::null_mut();
            // SAFETY: the module is loaded, and the name ends with a zero byte.
            self.check("cuModuleGetFunction", unsafe {
                (self.functions.function)(&raw mut function, self.module, name.as_ptr())
            })?;
            self.kernels.push(function);
        }
        Ok(())
    }

    /// The card's name.
    pub(crate) fn name(&self) -> String {
        let mut name = [0; 256];
        // SAFETY: the driver writes at most 256 bytes, with a zero at the end.
        let code = unsafe { (self.functions.name)(name.as_mut_ptr(), 256, self.device) };
        if code != SUCCESS {
            return "card".to_owned();
        }
        name[255] = 0;
        // SAFETY: the last byte is zero.
        unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
    }

    /// Its multiprocessors.
    pub(crate) fn multiprocessors(&self) -> usize {
        attribute(self.functions, self.device, MULTIPROCESSORS)
            .ok()
            .and_then(|count| usize::try_from(count).ok())
            .unwrap_or(1)
    }

    /// Memory that is free, in bytes.
    pub(crate) fn free_bytes(&self) -> Result<usize, DeviceFault> {
        self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: both are places to write to.
        let code = unsafe { (self.functions.memory)(&raw mut free, &raw mut total) };
        self.check("cuMemGetInfo", code)?;
        Ok(free)
    }

    /// Starts a kernel, which runs after everything started before.
    ///
    /// # Safety
    /// Each address is one of memory of this card that lives until the kernel has run, and what
    /// the kernel reads and writes from there on, given its other arguments, the grid and the
    /// numbers in that memory, lies inside. Where a card shares the addresses of the process, it
    /// would reach those.
    ///
    /// # Panics
    /// If the arguments are not of the types that the kernel has.
    pub(crate) unsafe fn launch(
        &self,
        kernel: Kernel,
        grid: [usize; 3],
        threads: usize,
        arguments: &[Argument],
    ) -> Result<(), DeviceFault> {
        let (_, name, types) = Kernel::ALL[kernel as usize];
        let given = arguments.iter().map(|argument| argument.has_type());
        assert!(given.eq(types.iter().copied()), "{name} has arguments of other types");
        self.enter()?;
        let mut bits: Vec<u64> = arguments.iter().map(|argument| argument.bits()).collect();
        let mut places: Vec<*mut c_void> =
            bits.iter_mut().map(|bits| ptr::from_mut(bits).cast()).collect();
        #[expect(clippy::cast_possible_truncation, reason = "grids are below 2^31 blocks")]
        let [x, y, z, threads] = [grid[0], grid[1], grid[2], threads].map(|n| n as c_uint);
        // SAFETY: the kernel has arguments of these types, which outlive the call, and the caller
        // promises the rest.
        self.check("cuLaunchKernel", unsafe {
            (self.functions.launch)(
                self.kernels[kernel as usize],
                x,
                y,
                z,
                threads,
                1,
                1,
                0,
                ptr::null_mut(),
                places.as_mut_ptr(),
                ptr::null_mut(),
            )
        })
    }

    /// Makes the card current on this thread.
    fn enter(&self) -> Result<(), DeviceFault> {
        // SAFETY: the context is retained as long as `self` exists.
        self.check("cuCtxSetCurrent", unsafe { (self.functions.set_current)(self.context) })
    }

    fn check(&self, call: &'static str, code: c_int) -> Result<(), DeviceFault> {
        check(self.functions, call, code)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // SAFETY: what was retained and loaded is released once; an error here has no remedy.
        unsafe {
            if !self.module.is_null() {
                let _ = (self.functions.set_current)(self.context);
                let _ = (self.functions.unload)(self.module);
            }
            if !self.context.is_null() {
                let _ = (self.functions.release)(self.device);
            }
        }
    }
}

/// The driver's library where the system has it.
fn system_library() -> Result<Library, DeviceFault> {
    let names: &[&str] =
        if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
    names
        .iter()
        // SAFETY: NVIDIA's driver library does nothing at loading that could break this process.
        .find_map(|name| unsafe { Library::new(*name) }.ok())
        .ok_or(DeviceFault::NoDriver)
}

/// The device with this number, if the kernels run on it.
fn find(functions: Functions, index: u32) -> Result<c_int, DeviceFault> {
    let check = |call, code| check(functions, call, code);
    let (mut count, mut device) = (0, 0);
    // SAFETY: there are no other arguments.
    match unsafe { (functions.init)(0) } {
        NO_DEVICE => return Err(DeviceFault::NoCard { index, count: 0 }),
        code => check("cuInit", code)?,
    }
    // SAFETY: the count is a place to write to.
    check("cuDeviceGetCount", unsafe { (functions.count)(&raw mut count) })?;
    let wanted = c_int::try_from(index).unwrap_or(c_int::MAX);
    if wanted >= count {
        return Err(DeviceFault::NoCard { index, count: u32::try_from(count).unwrap_or(0) });
    }
    // SAFETY: as above.
    check("cuDeviceGet", unsafe { (functions.get)(&raw mut device, wanted) })?;
    if attribute(functions, device, CAPABILITY)? < CAPABILITY_MIN {
        return Err(DeviceFault::OldCard { index });
    }
    Ok(device)
}

fn attribute(functions: Functions, device: c_int, attribute: c_int) -> Result<c_int, DeviceFault> {
    let mut value = 0;
    // SAFETY: the value is a place to write to.
    check(functions, "cuDeviceGetAttribute", unsafe {
        (functions.attribute)(&raw mut value, attribute, device)
    })?;
    Ok(value)
}

fn check(functions: Functions, call: &'static str, code: c_int) -> Result<(), DeviceFault> {
    match code {
        SUCCESS => Ok(()),
        OUT_OF_MEMORY => Err(DeviceFault::OutOfMemory),
        _ => {
            let mut text = ptr::null();
            // SAFETY: the driver writes the address of a constant text.
            let found = unsafe { (functions.error_text)(code, &raw mut text) } == SUCCESS;
            let reason = if found && !text.is_null() {
                // SAFETY: as above.
                unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
            } else {
                format!("error {code}")
            };
            Err(DeviceFault::Failed { call, reason })
        }
    }
}

/// Memory of a card.
#[derive(Debug)]
pub(crate) struct Memory {
    driver: Arc<Driver>,
    address: u64,
    bytes: usize,
}

impl Memory {
    /// At least one byte of memory with unspecified content.
    ///
    /// # Errors
    /// [`DeviceFault::OutOfMemory`], or a failure of the card.
    pub(crate) fn new(driver: &Arc<Driver>, bytes: usize) -> Result<Self, DeviceFault> {
        driver.enter()?;
        let (mut address, bytes) = (0, bytes.max(1));
        // SAFETY: the address is a place to write to.
        let code = unsafe { (driver.functions.allocate)(&raw mut address, bytes) };
        driver.check("cuMemAlloc", code)?;
        Ok(Self { driver: Arc::clone(driver), address, bytes })
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address of `bytes` from byte `first` on.
    ///
    /// # Panics
    /// If they are not all in it.
    pub(crate) fn span(&self, first: usize, bytes: usize) -> Argument {
        assert!(bytes <= self.bytes && first <= self.bytes - bytes, "a span lies in its memory");
        Argument::Address(self.address + first as u64)
    }

    /// The address of its first `count` numbers.
    ///
    /// # Panics
    /// If it has fewer.
    pub(crate) fn of<T: Number>(&self, count: usize) -> Argument {
        self.span(0, count * size_of::<T>())
    }

    /// Whether it is memory of this card.
    pub(super) fn is_on(&self, driver: &Arc<Driver>) -> bool {
        Arc::ptr_eq(&self.driver, driver)
    }

    /// Copies numbers to its beginning.
    pub(crate) fn write<T: Number>(&self, from: &[T]) -> Result<(), DeviceFault> {
        let from = bytes_of(from);
        assert!(from.len() <= self.bytes, "what is written must have room");
        self.driver.enter()?;
        // SAFETY: both sides have as many bytes.
        self.driver.check("cuMemcpyHtoD", unsafe {
            (self.driver.functions.write)(self.address, from.as_ptr().cast(), from.len())
        })
    }

    /// The first `count` numbers, after everything started before.
    pub(crate) fn read<T: Number>(&self, count: usize) -> Result<Vec<T>, DeviceFault> {
        let mut to = vec![T::default(); count];
        let bytes = bytes_of_mut(&mut to);
        assert!(bytes.len() <= self.bytes, "what is read must exist");
        self.driver.enter()?;
        // SAFETY: both sides have as many bytes.
        self.driver.check("cuMemcpyDtoH", unsafe {
            (self.driver.functions.read)(bytes.as_mut_ptr().cast(), self.address, bytes.len())
        })?;
        Ok(to)
    }

    /// Sets the first `count` words of 32 bits.
    pub(crate) fn fill(&self, word: u32, count: usize) -> Result<(), DeviceFault> {
        assert!(count * 4 <= self.bytes, "what is written must have room");
        self.driver.enter()?;
        // SAFETY: the words lie inside the memory.
        self.driver.check("cuMemsetD32", unsafe {
            (self.driver.functions.fill)(self.address, word, count)
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.driver.enter().is_ok() {
            // SAFETY: the memory was allocated once and is freed once; an error has no remedy.
            let _ = unsafe { (self.driver.functions.free)(self.address) };
        }
    }
}
