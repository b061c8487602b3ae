//! Orders our blocks on the consensus engine: propose, verify, finalize.
