//! The demo's own data, which is in the program, so that it needs no other files: sources and pages
//! of this project, under its license (MIT or Apache-2.0), and JSON that is generated.
//!
//! It must be the same wherever the program runs.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::PathBuf;

use include_dir::{Dir, DirEntry, include_dir};

/// A file of a domain.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: PathBuf,
    pub(super) content: Cow<'static, [u8]>,
}

static RUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../protocol/src");
static DECISIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/adr");
static GUIDES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/guides");

/// A page of the book by its name.
macro_rules! page {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../../../../docs/", $name)))
    };
}

static PAGES: [(&str, &[u8]); 7] = [
    page!("GLOSSARY.md"),
    page!("economics.md"),
    page!("engine.md"),
    page!("numerics.md"),
    page!("protocol.md"),
    page!("threats.md"),
    page!("training.md"),
];

/// Files of generated JSON, and the records in each.
const JSON_FILES: u32 = 120;
const JSON_RECORDS: u32 = 14;

/// The domains and their files, in order.
pub(super) fn domains() -> [(&'static str, Vec<File>); 3] {
    let mut rust = Vec::new();
    add(&RUST, &mut rust);
    let pages = PAGES.iter().map(|(name, content)| File {
        name: PathBuf::from(name),
        content: Cow::Borrowed(*content),
    });
    let mut markdown: Vec<File> = pages.collect();
    add(&DECISIONS, &mut markdown);
    add(&GUIDES, &mut markdown);
    [("rust", rust), ("markdown", markdown), ("json", (0..JSON_FILES).map(orders).collect())]
}

/// The files of a folder and those below it.
fn add(folder: &'static Dir<'static>, files: &mut Vec<File>) {
    for entry in folder.entries() {
        match entry {
            DirEntry::Dir(folder) => add(folder, files),
            DirEntry::File(file) => files.push(File {
                name: file.path().to_owned(),
                content: Cow::Borrowed(file.contents()),
            }),
        }
    }
}

const NAMES: [&str; 12] = [
    "Ada", "Bo", "Carmen", "Dimitri", "Elif", "Farid", "Grace", "Hana", "Iris", "Jonas", "Kofi",
    "Lena",
];
const CITIES: [&str; 10] =
    ["Accra", "Bergen", "Cusco", "Dakar", "Evora", "Fukuoka", "Graz", "Hanoi", "Izmir", "Jaipur"];
const GOODS: [&str; 12] = [
    "apricots",
    "bread",
    "candles",
    "drums",
    "envelopes",
    "figs",
    "gloves",
    "honey",
    "ink",
    "jars",
    "kettles",
    "lamps",
];

/// A file of orders, as a shop's server would write it.
fn orders(file: u32) -> File {
    let mut hasher = blake3::Hasher::new_derive_key("soma demo orders");
    let mut stream = hasher.update(&file.to_le_bytes()).finalize_xof();
    let mut below = |limit: usize| {
        let mut bytes = [0; 4];
        stream.fill(&mut bytes);
        u32::from_le_bytes(bytes) as usize % limit
    };
    let mut text = String::from("[\n");
    for record in 0..JSON_RECORDS {
        let (name, city) = (NAMES[below(NAMES.len())], CITIES[below(CITIES.len())]);
        let (day, hour, minute) = (1 + below(28), below(24), below(60));
        let items: Vec<String> = (0..=below(3))
            .map(|_| {
                let (goods, count) = (GOODS[below(GOODS.len())], 1 + below(9));
                let (price, cents) = (1 + below(80), below(100));
                format!(
                    "{{\"goods\": \"{goods}\", \"count\": {count}, \"price\": {price}.{cents:02}}}"
                )
            })
            .collect();
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "  {{\"order\": {}, \"customer\": \"{name}\", \"city\": \"{city}\", \
             \"placed\": \"2026-03-{day:02}T{hour:02}:{minute:02}\", \"paid\": {},\n   \
             \"items\": [{}]}}{}",
            file * 1_000 + record * 7 + 10_000,
            below(4) > 0,
            items.join(",\n             "),
            if record + 1 < JSON_RECORDS { "," } else { "" }
        );
    }
    text += "]\n";
    File {
        name: PathBuf::from(format!("orders-{file:03}.json")),
        content: text.into_bytes().into(),
    }
}
