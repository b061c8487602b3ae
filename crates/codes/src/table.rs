//! The table: one entry for each code. A code's text, once released, never changes.
//!
//! An entry consists of variant, text, exit status, HTTP status (where a node answers with the
//! code), explanation and hint. The hint is an instruction that goes with the error; `soma explain`
//! shows both. `client.rs` has the entries about connections to nodes.

mod client;

use self::client::client;
use crate::Exit;
use crate::entry::codes;

client! {
    // Transactions and accounts: the rules.
    WrongChain = "wrong_chain", Rejected, 400:
        "The transaction is signed for another chain.",
        "sign it for this chain; `soma status` shows its id";
    Expired = "expired", Rejected, 422:
        "The transaction's last valid time has passed. Nothing was changed or charged.",
        "sign it again with a later expiry, and check this machine's clock";
    WrongNonce = "wrong_nonce", Rejected:
        "Another transaction of the account came first, or an earlier one is missing.",
        "ask for the account's next nonce and sign again";
    FeeLimit = "fee_limit", Rejected:
        "The fee consists of parts for weight, tip and records; their sum exceeds the limit.",
        "raise the fee limit";
    DutyNotFree = "duty_not_free", Rejected, 422:
        "What validators owe the network is free: nonce, tip and fee limit must be 0.",
        "set all three to 0 and sign again";
    InsufficientBalance = "insufficient_balance", Rejected, 422:
        "Fees, stakes, bonds and rent are paid from the account's balance, which is too low.",
        "fund the account, or use a smaller amount or fee limit";
    ZeroAmount = "zero_amount", Rejected:
        "The amount is zero, or there is nothing to take from.",
        "name an amount above zero; `soma stake show` shows what there is";

    // Validators: the rules.
    NotValidator = "not_validator", Rejected:
        "Only validators attest, hold files and contribute to the beacon.",
        "send it from a validator's account";
    NotSeated = "not_seated", Rejected:
        "Seats go to the validators with the most stake when an epoch ends; this one has none.",
        "see `soma validator list`";
    AlreadyValidator = "already_validator", Rejected:
        "The account is registered as a validator.",
        "add stake with `soma stake add`, or change the key with `soma validator rotate`";
    ValidatorNotFound = "validator_not_found", NotFound, 404:
        "No validator has this address.",
        "see `soma validator list`";
    Expelled = "expelled", Rejected:
        "The validator signed conflicting votes and can never have a seat again.",
        "withdraw what is left of its stake";
    AlreadyLeaving = "already_leaving", Rejected:
        "The validator gives up its seat when the epoch ends.",
        "to keep the seat, use `soma validator return`";
    StillJailed = "still_jailed", Rejected:
        "The validator was absent for too long and is jailed.",
        "make sure that the node runs, and return in the epoch that the message names";
    ConsensusKeyTaken = "consensus_key_taken", Rejected:
        "The consensus key belongs or belonged to another validator.",
        "make a new key with `soma keys new NAME`";
    DutyKeyTaken = "duty_key_taken", Rejected:
        "The duty key belongs to another validator, or is the account of one.",
        "make a new key with `soma keys new NAME`";
    BadProof = "bad_proof", Rejected:
        "The proof is not the key's signature for this validator and chain.",
        "sign with the new key, as `soma validator register` and `soma validator duty-key` do";
    NoSuchKey = "no_such_key", Rejected:
        "No validator has or had this consensus key.",
        "name the key that signed both votes";
    BadEvidence = "bad_evidence", Rejected:
        "The two votes do not prove that one key signed conflicting votes.",
        "use two signed votes of one round that contradict each other";
    NoShare = "no_share", Rejected:
        "The amount buys no share. A pool that was slashed to nothing is closed permanently.",
        "add more, or choose another pool";
    NotOperator = "not_operator", Rejected:
        "Only the operator of a local network ends phases; elsewhere block time ends them.",
        "use the operator's key, which is made with the network";

    // Epochs and phases: the rules.
    WrongEpoch = "wrong_epoch", Rejected:
        "Commits are for the next epoch, reveals for the current one.",
        "build the transaction again for the epoch that the message names";
    WrongPhase = "wrong_phase", Rejected:
        "Weights and beacons are revealed when an epoch begins, data is published in the publish \
         parts, submissions come in the compete and attest phases, and verdicts are committed \
         before the attest phase and revealed in it.",
        "wait for the phase; `soma status` shows the current one";
    PhaseNotBegun = "phase_not_begun", Rejected:
        "A phase that has not begun cannot be ended.",
        "end the current phase first; `soma status` shows it";

    // Models and weights: the rules.
    BadName = "bad_name", Rejected:
        "A name has 1 to 64 printable ASCII characters and no space at either end.",
        "choose a shorter or simpler name";
    BadCommission = "bad_commission", Rejected:
        "A commission is given in basis points and cannot exceed 100 %.",
        "choose a commission from 0 to 10000 basis points";
    StakeTooLow = "stake_too_low", Rejected:
        "The stake is below the minimum. It is returned when the model retires.",
        "stake more";
    ModelNotFound = "model_not_found", NotFound, 404:
        "No model has this id.",
        "see `soma model list`";
    NotModelOwner = "not_model_owner", Config:
        "The model was registered by another account.",
        "use the owner's key: --key NAME";
    ModelRetired = "model_retired", Rejected:
        "A retired model cannot be used again.",
        "register a new model";
    BadWeightsSize = "bad_weights_size", Rejected:
        "The size of the encrypted file is outside the bounds of the architecture.",
        "check the file with `soma model check`";
    CommitNotFound = "commit_not_found", NotFound, 404:
        "There is no such commit. A commit lapses if validators with a third of the stake do not \
         hold its file, and when its reveal phase ends.",
        "commit one epoch ahead, and wait until the commit is finalized";
    OtherFileCommitted = "other_file_committed", Rejected:
        "The model's commit was replaced and names another file.",
        "fetch the new file and attest it instead";
    AlreadyHeld = "already_held", Rejected:
        "The validator has already attested that it holds the file.",
        "nothing to do";
    BadHeldList = "bad_held_list", Rejected:
        "The list of held files is empty or too long.",
        "name each file once; split a long list into several transactions";
    NotChallenged = "not_challenged", Rejected:
        "Storage challenges go to validators that are paid for holding a file; this one has none.",
        "nothing to do";
    AlreadyAnswered = "already_answered", Rejected:
        "The epoch's storage challenge is already answered.",
        "nothing to do";
    WrongAnswer = "wrong_answer", Rejected:
        "The storage proof does not match the chunk that the epoch challenges.",
        "read the chunk from the committed encrypted file, with its path from the root down";

    // Governance: the rules.
    OutOfBounds = "out_of_bounds", Rejected:
        "The value is outside the parameter's bounds.",
        "choose a value within the bounds in docs/protocol.md";
    NoSuchParameter = "no_such_parameter", Rejected:
        "No parameter has this name.",
        "see the parameters in docs/protocol.md";
    MigrationRunning = "migration_running", Rejected:
        "The network is already migrating to another architecture.",
        "propose it again after the switch; see `soma vote list`";
    BadArchitecture = "bad_architecture", Rejected:
        "The architecture is outside its bounds, or a chunk is longer than the longest data.",
        "see the bounds in docs/protocol.md";
    BadRules = "bad_rules", Rejected:
        "A vote names the next rules, or those in force, which cancels what is scheduled.",
        "propose the version that the message names";
    NoSuchArchitecture = "no_such_architecture", Rejected:
        "Weights are accepted for the current architecture, and during a migration for the next.",
        "commit for one of these; see `soma vote list`";
    ProposalNotFound = "proposal_not_found", NotFound:
        "No proposal has this id.",
        "see `soma vote list`";
    ProposalDecided = "proposal_decided", Rejected:
        "The proposal has passed or lapsed.",
        "see `soma vote list`";

    // The competition: the rules.
    CommitmentMismatch = "commitment_mismatch", Rejected:
        "A commitment covers the chain, the sender, the epoch or target, and the exact content.",
        "reveal or publish exactly what was committed";
    BadSpecializationDimension = "bad_specialization_dimension", Rejected:
        "The number of components is not the dimension of the architecture.",
        "compute the specialization with a model of the network's architecture";
    BadSpecializationLength = "bad_specialization_length", Rejected:
        "A specialization is a mean of embeddings: not zero, and at most 32767 long.",
        "use the mean of the model's embeddings of its documents, rounded to nearest";
    BeaconAlreadyCommitted = "beacon_already_committed", Rejected:
        "The validator has already committed a beacon for this epoch.",
        "reveal it in that epoch's reveal phase";
    BeaconNotCommitted = "beacon_not_committed", Rejected:
        "The validator committed no beacon for this epoch.",
        "commit one epoch ahead";
    BeaconAlreadyRevealed = "beacon_already_revealed", Rejected:
        "The validator has already revealed its beacon for this epoch.",
        "nothing to do";
    TargetNotFound = "target_not_found", NotFound, 404:
        "No target has this id.",
        "see `soma target list`";
    SubmissionNotFound = "submission_not_found", NotFound, 404:
        "The account has submitted nothing for this target that the node knows of.",
        "see the target's history for who submitted";
    TargetClosed = "target_closed", Rejected:
        "Submissions are for the target's own epoch; publications and verdicts for the next.",
        "choose an open target; see `soma target list`";
    ModelNotRouted = "model_not_routed", Rejected:
        "The model does not compete for this target.",
        "score the data with the target's models, and submit the one that predicts it best";
    BadLoss = "bad_loss", Rejected:
        "A loss is at least 0 and below 2^52: 2^20 nats in units of 2^-32.",
        "submit the loss that the scorer computes";
    BadDistance = "bad_distance", Rejected:
        "Directions of length 32767 are at most 65534 apart.",
        "submit the squared distance between the data's direction and the target's";
    GainTooLow = "gain_too_low", Rejected:
        "A model understands data if it predicts it better than counting its bytes does.",
        "submit data that the model understands; `soma score` shows the gain";
    BadCorpusSize = "bad_corpus_size", Rejected:
        "A corpus has at least one document and at most 2^20.",
        "commit the number of leaves of the tree";
    NoCorpus = "no_corpus", Rejected:
        "Data is fixed before targets exist: a corpus counts from the epoch after its commit on.",
        "commit a corpus with the data, and submit in the next epoch";
    NotInCorpus = "not_in_corpus", Rejected:
        "The data must be a document of the corpus that counted when it was submitted.",
        "publish with the index, salt and path of the data's leaf in that corpus";
    BadDataSize = "bad_data_size", Rejected:
        "Data has at least one full chunk of the architecture, and at most the network's limit.",
        "submit a longer or shorter file";
    NotAmongClosest = "not_among_closest", Rejected:
        "The target has enough candidates that are at least as close. No bond was taken.",
        "find closer data, or choose another target";
    DuplicateSubmission = "duplicate_submission", Rejected:
        "The submission is already a candidate of the target.",
        "nothing to do";
    NotPublisher = "not_publisher", Rejected:
        "Each rank has its own part of the publish phase, the closest first.",
        "publish in the part of the candidate's rank";
    AlreadyPublished = "already_published", Rejected:
        "Data is already published for the target.",
        "nothing to do";
    DataSeenBefore = "data_seen_before", Rejected:
        "Data wins once, and half of this data has won in an earlier epoch, or three quarters of \
         it are from several earlier winners.",
        "submit other data";
    NotPublished = "not_published", Rejected:
        "No data is published for the target, so there is nothing to audit.",
        "commit a verdict after publication and before the attest phase";
    AlreadyAttested = "already_attested", Rejected:
        "A verdict cannot be changed.",
        "nothing to do";
    VerdictNotCommitted = "verdict_not_committed", Rejected:
        "The validator has not committed a verdict on the target.",
        "commit verdicts before the attest phase, and reveal them in it";
    NotAvailable = "not_available", Rejected:
        "A commit may be revealed if more than a third of the stake held its file in time.",
        "commit again, and upload the file before the epoch ends";
    TasksPending = "tasks_pending", Rejected:
        "The end of a phase left work to the next blocks; no phase ends before it is done, and \
         what depends on it waits.",
        "send it again after a few blocks";
    ProposalsOpen = "proposals_open", Rejected:
        "Validators without a seat have one open proposal each, and seats have equal parts of 64.",
        "wait until one of the account's proposals is decided";
    NoFileRoom = "no_file_room", Rejected:
        "The files of all models together have reached `files_bytes_max`; only a model that has \
         room already may replace its file.",
        "wait until models retire, or propose a larger `files_bytes_max`";
    BadEndpoints = "bad_endpoints", Rejected:
        "Where a node is reached is at most 260 printable ASCII characters, without spaces.",
        "name the node as HOST:PORT and its API as a URL";
    EndpointsSet = "endpoints_set", Rejected:
        "A validator may say where its node is reached every 48th part of an epoch: it is free.",
        "wait a moment; the node says it again by itself";
    EndpointsChanged = "endpoints_changed", Rejected:
        "The validator has said something else since, about where its node is reached.",
        "nothing is to be done; the node says it again by itself";
    EndpointsUnchanged = "endpoints_unchanged", Rejected:
        "The validator's node is already said to be reached there.",
        "nothing is to be done";
    Full = "full", Rejected:
        "All ids or places are in use.",
        "wait until a proposal is decided, a validator leaves or an epoch ends, and try again";

    // A node's pool.
    MempoolFull = "mempool_full", Network, 503:
        "The pool is full of transactions that pay at least as much.",
        "wait a few blocks and send it again, or offer a higher tip";
    AccountFull = "account_full", Network, 429:
        "The account has as many pending transactions as the pool accepts.",
        "wait until some of them are finalized";
    NonceTooLow = "nonce_too_low", Rejected, 409:
        "A finalized transaction of the account has used this nonce.",
        "sign it again with the account's next nonce";
    NonceTooHigh = "nonce_too_high", Rejected, 409:
        "Earlier transactions of the account are missing.",
        "send the earlier transactions first";
    ReplacementUnderpriced = "replacement_underpriced", Rejected, 409:
        "A pending transaction has this nonce, and the fee does not exceed its by a tenth.",
        "wait for the first one, or offer a higher tip";
    FeeTooLow = "fee_too_low", Rejected, 422:
        "The fee limit is below the least that the transaction costs.",
        "raise the fee limit; only the actual fee is charged";
    NotEntitled = "not_entitled", Rejected, 403:
        "The action is a duty: only a validator, or a local network's operator, may send it.",
        "send it from a validator's key";
    DutyWaiting = "duty_waiting", Rejected, 409:
        "The validator has sent this duty, and it waits for a block.",
        "nothing to do";
    BadSignature = "bad_signature", Rejected, 400:
        "The signature is not the sender's signature of these bytes.",
        "sign the transaction again";
    TransactionTooLarge = "transaction_too_large", Rejected, 400:
        "The transaction exceeds the size limit.",
        "send a smaller transaction";
    MalformedTransaction = "malformed_transaction", Rejected, 400:
        "The bytes are not an encoded transaction.",
        "build and sign the transaction again";
    MalformedBatch = "malformed_batch", Rejected, 400:
        "A batch is, for each transaction, its length in 4 little-endian bytes and its bytes.",
        "send at most 1024 transactions and 1 MiB in this form";

    // A node's API.
    BadRequest = "bad_request", Rejected, 400:
        "A parameter, header or body of the request is invalid.",
        "see the parameters and their forms in /openapi.json";
    NoSuchRoute = "no_such_route", NotFound, 404:
        "The node serves nothing at this path.",
        "see the routes in /openapi.json";
    MethodNotAllowed = "method_not_allowed", Rejected, 405:
        "The route does not support this method.",
        "see the methods of each route in /openapi.json";
    BodyTooLarge = "body_too_large", Rejected, 413:
        "The request body exceeds the limit: 128 KiB for a transaction, 1 MiB for a batch.",
        "send less in one request";
    RateLimited = "rate_limited", Network, 429:
        "The client exceeds its request rate.",
        "wait as long as Retry-After says; send transactions in batches";
    Busy = "busy", Network, 503:
        "The node is overloaded or stopping.",
        "try again in a moment";
    FaucetWait = "faucet_wait", Network, 429:
        "The faucet has paid this account, or others at the same internet address, a short time \
         ago.",
        "wait as long as the message says";
    FaucetEmpty = "faucet_empty", Network, 503:
        "The faucet's account has not enough left to pay.",
        "tell whoever runs the faucet";
    NotReady = "not_ready", Network, 503:
        "The node is running but not ready to serve.",
        "wait, or look at the node's log";
    InternalError = "internal_error", Network, 500:
        "The node failed to answer.",
        "try again, or look at the node's log";
    HttpError = "http_error", Network:
        "A server, perhaps a proxy in front of the node, answered with an error that is not the \
         node's.",
        "check the URL and what lies between this machine and the node";
    UnrecognizedCode = "unrecognized_code", Rejected:
        "The node answered with an error code that this version does not know.",
        "install the version that the node runs";
    BlockPruned = "block_pruned", NotFound, 410:
        "The node joined after this block, or deletes old blocks.",
        "ask a node whose status says `history_from` 1";
    BlockNotFound = "block_not_found", NotFound, 404:
        "The block is not finalized, or this node has not reached it.",
        "see the current height in `soma status`";
    TransactionNotFound = "transaction_not_found", NotFound, 404:
        "The transaction is neither pending in this node's pool nor finalized.",
        "check the hash, or send the transaction again";
    EpochNotFound = "epoch_not_found", NotFound, 404:
        "The epoch has not begun.",
        "see the current epoch in `soma status`";
    SpecializationNotFound = "specialization_not_found", NotFound, 404:
        "The model has not revealed one, or was not routed to targets of that epoch.",
        "see `soma model show`";
    DataNotFound = "data_not_found", NotFound, 404:
        "No data is published for the target, or it is settled and the data was deleted.",
        "see `soma target show`";
    RangeNotSatisfiable = "range_not_satisfiable", Rejected, 416:
        "The range begins after the end of the file.",
        "request a range inside the file";

    // Weights files on a node.
    UploadNotPermitted = "upload_not_permitted", Rejected, 403:
        "An upload must be signed by an account whose commit names the file.",
        "upload with the key that committed, and check this machine's clock";
    UploadBusy = "upload_busy", Rejected, 409:
        "Another upload of the file is running.",
        "wait until it ends";
    UploadOffset = "upload_offset", Rejected, 409:
        "The upload does not continue where the previous one stopped.",
        "ask how many bytes the node has, and continue there";
    UploadTooLong = "upload_too_long", Rejected, 413:
        "More bytes were sent than the commit names.",
        "upload the committed file";
    UploadStalled = "upload_stalled", Network, 408:
        "The upload stalled before it was complete.",
        "continue where it stopped";
    UploadQuota = "upload_quota", Rejected, 403:
        "Before it reveals them, a model may bring four files of the largest size in an epoch.",
        "commit less often, and upload again in the next epoch";
    CiphertextMismatch = "ciphertext_mismatch", Rejected, 422:
        "The uploaded file is not the committed one.",
        "upload the committed file from its first byte";
    WeightsMismatch = "weights_mismatch", Rejected, 422:
        "The decrypted file is not the revealed one.",
        "ask the model's owner for a new reveal";
    WeightsNotFound = "weights_not_found", NotFound, 404:
        "No model has revealed these weights, or they are no longer needed.",
        "wait for the reveal; see `soma model list`";
    WeightsNotHeld = "weights_not_held", NotFound, 404:
        "The node does not hold the file.",
        "ask another node, or wait until this one has fetched it";

    // A node and its folder.
    PortInUse = "port_in_use", Failed:
        "Another process listens on the port.",
        "stop it, or choose another port with --port";
    CannotListen = "cannot_listen", Failed:
        "The system refuses to listen on the address.",
        "choose an address of this machine";
    OtherNetwork = "other_network", Config:
        "The state folder belongs to another network.",
        "choose another --state folder, or start from scratch with --reset";
    StateInUse = "state_in_use", Failed:
        "Another process uses the state folder.",
        "stop the other node, or choose another --state folder";
    MalformedFile = "malformed_file", Config:
        "A file of a folder's state is malformed.",
        "restore it from a backup; only a local network can start from scratch, with --reset";
    NotANodeFolder = "not_a_node_folder", Config:
        "The folder holds no node.",
        "make one with `soma node init`, or name its folder with --dir";
    NodeExists = "node_exists", Failed:
        "The folder already holds a node, which is never overwritten.",
        "name another folder with --dir";
    BadSettings = "bad_settings", Config:
        "A setting is missing, unknown or invalid.",
        "fix config.toml; `soma node init` writes one that explains every setting";
    BadTlsFiles = "bad_tls_files", Config:
        "The certificate or the key of a node's API cannot be used. While a node runs, it keeps \
         those that it has.",
        "fix the files that [tls] in config.toml names, a chain of certificates and its key in \
         PEM; a running node reads them again";
    InvalidGenesis = "invalid_genesis", Config:
        "The genesis breaks a rule.",
        "fix the genesis file";
    BadPlan = "bad_plan", Config:
        "The plan of a network is malformed, or what it says breaks a rule.",
        "fix the plan; `soma genesis new` writes one that explains every line";
    BadEntry = "bad_entry", Config:
        "The file is not an entry for a genesis.",
        "ask its operator for the file that `soma genesis add` wrote";
    EntryNotSigned = "entry_not_signed", Verification:
        "The entry was changed after it was signed, or is not signed by the keys that it names.",
        "ask its operator for the file that `soma genesis add` wrote";
    EntryOfOtherPlan = "entry_of_other_plan", Config:
        "An entry is signed for one plan, and this one says something else.",
        "compare the plans, and ask the operator for an entry for this one";
    EntryTwice = "entry_twice", Config:
        "A validator has one entry, with an account and a consensus key of its own.",
        "leave out the older one of the two files";
    EntryStake = "entry_stake", Config:
        "The plan says how much stake a validator may start with.",
        "choose a stake within the bounds: --stake SOMA";
    EntryCount = "entry_count", Config:
        "The plan says how many validators the network starts with.",
        "collect the missing entries, or agree on another plan";
    OtherGenesis = "other_genesis", Verification:
        "The genesis is not what follows from the plan and the entries.",
        "assemble it with `soma genesis assemble`, and compare the chain ids";
    UnknownNumerics = "unknown_numerics", Failed:
        "The chain's scores use a numerics version that this software does not know.",
        "install a newer version";
    InexactArchitecture = "inexact_architecture", Usage:
        "The chain gives `sig_reg_t_max` in thousandths and `sig_reg_coefficient` in millionths.",
        "give sig_reg_t_max at most 3 decimals, sig_reg_coefficient at most 6";
    EngineError = "engine_error", Failed:
        "The consensus engine did not start, or stopped. Finalized data is safe.",
        "look at the node's log, and start the node again";
    StoreError = "store_error", Failed:
        "The state on disk cannot be read or written.",
        "check the disk; `soma node verify-store` names what is damaged";
    StoreDamaged = "store_damaged", Failed:
        "A file of the chain's folder is damaged, so that the node cannot start.",
        "move the folder `chain` of the node aside and start it: it fetches the state from its \
         peers; the only validator of a network needs its backup";
    VotesDamaged = "votes_damaged", Failed:
        "The journal of this node's votes is damaged, so that the node cannot start.",
        "delete this folder and start the node: it watches until the next term begins, and then \
         votes again";
    FileDamaged = "file_damaged", Failed:
        "A file of the node is damaged that the node makes again.",
        "delete this file and start the node";
    VotesLost = "votes_lost", Failed:
        "The journal of this node's votes lacks votes that its key has cast, here or on another \
         node, or nothing shows how it voted. Voting twice in one view would cost the stake.",
        "wait: the node follows the chain and votes again when the next term begins; if the \
         network cannot continue without it and the key runs nowhere else, start it with \
         --vote-without-record";
    NoPeers = "no_peers", Network:
        "No other node is connected to this one.",
        "check the addresses under [[peers]] in config.toml, the connection and the firewalls";
    NotAdmitted = "not_admitted", Network:
        "The peers of this node do not accept its connections.",
        "give its consensus key (`soma node show`) to their operators, or register its validator: \
         the node tries again by itself";
    DutyKeyUnknown = "duty_key_unknown", Failed:
        "The node votes for a validator, but has neither the key of its account nor its duty key.",
        "name the node's key with `soma validator duty-key`, or give the node the right one";
    KeyRunsTwice = "key_runs_twice", Failed:
        "Two nodes run with one consensus key. Validators let only one of them vote.",
        "stop one of the two at once, and delete its key";
    NoLeases = "no_leases", Failed:
        "The node has a seat and does not vote: too few of the other validators let it.",
        "wait some seconds; then see `soma doctor`, and whether another node runs with the key";
    ClockWrong = "clock_wrong", Failed:
        "The clock of this machine differs from those of the other nodes.",
        "synchronize the clock with NTP";
    Behind = "behind", Failed:
        "The node has not executed all finalized blocks yet.",
        "wait until it has caught up";
    JoinedAnotherWay = "joined_another_way", Failed:
        "The node did not obtain the state in the way that it was asked to.",
        "look at the node's log; to sync the state after all, move the folder `chain` aside and \
         start it again";
    DiskLow = "disk_low", Failed:
        "The disk of the node is almost full. A full disk stops it.",
        "free some space";
    NoSnapshot = "no_snapshot", Failed:
        "State sync has begun, and no peer provides what is missing, or what they provide is \
         invalid.",
        "name more peers in config.toml and start again; what was received is kept";
    TooFarBehind = "too_far_behind", Failed:
        "All connected peers have deleted the blocks that this node needs next.",
        "start the node with --join state; state sync is checked from genesis";
    RulesUnknown = "rules_unknown", Upgrade:
        "The network follows rules that this software does not execute, or will soon. A node stops \
         after the last block that it executes; nothing is lost.",
        "install a newer release and start it; `soma --version` says which rules it executes";
    RulesOutdated = "rules_outdated", Upgrade:
        "The next blocks follow rules that this software no longer executes.",
        "move the folder `chain` aside and start the node with --join state, or run an older \
         release until the node has caught up";
    NodeStopped = "node_stopped", Failed:
        "The node stopped by itself. Finalized data is safe.",
        "start it again; finalized blocks are safe";

    // Models, weights files and training.
    UnknownKernel = "unknown_kernel", Usage:
        "No kernel has this name.",
        "use --kernel auto for the fastest kernel of this machine";
    KernelUnavailable = "kernel_unavailable", Usage:
        "This CPU cannot run the kernel.",
        "use --kernel auto for the fastest kernel of this machine";
    KernelUnequal = "kernel_unequal", Verification:
        "The kernel does not match the reference on this machine; its scores would be wrong.",
        "use --kernel reference, and report it";
    UnknownDevice = "unknown_device", Usage:
        "No device has this name.",
        "use --device auto, cpu, cuda or cuda:N";
    DeviceUnavailable = "device_unavailable", Usage:
        "The card cannot compute: it, its driver or its memory is missing, too old or too small.",
        "do what `soma doctor` says, or compute on the processor, which gives the same scores";
    DeviceUnequal = "device_unequal", Verification:
        "The card does not match the reference; its scores would be wrong.",
        "compute on the processor, and report it";
    ArchitectureNotJson = "architecture_not_json", Usage:
        "The file is not the JSON of an architecture.",
        "see vectors/tiny_text/config.json for an example";
    ArchitectureOutOfBounds = "architecture_out_of_bounds", Usage:
        "A number of the architecture is outside its bounds.",
        "choose a value within the bounds that the message names";
    NoArchitecture = "no_architecture", Usage:
        "The weights file does not name its architecture.",
        "name it: --arch nano, --arch v1 or --arch FILE.json";
    WeightsOtherKind = "weights_other_kind", Verification:
        "The file is not a safetensors file; the message says what it looks like.",
        "download the file again, or check the path";
    WeightsTooShort = "weights_too_short", Verification:
        "The file is too short to be a safetensors file.",
        "check the path, or download the file again";
    WeightsHeaderTooLong = "weights_header_too_long", Verification:
        "The file is not a safetensors file, or its header is too long.",
        "check the path";
    WeightsHeaderCutOff = "weights_header_cut_off", Verification:
        "The file ends inside its header.",
        "download the file again";
    WeightsHeaderNotJson = "weights_header_not_json", Verification:
        "The header is not a safetensors header.",
        "check the path, or write the file again";
    WeightsDuplicateTensor = "weights_duplicate_tensor", Verification:
        "A tensor appears twice.",
        "write the file again";
    WeightsMissingTensor = "weights_missing_tensor", Verification:
        "A tensor of the architecture is missing.",
        "check that --arch names the file's architecture";
    WeightsWrappedName = "weights_wrapped_name", Verification:
        "The names of the tensors have a part that a wrapper of the model adds, such as \
         torch.compile.",
        "save the model inside the wrapper: model._orig_mod, or model.module";
    WeightsUnexpectedTensor = "weights_unexpected_tensor", Verification:
        "A tensor does not belong to the architecture.",
        "check that --arch names the file's architecture";
    WeightsElementType = "weights_element_type", Verification:
        "Weights are F32, BF16 or F16.",
        "convert the file";
    WeightsShape = "weights_shape", Verification:
        "A tensor's shape does not match the architecture.",
        "check that --arch names the file's architecture";
    WeightsOffsets = "weights_offsets", Verification:
        "A tensor's offsets do not match its number of elements.",
        "write the file again";
    WeightsTruncated = "weights_truncated", Verification:
        "The file ends inside a tensor.",
        "download the file again";
    WeightsGapOrOverlap = "weights_gap_or_overlap", Verification:
        "Tensors must follow each other without gap or overlap.",
        "write the file again";
    WeightsMisaligned = "weights_misaligned", Verification:
        "A tensor does not begin at a multiple of its elements' size.",
        "write the file again, with its header padded to 8 bytes and its widest elements first";
    WeightsTrailingBytes = "weights_trailing_bytes", Verification:
        "Bytes follow the last tensor.",
        "write the file again";
    WeightsNonFinite = "weights_non_finite", Verification:
        "A weight is NaN or infinite.",
        "resume training from an earlier checkpoint";
    EmptyData = "empty_data", Failed:
        "The input is empty.",
        "name a file of at least one byte";
    NonFinite = "non_finite", Verification:
        "The model's numbers overflow on this data; such a model ranks last.",
        "use other weights or other data";
    Diverged = "diverged", Verification:
        "The numbers of the training run grew beyond all bounds. Its last checkpoint is kept.",
        "lower the learning rate (--lr), and resume from an earlier checkpoint or start again";
    ZeroEmbedding = "zero_embedding", Verification:
        "The mean representation is zero and has no direction; such a model ranks last.",
        "use other weights or other data";
    OtherDirections = "other_directions", Failed:
        "The directions were made for another architecture.",
        "make the directions for the model's architecture";
    Recipe = "recipe", Usage:
        "A number of the training recipe is outside its bounds.",
        "change the value that the message names";
    Checkpoint = "checkpoint", Verification:
        "The file is not a checkpoint of this training run, or it is damaged.",
        "resume with the run's data and recipe, or from another checkpoint";
    ReceiptMalformed = "receipt_malformed", Verification:
        "The file is not a receipt of `soma score --receipt`, or it was cut off or changed.",
        "check the path, or get the receipt again from whoever wrote it";
    ReceiptSchema = "receipt_schema", Verification:
        "The receipt is one of another version of this software.",
        "verify it with the version that wrote it, or a later one";
    ReceiptDiffers = "receipt_differs", Verification:
        "The score that is computed here is not the one in the receipt; the message says where.",
        "check that data, weights and receipt belong together";

    // Keys.
    BadKeyName = "bad_key_name", Config:
        "A key's name has 1 to 64 lower-case letters, digits, `-` and `_`.",
        "choose another name";
    KeyExists = "key_exists", Config:
        "A key with this name already exists, and keys are never overwritten.",
        "choose another name";
    KeyMissing = "key_missing", Config:
        "No key has this name.",
        "see `soma keys list`, or make a key with `soma keys new NAME`";
    KeyReadableByOthers = "key_readable_by_others", Config:
        "Other users can read the key file.",
        "chmod 600 the file, and consider whether the key was read";
    FolderOpenToOthers = "folder_open_to_others", Config:
        "Other users can read or change a folder that holds secrets.",
        "chmod 700 the folder, and consider whether its files were read or replaced";
    BadKeyFile = "bad_key_file", Config:
        "The file is not a key file, or it is damaged.",
        "restore it from a backup";
    PassphraseNeeded = "passphrase_needed", Config:
        "The key is encrypted.",
        "put the passphrase into a file: --passphrase-file FILE, or - for standard input";
    PassphraseWrong = "passphrase_wrong", Config:
        "The passphrase does not decrypt the key. Passphrases cannot be recovered.",
        "try again";
    PassphraseTooShort = "passphrase_too_short", Config:
        "A passphrase has at least eight characters.",
        "choose a longer passphrase";
    PassphraseMismatch = "passphrase_mismatch", Config:
        "The two passphrases differ. Nothing was written.",
        "try again";
    BadWords = "bad_words", Config:
        "A key is 24 English words of BIP-39; the last one has a checksum of the others.",
        "compare each word with the paper that they are written on";
    WordsNeeded = "words_needed", Config:
        "A key is made from its 24 words, which were neither given nor could be asked for.",
        "put the words into a file: --words FILE, or - for standard input";
    NoWords = "no_words", Config:
        "Only a key that was made from words can be written as words.",
        "back up its file: `soma keys export NAME -o FILE`";

    // Files and the system.
    FileNotFound = "file_not_found", NotFound:
        "The file or folder does not exist.",
        "check the path";
    NotAFile = "not_a_file", Failed:
        "A folder, a device or a pipe was named where only a regular file can be.",
        "name a file";
    FileChanged = "file_changed", Failed:
        "Another program changed the file while it was being read. Nothing was computed from it.",
        "wait until the other program is done, and try again";
    LeftOut = "left_out", Failed:
        "Some of the named data could not be used. The rest was.",
        "see the warnings; make the files readable, or leave them out";
    FileExists = "file_exists", Failed:
        "The file already exists.",
        "name another file, or move this one away";
    FilePermission = "file_permission", Failed:
        "This user may not use the file or folder.",
        "check the permissions of the file and its folder";
    FileError = "file_error", Failed:
        "The file or folder cannot be read or written.",
        "check the path and the disk";
    DiskFull = "disk_full", Failed, 507:
        "The disk is full. Finalized data is safe.",
        "free some space and run the same command again";
    NoHome = "no_home", Config:
        "There is no home folder.",
        "set SOMA_HOME to a folder";
    NoRandomness = "no_randomness", Failed:
        "The system's random source cannot be read.",
        "check the system";
    NoMemory = "no_memory", Failed:
        "The system has no memory left for this.",
        "stop other programs, use fewer models at once, or use weights of half precision";
    NoThreads = "no_threads", Failed:
        "The system refuses to start threads.",
        "ask for fewer threads with --threads, or stop other programs";
    NoProcess = "no_process", Failed:
        "The system refuses to start a process.",
        "stop other programs and try again";
    Signals = "signals", Failed:
        "The system refuses to deliver signals to the process.",
        "check the system";
    Interrupted = "interrupted", Failed:
        "A signal stopped the command before it was done.",
        "run it again; the message says what was kept";
    Stdout = "stdout", Failed:
        "The result cannot be written to standard output.",
        "check where the output goes";
    Json = "json", Failed:
        "The result cannot be written as JSON.",
        "report it";

    // Commands.
    Usage = "usage", Usage:
        "The arguments are invalid or contradict each other.",
        "see --help of the command";
    UnknownCode = "unknown_code", NotFound:
        "No error has this code.",
        "list all codes with `soma explain`";
    TooLittleData = "too_little_data", Failed:
        "There is not enough data of the size that the network accepts.",
        "add more files, or longer ones";
    NoScore = "no_score", Verification:
        "No model has a score for the data.",
        "see the reason in each model's entry";
    NoModel = "no_model", NotFound:
        "The key has no model.",
        "register one with `soma model register NAME`";
    CorpusElsewhere = "corpus_elsewhere", Rejected:
        "The account has committed documents from another machine or home, and only there it can \
         be shown that a document is one of them.",
        "submit from there, or begin another list here with `soma submit --replace-corpus`: then \
         the documents of the other one no longer count";
    CorpusFull = "corpus_full", Rejected:
        "An account commits to at most 1048576 documents.",
        "submit other documents from another account";
    DocumentsTooNew = "documents_too_new", Rejected:
        "A document counts only for targets of epochs after the one in which it was committed, so \
         that nobody can make it for a target.",
        "run the command without --target: it waits for the next epoch";
    NoTarget = "no_target", NotFound:
        "There is no such open target.",
        "see `soma target list`";
    NoWeights = "no_weights", NotFound:
        "The model has not revealed weights.",
        "wait for the model's first reveal";
    NoMigration = "no_migration", NotFound:
        "The network is not migrating to another architecture.",
        "see `soma vote list`";
    BadSpecialization = "bad_specialization", Usage:
        "The file is not a JSON list of 16-bit integers.",
        "write the file with `soma model specialize FILE --domain PATH`";
    NothingDue = "nothing_due", NotFound:
        "No commit of this key is waiting to be revealed.",
        "commit first with `soma model commit`";
    CommitLapsed = "commit_lapsed", Rejected:
        "Too few validators held the file when the epoch began. The rent was returned.",
        "run the command again";
    NotALocalnet = "not_a_localnet", Config:
        "The folder is not the state of a local network.",
        "start one with `soma localnet`, or name its folder with --state";
    Unhealthy = "unhealthy", Failed:
        "`soma doctor` found a problem.",
        "follow the hint of each problem";
    LoadFailed = "load_failed", Failed:
        "A part of the load generator failed.",
        "run the measurement again";
    Supply = "supply", Verification:
        "Reserve, holdings and burned amounts do not add up to the cap. This is a bug.",
        "report it with the seed";
}
