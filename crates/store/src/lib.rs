//! Protocol state on the engine's authenticated database, and the read models beside it.
