//! Every error of this crate.
//!
//! Every value that an error is about is a field; no variant is bare text.

use std::io;
use std::path::PathBuf;

use soma_codes::{Code, Coded};

use crate::look::Look;
use crate::simd::KernelKind;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No kernel has this name.
    #[error("unknown kernel `{name}`; the kernels are auto, reference, avx2, avx512 and neon")]
    UnknownKernel {
        /// The name asked for.
        name: String,
    },
    /// The CPU lacks what the kernel needs.
    #[error("this CPU cannot run the kernel `{kind}`")]
    Unavailable {
        /// The kernel asked for.
        kind: KernelKind,
    },
    /// The kernel does not produce the bits of the reference on this machine.
    #[error("the kernel `{kind}` does not match the reference on this machine")]
    Unequal {
        /// The kernel that failed.
        kind: KernelKind,
    },
    /// No device has this name.
    #[error("unknown device `{name}`; the devices are auto, cpu, cuda and cuda:N")]
    UnknownDevice {
        /// The name asked for.
        name: String,
    },
    /// A card cannot compute.
    #[error("cannot compute on a card: {0}")]
    Device(#[from] DeviceFault),
    /// The threads could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// Numbers or text are not an architecture that this software can run.
    #[error(transparent)]
    Architecture(#[from] soma_architecture::Error),
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A folder, a device or a pipe where a file must be.
    #[error("{} is {kind}, not a file", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file changed while it was read.
    #[error("{} changed while it was being read", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The file is of another kind, and that kind is known.
    #[error("not a safetensors file: {}", look.text())]
    OtherKind {
        /// What it looks like.
        look: Look,
    },
    /// The file is shorter than the eight bytes of the header's length.
    #[error("not a safetensors file: it has {bytes} bytes")]
    TooShort {
        /// Length of the file.
        bytes: usize,
    },
    /// The header is longer than the limit, or this is another kind of file.
    #[error("not a safetensors file: its header would have {bytes} bytes, more than 1 MiB")]
    HeaderTooLong {
        /// Length stated in the file.
        bytes: u64,
    },
    /// The file ends inside its header.
    #[error("the file ends inside its header: {present} of {bytes} bytes")]
    HeaderCutOff {
        /// Length stated in the file.
        bytes: u64,
        /// Bytes that are present.
        present: usize,
    },
    /// The header does not follow the safetensors format.
    #[error("the header is not a safetensors header: {0}")]
    HeaderNotJson(#[source] serde_json::Error),
    /// Neither the caller nor the file specifies the architecture.
    #[error("the file does not name its architecture")]
    NoArchitecture,
    /// A tensor occurs twice.
    #[error("duplicate tensor `{tensor}`")]
    Duplicate {
        /// Its name.
        tensor: String,
    },
    /// A tensor of the architecture is missing.
    #[error("tensor `{tensor}` is missing")]
    Missing {
        /// Its name.
        tensor: String,
    },
    /// A tensor has the name that a wrapper of the model gives it.
    #[error("tensor `{tensor}` is named `{found}`: `{extra}` {}", source_of(extra))]
    WrappedName {
        /// Its name.
        tensor: String,
        /// The name in the file.
        found: String,
        /// What the name has too much.
        extra: String,
    },
    /// A tensor does not belong to the architecture.
    #[error("tensor `{tensor}` does not belong to this architecture")]
    Unexpected {
        /// Its name.
        tensor: String,
    },
    /// A tensor has elements of another type.
    #[error("tensor `{tensor}` has elements of type {found}, but must have F32, BF16 or F16")]
    ElementType {
        /// Its name.
        tensor: String,
        /// The type in the file.
        found: String,
    },
    /// A tensor has another shape.
    #[error("tensor `{tensor}` has the shape {found:?}, but must have {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// The shape of the architecture.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// The offsets of a tensor do not match its number of elements.
    #[error("tensor `{tensor}`: the offsets {begin} to {end} do not match its size")]
    Offsets {
        /// Its name.
        tensor: String,
        /// First byte of its data.
        begin: usize,
        /// One past the last byte.
        end: usize,
    },
    /// The file ends inside a tensor.
    #[error("the file ends inside tensor `{tensor}`")]
    Truncated {
        /// Its name.
        tensor: String,
    },
    /// A tensor does not start where the one before it ends.
    #[error("tensor `{tensor}`: there is a gap or an overlap before its offsets {begin} to {end}")]
    GapOrOverlap {
        /// Its name.
        tensor: String,
        /// First byte of its data.
        begin: usize,
        /// One past the last byte.
        end: usize,
    },
    /// A tensor cannot be read in place: its first byte, counted from the start of the file, is no
    /// multiple of the size of its elements.
    #[error(
        "tensor `{tensor}` begins at byte {byte}, which is not a multiple of its elements' size"
    )]
    Misaligned {
        /// Its name.
        tensor: String,
        /// First byte of its data, counted from the start of the file.
        byte: usize,
    },
    /// Bytes follow the last tensor.
    #[error("{bytes} bytes follow the last tensor")]
    TrailingBytes {
        /// Number of extra bytes.
        bytes: usize,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` has an element that is not finite, at index {index}")]
    NonFiniteWeight {
        /// Its name.
        tensor: String,
        /// Index of the element, in row-major order.
        index: usize,
    },
    /// The data is empty.
    #[error("the data is empty")]
    EmptyData,
    /// A representation, a logit or the loss is NaN or infinite, or the loss is 2^20 nats or more.
    #[error("the model computes numbers that are not finite on this data")]
    NonFinite,
    /// A training step has a loss or a gradient that is NaN or infinite; the weights are those from
    /// before the step.
    #[error("training diverged: the {what} of step {step} is not finite")]
    Diverged {
        /// The step, counted from 1.
        step: u64,
        /// `loss` or `gradient`.
        what: &'static str,
    },
    /// There is data, but no byte that follows another, so nothing can be learned or measured.
    #[error("the data has no byte to predict")]
    NothingToPredict,
    /// The mean representation is zero and has no direction.
    #[error("the mean representation is zero")]
    ZeroEmbedding,
    /// The directions were made for another architecture.
    #[error("the directions were made for another architecture")]
    OtherDirections,
    /// A recipe cannot be followed.
    #[error("invalid recipe: {field} is out of bounds")]
    Recipe {
        /// The field.
        field: &'static str,
    },
    /// The data is longer than what a receipt can be for.
    #[error("the data has {bytes} bytes, but a receipt is for at most {bytes_max}")]
    LongData {
        /// Its length.
        bytes: usize,
        /// The longest.
        bytes_max: usize,
    },
    /// A file is not a receipt that this software can read.
    #[error("{}: {fault}", path.display())]
    Receipt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: ReceiptFault,
    },
    /// A file is damaged, or is not a checkpoint of this training run.
    #[error("{} is not a checkpoint to resume from: {fault}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: CheckpointFault,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::UnknownKernel { .. } => Code::UnknownKernel,
            Self::Unavailable { .. } => Code::KernelUnavailable,
            Self::Unequal { .. } => Code::KernelUnequal,
            Self::UnknownDevice { .. } => Code::UnknownDevice,
            Self::Device(DeviceFault::Unequal { .. }) => Code::DeviceUnequal,
            Self::Device(_) => Code::DeviceUnavailable,
            Self::Threads(_) => Code::NoThreads,
            Self::Architecture(error) => error.code(),
            Self::Io { source, .. } => Code::of_io(source),
            Self::NotAFile { .. } => Code::NotAFile,
            Self::Changed { .. } => Code::FileChanged,
            Self::OtherKind { .. } => Code::WeightsOtherKind,
            Self::WrappedName { .. } => Code::WeightsWrappedName,
            Self::Diverged { .. } => Code::Diverged,
            Self::TooShort { .. } => Code::WeightsTooShort,
            Self::HeaderTooLong { .. } => Code::WeightsHeaderTooLong,
            Self::HeaderCutOff { .. } => Code::WeightsHeaderCutOff,
            Self::HeaderNotJson(_) => Code::WeightsHeaderNotJson,
            Self::NoArchitecture => Code::NoArchitecture,
            Self::Duplicate { .. } => Code::WeightsDuplicateTensor,
            Self::Missing { .. } => Code::WeightsMissingTensor,
            Self::Unexpected { .. } => Code::WeightsUnexpectedTensor,
            Self::ElementType { .. } => Code::WeightsElementType,
            Self::Shape { .. } => Code::WeightsShape,
            Self::Offsets { .. } => Code::WeightsOffsets,
            Self::Truncated { .. } => Code::WeightsTruncated,
            Self::GapOrOverlap { .. } => Code::WeightsGapOrOverlap,
            Self::Misaligned { .. } => Code::WeightsMisaligned,
            Self::TrailingBytes { .. } => Code::WeightsTrailingBytes,
            Self::NonFiniteWeight { .. } => Code::WeightsNonFinite,
            Self::EmptyData | Self::NothingToPredict => Code::EmptyData,
            Self::NonFinite => Code::NonFinite,
            Self::ZeroEmbedding => Code::ZeroEmbedding,
            Self::OtherDirections => Code::OtherDirections,
            Self::Recipe { .. } => Code::Recipe,
            Self::LongData { .. } => Code::TooLarge,
            Self::Receipt { fault: ReceiptFault::Schema { .. }, .. } => Code::ReceiptSchema,
            Self::Receipt { .. } => Code::ReceiptMalformed,
            Self::Checkpoint { .. } => Code::Checkpoint,
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::OtherKind { look }
            | Self::Checkpoint { fault: CheckpointFault::Format { look: Some(look) }, .. } => {
                look.hint()
            }
            Self::Device(fault) => fault.hint(),
            Self::LongData { .. } => "score it without a receipt, or cut it into parts",
            error => error.code().hint(),
        }
    }
}

/// Parts of names that wrappers of a model add, and which they are.
pub(crate) const WRAPPERS: [(&str, &str); 5] = [
    ("_orig_mod.", "is added by torch.compile"),
    ("module.", "is added by DataParallel and DistributedDataParallel"),
    ("_fsdp_wrapped_module.", "is added by FullyShardedDataParallel"),
    ("_checkpoint_wrapped_module.", "is added by activation checkpointing"),
    ("_forward_module.", "is added by Lightning"),
];

/// Where a part of a name comes from.
fn source_of(extra: &str) -> &'static str {
    let known = WRAPPERS.iter().find(|(part, _)| *part == extra);
    known.map_or("does not belong to it", |(_, source)| source)
}

/// Why a card cannot compute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceFault {
    /// The system has no library of NVIDIA's driver.
    #[error("no NVIDIA driver is installed")]
    NoDriver,
    /// The driver lacks a function.
    #[error("the NVIDIA driver is too old: it has no function `{function}`")]
    OldDriver {
        /// The function.
        function: &'static str,
    },
    /// There are fewer cards.
    #[error("there is no card {index}: the NVIDIA driver finds {count}")]
    NoCard {
        /// The card asked for.
        index: u32,
        /// How many there are.
        count: u32,
    },
    /// The card is older than Ampere.
    #[error("card {index} is too old: its compute capability is below 8.0")]
    OldCard {
        /// The card.
        index: u32,
    },
    /// The driver cannot compile the kernels.
    #[error("the NVIDIA driver cannot compile the kernels: {reason}")]
    Kernels {
        /// What it says.
        reason: String,
    },
    /// The card has too little memory.
    #[error("the card has too little free memory")]
    OutOfMemory,
    /// A call of the driver failed.
    #[error("the NVIDIA driver reports a failure: {reason} ({call})")]
    Failed {
        /// The call.
        call: &'static str,
        /// What the driver says.
        reason: String,
    },
    /// The card does not produce the bits of the reference.
    #[error("the card `{name}` does not compute as the reference does: {what}")]
    Unequal {
        /// The card's name.
        name: String,
        /// What differs.
        what: &'static str,
    },
}

impl DeviceFault {
    /// Whether there is no card that could compute, so that nothing is wrong.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::NoDriver | Self::NoCard { count: 0, .. } | Self::OldCard { .. })
    }

    /// Whether it is the same for the life of the process.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::NoDriver | Self::NoCard { .. } | Self::OutOfMemory | Self::Failed { .. } => false,
            Self::OldDriver { .. }
            | Self::OldCard { .. }
            | Self::Kernels { .. }
            | Self::Unequal { .. } => true,
        }
    }

    /// What to do about it. The processor gives the same scores in any case.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoDriver => "install NVIDIA's driver if there is a card, or use the processor",
            Self::OldDriver { .. } | Self::Kernels { .. } => {
                "update NVIDIA's driver, or use the processor"
            }
            Self::NoCard { .. } => {
                "see what `nvidia-smi` lists, counted from 0; a container must be given its cards"
            }
            Self::OldCard { .. } => {
                "use a card of the Ampere generation or later, or the processor"
            }
            Self::OutOfMemory => "see with `nvidia-smi` which programs use the card's memory",
            Self::Failed { .. } => {
                "run `nvidia-smi`: if it fails, too, restart the machine or reinstall the driver"
            }
            Self::Unequal { .. } => {
                "report it with the card's name and the driver's version, and use the processor"
            }
        }
    }
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFault {
    /// It does not start like a checkpoint.
    #[error("{}", look.map_or("it is another kind of file, or of another version", Look::text))]
    Format {
        /// What it looks like, if that is known.
        look: Option<Look>,
    },
    /// Bytes are missing or have changed.
    #[error("it is truncated or damaged")]
    Damaged,
    /// Its state cannot be read.
    #[error("its state is malformed: {0}")]
    State(#[from] serde_json::Error),
    /// More steps or epochs than any run has.
    #[error("it claims more steps than any run has")]
    Count,
    /// Its lists of numbers do not have the lengths that its architecture requires.
    #[error("the number of its values does not match its architecture")]
    Length,
    /// It was made with other data.
    #[error("it was made with other data, or with the same in another order")]
    OtherData,
}

/// What is wrong with a receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptFault {
    /// It is too long, or not text.
    #[error("it is not a receipt: {source}")]
    Bytes {
        /// Why.
        source: io::Error,
    },
    /// The end is missing.
    #[error("it ends in the middle of the receipt")]
    CutOff,
    /// It is not JSON, or a field is missing, unexpected or of another type.
    #[error("it is not a receipt: {source}")]
    Json {
        /// What and where.
        source: serde_json::Error,
    },
    /// It is JSON, but not that of a receipt.
    #[error("it is not a receipt: no field `schema` says so")]
    NoReceipt,
    /// It is one of another version of this software.
    #[error("its schema is `{schema}`, but this software reads {known}")]
    Schema {
        /// The schema that it names.
        schema: String,
        /// The one that is known here.
        known: &'static str,
    },
    /// A number of its architecture is out of bounds.
    #[error("architecture: {0}")]
    Architecture(#[from] soma_architecture::Error),
    /// A field does not have the form that it is written in.
    #[error("`{field}` is malformed")]
    Field {
        /// The field.
        field: &'static str,
    },
}
