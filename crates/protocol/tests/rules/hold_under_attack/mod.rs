//! What nobody can do to the network, whatever they are willing to lose: one file for each subject.

mod boundary_work;
mod consensus_costs_stake;
mod files_and_verdicts;
mod payments_and_duties;
