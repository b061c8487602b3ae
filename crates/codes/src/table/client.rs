//! The part of the table about connections to nodes, what clients of nodes keep, and cold stores.

/// Completes the table with these entries.
macro_rules! client {
($($others:tt)*) => { $crate::entry::codes! {
    $($others)*

    TransactionExpired = "transaction_expired", Network:
        "The transaction was not included before it expired. Nothing was charged.",
        "send it again";
    TransactionSuperseded = "transaction_superseded", Rejected:
        "Another transaction of the account with the same nonce is finalized. Nothing was charged.",
        "check whether another program uses the key, and send it again if it is still wanted";
    TooLate = "too_late", Rejected:
        "The phase ended before the reveal or publication was sent.",
        "commit or submit again, and let a soma command run through the reveal phase";
    NetworkHalted = "network_halted", Failed:
        "No block is finalized: too few validators run, or they are disconnected.",
        "look at the validators' logs";
    Timeout = "timeout", Network:
        "The node did not answer, or the network did not finalize, within the time limit.",
        "check with `soma status` whether the node is busy or behind";
    Network = "network", Network:
        "The node cannot be reached, or the connection was interrupted.",
        "check that the node is running and that the URL is right, or start a network on this \
         machine with `soma localnet`";
    NotANode = "not_a_node", Network:
        "The answer does not come from a soma node.",
        "check the URL";
    BadUrl = "bad_url", Usage:
        "The text is not the URL of a node.",
        "give a URL such as http://127.0.0.1:8645 or https://node.example.org";
    RedirectRefused = "redirect_refused", Network:
        "The server answered with a redirection. It is not followed: what is sent is for the \
         server that was named.",
        "if what the message names is the node, give its URL with --url";
    CertificateUnknownIssuer = "certificate_unknown_issuer", Verification:
        "The certificate of the server is signed by nobody that this machine trusts. No request \
         was sent.",
        "check the URL and what lies in between; if the issuer is your own, name the file of its \
         certificate with --ca FILE";
    CertificateOtherName = "certificate_other_name", Verification:
        "The certificate of the server is for other names than that in the URL. No request was \
         sent.",
        "use a name that the certificate has, or check what lies in between";
    CertificateNotValidNow = "certificate_not_valid_now", Verification:
        "By the clock of this machine, the certificate of the server has expired or is not valid \
         yet. No request was sent.",
        "check the clock of this machine; if it is right, the server needs a new certificate";
    CertificateInvalid = "certificate_invalid", Verification:
        "The certificate of the server is malformed, revoked, or not one for servers. No request \
         was sent.",
        "ask the operator of the server for a valid one";
    TlsFailed = "tls_failed", Network:
        "There is no TLS connection: client and server do not agree on one, or only one of the \
         two speaks TLS.",
        "check the URL: https:// is for a server that speaks TLS, http:// for one that does not";
    BadCaFile = "bad_ca_file", Config:
        "The file of certificates to trust holds no certificate in PEM, or one that is malformed.",
        "name a file of certificates, each between lines BEGIN CERTIFICATE and END CERTIFICATE";
    OtherChain = "other_chain", Verification:
        "The node is one of another chain than this key signs for. Nothing was signed.",
        "check --url; to sign for the other chain, pass its id with --chain";
    AnswerUnproved = "answer_unproved", Verification:
        "The node does not prove what it says about the state of the chain: the proof is \
         malformed, incomplete, or does not lead to the root of the state. Nothing of it was used.",
        "use another node with --url, and tell the operator of this one";
    BlockNotCertified = "block_not_certified", Verification:
        "The block that the node's answer rests on is not certified by the committee of this \
         chain, as the changes of committees since genesis name it. Nothing of the answer was \
         used.",
        "use another node with --url, and compare the chain's id with somebody else's";
    BlockOfAnotherTime = "block_of_another_time", Verification:
        "The block that the node's answer rests on is certified, but of another time than this \
         machine's clock shows: the node is far behind or hides what has changed since, the \
         network has halted, or the clock is wrong.",
        "check this machine's clock, and ask another node with --url";
    ChainUnknown = "chain_unknown", Usage:
        "Answers are verified from the genesis of a chain on, and nothing says of which chain.",
        "name it with --chain ID; `soma status` shows what a node says, somebody whom you trust \
         knows whether it is true";
    BadCheckpoint = "bad_checkpoint", Config:
        "The file from which answers are to be verified holds no committees that a verifier has \
         kept, or those of another chain.",
        "name a file that a verifier has saved, or begin with the genesis";
    NodesDisagree = "nodes_disagree", Verification:
        "Two nodes tell different things about the chain. Nothing was submitted.",
        "find out which node is wrong or behind, and use others";
    WrongHash = "wrong_hash", Verification:
        "The file was damaged or replaced. It was not kept.",
        "try again, or use another node";
    WrongSize = "wrong_size", Verification:
        "The file was damaged or replaced. It was not kept.",
        "try again, or use another node";
    TooLarge = "too_large", Failed:
        "The file is longer than any that belongs here.",
        "check the path";
    SpoolDamaged = "spool_damaged", Failed:
        "A file of the spool is damaged; its reveal or publication may still be due.",
        "keep the file, and restore it from a backup";
    CorpusDamaged = "corpus_damaged", Failed:
        "The list of the documents that an account has committed is damaged. Without it, nobody \
         can show that a document is one of them.",
        "restore the file from a backup, or move it away and begin another list with \
         `soma submit --replace-corpus`";

    ColdStore = "cold_store", Network, 503:
        "The cold store of weights files refuses, is slow, or cannot be reached. What is on the \
         node's disk stays there, and what only the cold store has is fetched from other nodes.",
        "run `soma doctor --dir DIR` in the environment of the node: the bucket must exist, and \
         the credentials must allow to list, read, write and delete";
    ColdFileLost = "cold_file_lost", Failed:
        "The cold store no longer has an object as it was put there. The file is fetched from \
         other nodes, and put again.",
        "look for what deletes or changes objects of the bucket: a lifecycle rule, another \
         program, a damaged disk";
} };
}

pub(crate) use client;
