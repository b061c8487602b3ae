//! What commands print, results and errors, as text and as JSON: one page of examples per topic in
//! `tests/snapshots/`. They need no network. `TRYCMD=overwrite` rewrites the pages.

#[test]
fn every_example_prints_what_its_page_shows() {
    let home = tempfile::tempdir().expect("there is a temporary folder");
    let cases = trycmd::TestCases::new();
    cases
        .env("SOMA_HOME", home.path().display().to_string())
        .env("COLUMNS", "100")
        .register_bin("soma", trycmd::cargo::cargo_bin!("soma"))
        .insert_var("[HOME]", home.path().display().to_string())
        .expect("the name of the variable is valid")
        .case("tests/snapshots/*.md");
}
