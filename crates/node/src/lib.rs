//! A running validator: mempool, HTTP API, weights, audits.
