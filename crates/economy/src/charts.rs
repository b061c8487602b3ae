//! The charts of an economy and of a sweep: the lines that they show, and their text.

use crate::actors::Kind;
use crate::plot::{Axis, BLUE, Chart, Dots, GRAY, GREEN, INK, Line, ORANGE, RED};
use crate::report::Report;
use crate::sweep::{self, Sweep};

/// File names and charts of one economy.
pub fn of_report(report: &Report) -> Vec<(&'static str, Chart)> {
    vec![("economy-worth.svg", worth(report)), ("economy-routing.svg", routing(report))]
}

/// File name and chart of a sweep, if it has one.
pub fn of_sweep(sweep: Sweep, lines: &[sweep::Line]) -> Option<(&'static str, Chart)> {
    match sweep {
        Sweep::Margin => Some(("economy-margin.svg", margin(lines))),
        Sweep::Bond => Some(("economy-bond.svg", bond(lines))),
        _ => None,
    }
}

/// The net worth of several kinds over time.
fn worth(report: &Report) -> Chart {
    let shown = [
        (Kind::Silencer, RED),
        (Kind::Idle, GRAY),
        (Kind::Auditor, GREEN),
        (Kind::NoisyCopier, ORANGE),
        (Kind::Copier, ORANGE),
        (Kind::EvenDelegator, GRAY),
        (Kind::Trainer, BLUE),
    ];
    let line = |(kind, color): (Kind, &'static str)| {
        let samples = report.samples.iter();
        let later = samples.filter_map(|sample| {
            let worth = sample.worth.iter().find(|(sampled, _)| *sampled == kind)?.1;
            Some((f64::from(sample.epoch), worth))
        });
        Line {
            name: kind.label().into(),
            color,
            points: std::iter::once((0.0, 1.0)).chain(later).collect(),
            dotted: false,
        }
    };
    let lines: Vec<Line> = shown.into_iter().map(line).collect();
    let highest = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let top = highest.fold(1.0, f64::max).ceil();
    let epochs = f64::from(report.epochs);
    let times = |at: f64| format!("{at} x");
    Chart {
        title: "Net worth of each kind of actor".into(),
        subtitle: "Balance, stakes and bonds, less spending on training, searching and auditing"
            .into(),
        x: Axis::stepped("epoch (one day)", [0.0, epochs, epochs / 5.0], |at| format!("{at:.0}")),
        y: Axis::stepped("multiple of the worth at genesis", [0.0, top, 0.5], times),
        guides: vec![[(0.0, 1.0), (epochs, 1.0)]],
        lines,
        dots: Vec::new(),
    }
}

/// Share of routes against share of stake, model by model.
fn routing(report: &Report) -> Chart {
    let shown: [(&[Kind], &'static str, &str); 4] = [
        (&[Kind::Trainer], BLUE, "trainers"),
        (&[Kind::Idle, Kind::Copier, Kind::NoisyCopier], GRAY, "copiers and idle"),
        (&[Kind::Splitter], ORANGE, "split stake"),
        (&[Kind::Large], INK, "large stake"),
    ];
    let dots = shown.map(|(kinds, color, name)| Dots {
        name: name.into(),
        color,
        points: report
            .places
            .iter()
            .filter(|place| kinds.contains(&place.kind))
            .map(|place| (place.stake_share * 100.0, place.slot_share * 100.0))
            .collect(),
    });
    let points = dots.iter().flat_map(|dots| &dots.points);
    let top = points.fold(1.0, |top: f64, (x, y)| top.max(*x).max(*y)).ceil();
    let percent = |at: f64| format!("{at} %");
    Chart {
        title: "Routing follows stake".into(),
        subtitle: "Each dot is a model over all epochs; the dashed line is exact proportionality"
            .into(),
        x: Axis::stepped("share of the stake on all models", [0.0, top, 1.0], percent),
        y: Axis::stepped("share of all routes to targets", [0.0, top, 1.0], percent),
        guides: vec![[(0.0, 0.0), (top, top)]],
        lines: Vec::new(),
        dots: dots.to_vec(),
    }
}

/// The position of a sweep's value on the axis, from its index and the value itself.
type Position = fn(usize, u64) -> f64;

/// Evenly spaced, for values that double.
fn equidistant(index: usize, _: u64) -> f64 {
    f64::from(u32::try_from(index).unwrap_or(0))
}

/// Linear, in percent, for values in hundredths of a percent.
fn in_percent(_: usize, value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(0)) / 100.0
}

/// The lines of a sweep, one for each kind.
fn sweep_lines<const N: usize>(
    lines: &[sweep::Line],
    position: Position,
    kinds: [(Kind, &'static str); N],
    figure: fn(&Report, Kind) -> f64,
) -> Vec<Line> {
    let point = |kind, (index, line): (usize, &sweep::Line)| {
        (position(index, line.value), figure(&line.report, kind))
    };
    let line = |(kind, color): (Kind, &'static str)| Line {
        name: kind.label().into(),
        color,
        points: lines.iter().enumerate().map(|line| point(kind, line)).collect(),
        dotted: true,
    };
    kinds.map(line).into()
}

/// The axis of a sweep, with a mark for each value.
fn sweep_axis(lines: &[sweep::Line], position: Position, from: f64, name: &str) -> Axis {
    let mark =
        |(index, line): (usize, &sweep::Line)| (position(index, line.value), line.label.clone());
    let marks: Vec<(f64, String)> = lines.iter().enumerate().map(mark).collect();
    Axis { name: name.into(), from, to: marks.last().map_or(1.0, |(end, _)| *end), marks }
}

fn margin(lines: &[sweep::Line]) -> Chart {
    let name = "margin, thousandths of a nat (each step doubles it)";
    let x = sweep_axis(lines, equidistant, -0.25, name);
    let kinds = [(Kind::NoisyCopier, GRAY), (Kind::Copier, ORANGE), (Kind::Trainer, BLUE)];
    Chart {
        title: "Pay under different margins".into(),
        subtitle: "Rewards to models, as a multiple of their share of stake".into(),
        guides: vec![[(x.from, 1.0), (x.to, 1.0)]],
        x,
        y: Axis::stepped("pay / stake", [0.0, 1.5, 0.25], |at| at.to_string()),
        lines: sweep_lines(lines, equidistant, kinds, Report::pay_to_stake),
        dots: Vec::new(),
    }
}

fn bond(lines: &[sweep::Line]) -> Chart {
    let x = sweep_axis(lines, in_percent, 0.0, "bond, as a share of the target's reward");
    let kinds = [(Kind::Silencer, ORANGE), (Kind::Denier, RED)];
    Chart {
        title: "The cost of denying a target".into(),
        subtitle: "SOMA burned by the attacker per SOMA of reward denied".into(),
        guides: vec![[(x.from, 1.0), (x.to, 1.0)]],
        x,
        y: Axis::stepped("burned / denied", [0.0, 4.0, 1.0], |at| at.to_string()),
        lines: sweep_lines(lines, in_percent, kinds, Report::griefing_cost),
        dots: Vec::new(),
    }
}
