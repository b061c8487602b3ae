//! The part of the table about a node in one file: backups and moves.

/// Completes the table with these entries.
macro_rules! bundle {
($($others:tt)*) => { $crate::table::client::client! {
    $($others)*

    NodeMoved = "node_moved", Config:
        "The node was moved with `soma node move`: its key may vote on another machine by now.",
        "run it where `soma node restore` put it; to take the move back, stop it there, delete it \
         and its file, and run `soma node move --undo` here";
    NodeNotMoved = "node_not_moved", Failed:
        "There is no move to take back: the node may run.",
        "run it with `soma node run`";
    BadBundle = "bad_bundle", Verification:
        "The file is not one of `soma node backup` or `soma node move`, or it was cut off or \
         changed.",
        "check the path, or use another copy of the file";
} };
}

pub(crate) use bundle;
