//! The rules: a pure function from state and block to state, receipts and events.
