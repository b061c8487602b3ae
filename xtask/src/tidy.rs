//! Rules that hold for the whole tree. Each rule returns its faults as lines `file:line: what`.

use std::path::Path;

use crate::tree::{self, Manifest};

mod layers;
mod links;
mod manifests;
mod text;
mod threats;
mod words;

/// All faults in the tree below `root`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>, String> {
    let paths = tree::paths(root)?;
    let files = tree::texts(root, &paths);
    let manifests = Manifest::all(&files);
    let mut faults = layers::check(&manifests);
    faults.extend(layers::reading_order(&files));
    faults.extend(manifests::check(&manifests));
    faults.extend(text::check(&files));
    faults.extend(words::check(&files));
    faults.extend(links::check(&files, &paths));
    faults.extend(threats::check(&files));
    Ok(faults)
}
