//! The table of parameters in the protocol's page says what the code says.

use soma_protocol::Params;

#[test]
fn the_table_of_parameters_equals_the_code() {
    let page = include_str!("../../../../docs/protocol.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Parameters\n")).unwrap();
    let number = |cell: &str| cell.trim().replace(',', "").parse::<u64>().unwrap();
    let (network, local) = (Params::network().values(), Params::local().values());
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), Params::BOUNDS.len());
    for (at, (row, bounds)) in rows.iter().zip(Params::BOUNDS).enumerate() {
        let (min, max) = row[5].split_once(" to ").unwrap();
        assert_eq!(row[1], format!("`{}`", bounds.name));
        assert_eq!((number(row[3]), number(row[4])), (network[at], local[at]), "{}", bounds.name);
        assert_eq!((number(min), number(max)), (bounds.min, bounds.max), "{}", bounds.name);
    }
}
