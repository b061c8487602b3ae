//! What every error code means: the protocol's own, and those of the programs around it.

use soma_protocol::Rejection;
use soma_sdk::error::EXPLANATIONS as SDK;

/// Codes of the node.
const NODE: &[(&str, &str)] = &[
    (
        "port_in_use",
        "Something else listens on this port. Stop it, or choose another with --port.",
    ),
    (
        "cannot_listen",
        "The system does not let the node listen on this address.",
    ),
    (
        "disk_full",
        "No space is left. Nothing final is lost: free some space and start again.",
    ),
    (
        "file_error",
        "A file or folder of the node cannot be used; the message says why.",
    ),
    (
        "malformed_file",
        "A file of the state folder does not hold what it should. Restore it, or start over with --reset.",
    ),
    (
        "other_network",
        "The state folder belongs to another network. Choose another --state, or start over with --reset.",
    ),
    (
        "state_in_use",
        "Another process uses this state folder. Stop it, or choose another --state.",
    ),
    (
        "invalid_genesis",
        "The genesis breaks its own rules; the message names the first one.",
    ),
    (
        "engine_error",
        "The consensus engine did not start or stopped; the message says why. Nothing final is lost.",
    ),
    (
        "store_error",
        "The state on disk cannot be read or written; the message says why.",
    ),
    (
        "no_thread",
        "The system gives the process no thread. Close something and start again.",
    ),
    (
        "model_error",
        "The model engine refuses this; the message says why.",
    ),
    (
        "unknown_numerics",
        "The chain's scores are defined by an arithmetic that this version does not know. Install a newer one.",
    ),
    (
        "inexact_architecture",
        "The chain states sig_reg_t_max in thousandths and sig_reg_coefficient in millionths.",
    ),
    (
        "mempool_full",
        "The node holds as many transactions as it can. Wait a few blocks, or raise the fee limit.",
    ),
    (
        "account_full",
        "This account has too many transactions waiting. Wait until some are final.",
    ),
    (
        "nonce_too_low",
        "The account has sent a transaction with this nonce before. Sign again with the next one.",
    ),
    (
        "nonce_too_high",
        "Transactions of this account that come before are missing. Send them first.",
    ),
    (
        "replacement_underpriced",
        "Another transaction with this nonce waits. To replace it, offer more.",
    ),
    (
        "fee_too_low",
        "The fee limit is below what this costs at least. What is not used is not charged.",
    ),
    (
        "insufficient_balance",
        "The account cannot pay what this may cost.",
    ),
    (
        "not_entitled",
        "Only a validator, or the operator of a local network, may send this.",
    ),
    (
        "bad_signature",
        "The signature is not the sender's over these bytes.",
    ),
    (
        "transaction_too_large",
        "The transaction is larger than any may be.",
    ),
    (
        "malformed_transaction",
        "The bytes are not a transaction of this chain.",
    ),
    (
        "commit_not_found",
        "Nothing on chain asks for this file. Send the commit first and wait until it is final.",
    ),
    (
        "not_a_node_folder",
        "The folder holds no node. Make one with `soma node init`, or name its folder with --dir.",
    ),
    (
        "node_exists",
        "The folder holds a node already, and it is never overwritten. Name another folder with --dir.",
    ),
    (
        "bad_settings",
        "config.toml makes no sense; the message says where. `soma node init` writes one with every setting explained.",
    ),
    (
        "rate_limited",
        "The client asks more than its share. Wait as long as the answer's Retry-After says; send transactions in batches.",
    ),
    (
        "malformed_batch",
        "The bytes are no batch: each transaction is its length in 4 little-endian bytes, then its bytes; at most 1024 and 1 MiB.",
    ),
    (
        "upload_not_permitted",
        "An upload is signed by the account whose commit names the file. Use that key, and check this machine's clock.",
    ),
    (
        "block_pruned",
        "This node joined later, or forgets old blocks. Ask one that keeps all: its status says `history_from` 1.",
    ),
    (
        "no_snapshot",
        "The node has begun to take over the state of its peers, and none of them gives what it needs, or what they give \
         cannot be believed; the message says which. Name more peers, or execute all blocks with --join replay in an empty folder.",
    ),
    (
        "too_far_behind",
        "All connected peers have forgotten the blocks that this node needs next. Start it with --join state: it takes over \
         their state, checked from genesis on.",
    ),
    (
        "upload_busy",
        "Another upload of the same file runs. Wait for it, or go on when it stops.",
    ),
    (
        "upload_offset",
        "The upload goes on at another byte. Ask how far it has come.",
    ),
    (
        "upload_too_long",
        "More bytes were sent than the commit names.",
    ),
    (
        "upload_stalled",
        "The upload stopped before its end. Go on where it stopped.",
    ),
    (
        "ciphertext_mismatch",
        "The uploaded file is not the one that was committed. Upload that one, from its first byte.",
    ),
    (
        "weights_mismatch",
        "The decrypted file is not the one that was revealed.",
    ),
    (
        "weights_not_found",
        "No model has revealed such weights, or nothing needs them any more.",
    ),
    (
        "weights_not_held",
        "This node does not hold the file. Ask another, or wait until it has fetched it.",
    ),
    (
        "bad_request",
        "The request makes no sense; the message says where.",
    ),
    (
        "no_such_route",
        "The node serves nothing there; /openapi.json lists what it serves.",
    ),
    (
        "method_not_allowed",
        "The route takes other methods; /openapi.json says which.",
    ),
    (
        "not_ready",
        "The node lives but cannot serve yet; the message says why.",
    ),
    (
        "range_not_satisfiable",
        "The range begins behind the end of the file.",
    ),
    (
        "body_too_large",
        "The request is larger than the node takes.",
    ),
    (
        "busy",
        "The node has too much to do. Try again in a moment.",
    ),
];

/// Codes of models, weights files and training.
const MODEL: &[(&str, &str)] = &[
    (
        "unknown_kernel",
        "There is no kernel of this name. --kernel auto takes the fastest there is.",
    ),
    (
        "kernel_unavailable",
        "This CPU cannot run the kernel. --kernel auto takes the fastest that it can.",
    ),
    (
        "kernel_unequal",
        "The kernel does not equal the reference on this machine, so its scores would be wrong. Use --kernel reference, and report it.",
    ),
    (
        "threads",
        "The threads could not be started. Ask for fewer with --threads.",
    ),
    (
        "architecture_not_json",
        "The file is not the JSON of an architecture: see vectors/tiny_text/config.json for one.",
    ),
    (
        "architecture_out_of_bounds",
        "A number of the architecture is outside its bounds; the message names it.",
    ),
    (
        "no_architecture",
        "The weights file does not say which architecture it has. Name it with --arch.",
    ),
    (
        "weights_too_short",
        "The file is too short to be a safetensors file.",
    ),
    (
        "weights_header_too_long",
        "The file is no safetensors file, or its header is longer than any honest one.",
    ),
    (
        "weights_header_cut_off",
        "The file ends inside its header: it was cut off.",
    ),
    (
        "weights_header_not_json",
        "The header is not what the safetensors format says.",
    ),
    ("weights_duplicate_tensor", "A tensor is in the file twice."),
    (
        "weights_missing_tensor",
        "A tensor of the architecture is not in the file. Is it of another architecture?",
    ),
    (
        "weights_unexpected_tensor",
        "A tensor does not belong to the architecture. Is the file of another one?",
    ),
    ("weights_element_type", "Weights are F32, BF16 or F16."),
    (
        "weights_shape",
        "A tensor has another shape than the architecture's. Is the file of another one?",
    ),
    (
        "weights_offsets",
        "The offsets of a tensor do not hold its elements: the file is damaged.",
    ),
    (
        "weights_truncated",
        "The file ends inside a tensor: it was cut off.",
    ),
    (
        "weights_gap_or_overlap",
        "Tensors must follow each other without gap or overlap.",
    ),
    (
        "weights_trailing_bytes",
        "Something follows the last tensor; a weights file holds nothing else.",
    ),
    (
        "weights_non_finite",
        "A weight is NaN or infinite. Training went wrong before this file was written.",
    ),
    ("empty_data", "There is nothing to predict in no bytes."),
    (
        "non_finite",
        "The model's numbers overflow on this data; such a model ranks behind every other.",
    ),
    (
        "zero_embedding",
        "The mean representation is zero and has no direction; such a model ranks last.",
    ),
    (
        "other_directions",
        "The directions were made for another architecture.",
    ),
    (
        "recipe",
        "A number of the training recipe is outside its bounds; the message names it.",
    ),
    (
        "checkpoint",
        "The file is not a checkpoint of this run: other data, or damaged.",
    ),
];

/// Codes of this binary.
const COMMANDS: &[(&str, &str)] = &[
    (
        "usage",
        "The flags contradict each other; see --help of the command.",
    ),
    ("file_not_found", "There is no such file. Check the path."),
    (
        "file_exists",
        "A file of this name is there already. Name another with -o, or delete it.",
    ),
    (
        "file_permission",
        "The file cannot be used by this user. Check its permissions and its folder's.",
    ),
    (
        "file_io",
        "The file cannot be read or written; the message says why.",
    ),
    ("no_home", "There is no home folder. Set SOMA_HOME to one."),
    (
        "no_demo_data",
        "The demo found no data. Run it in the repository, or name folders with --data.",
    ),
    (
        "too_little_data",
        "There is not enough data of the size that the network takes.",
    ),
    (
        "no_score",
        "No model has a score for this data; each entry says why.",
    ),
    (
        "no_model",
        "The key has no model. Register one: soma model register NAME.",
    ),
    (
        "no_target",
        "There is no such open target. See soma target list.",
    ),
    ("no_weights", "The model has not revealed any weights yet."),
    (
        "no_migration",
        "The network is not migrating to another architecture; `soma vote list` shows it while it does.",
    ),
    (
        "not_owner",
        "The model belongs to another key. Name the owner's with --key.",
    ),
    (
        "bad_embedding",
        "The file is not a JSON list of 16-bit integers.",
    ),
    (
        "nothing_due",
        "No commit of this key waits for its reveal. Commit first.",
    ),
    (
        "commit_lapsed",
        "Too few validators held the file when the epoch began. Its rent was returned: run the command again.",
    ),
    (
        "too_late",
        "The phase ended before this was sent. Let a soma command run through the reveal phase next time.",
    ),
    (
        "not_a_localnet",
        "The folder is not the state of a local network, so --reset does not delete it.",
    ),
    (
        "not_well",
        "`soma doctor` found a problem; each has a hint of its own.",
    ),
    (
        "no_process",
        "The system did not start a process for a node; the message says why.",
    ),
    (
        "network_halted",
        "Nothing became final for a minute: too few validators run, or they do not reach each other. Their logs say more.",
    ),
    (
        "load_failed",
        "A part of the measuring program failed; the message says why.",
    ),
    (
        "node_stopped",
        "The node stopped by itself; the message says why. Nothing final is lost: start it again.",
    ),
    (
        "passphrase_too_short",
        "A passphrase has eight characters or more.",
    ),
    (
        "passphrase_mismatch",
        "The two passphrases differ. Nothing was written.",
    ),
    (
        "supply",
        "Reserve, holdings and burned do not add up. This must never happen: report it with the seed.",
    ),
    (
        "unknown_code",
        "There is no such code. `soma explain` lists all of them.",
    ),
    ("json", "The result cannot be written as JSON."),
    ("stdout", "The result cannot be written to standard output."),
    (
        "signals",
        "The system does not let the process wait for signals.",
    ),
    (
        "no_threads",
        "The system gives the process no threads. Close something and try again.",
    ),
];

/// All codes with their explanations, sorted. The rules have the first word on a code they share.
pub(crate) fn all() -> Vec<(&'static str, &'static str)> {
    let rules = Rejection::all()
        .iter()
        .map(|rejection| (rejection.code, rejection.help));
    let programs = [SDK, NODE, MODEL, COMMANDS].into_iter().flatten().copied();
    let mut all: Vec<_> = rules.chain(programs).collect();
    all.sort_by_key(|(code, _)| *code);
    all.dedup_by_key(|(code, _)| *code);
    all
}
