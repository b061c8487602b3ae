//! The API's description in the documentation is the one that a node serves.

use std::path::Path;

#[test]
fn the_openapi_document_in_docs_is_the_one_that_a_node_serves() {
    let served = soma_node::openapi().to_pretty_json().unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == served,
        "docs/reference/openapi.json is old: UPDATE=1 cargo test -p soma-node --test openapi"
    );
}
