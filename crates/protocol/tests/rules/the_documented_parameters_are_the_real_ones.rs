//! The table of parameters in the protocol's page says what the code says.

use soma_protocol::{Architecture, Params};

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

/// What a network demands of its validators: the longest data for every target, scored with all of
/// its models, in half of the compete phase, in operations per second.
fn audit_flops(params: &Params, architecture: &Architecture) -> u64 {
    let data_bytes = u64::from(params.targets_per_epoch) * u64::from(params.data_bytes_max);
    let tokens = data_bytes * u64::from(params.models_per_target);
    2 * architecture.parameters() * tokens / (params.compete_ms() / 2 / 1_000)
}

#[test]
fn a_machine_of_four_teraflops_audits_the_longest_data_of_a_day_in_half_of_compete() {
    let needed = audit_flops(&Params::network(), &Architecture::v1());
    assert!((3_000_000_000_000..4_000_000_000_000).contains(&needed), "{needed}");
}
