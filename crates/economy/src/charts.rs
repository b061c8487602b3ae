//! The charts of an economy and of a sweep: which lines, which words.

use crate::actors::Kind;
use crate::plot::{Axis, BLUE, Chart, Dots, GREEN, GREY, INK, Line, ORANGE, RED};
use crate::report::Report;
use crate::sweep::{self, Sweep};

/// File names and charts of one economy.
pub fn of_report(report: &Report) -> Vec<(&'static str, Chart)> {
    vec![
        ("economy-worth.svg", worth(report)),
        ("economy-routing.svg", routing(report)),
    ]
}

/// File name and chart of a sweep, if it has one.
pub fn of_sweep(sweep: Sweep, lines: &[sweep::Line]) -> Option<(&'static str, Chart)> {
    match sweep {
        Sweep::Margin => Some(("economy-margin.svg", margin(lines))),
        Sweep::Bond => Some(("economy-bond.svg", bond(lines))),
        _ => None,
    }
}

/// What everybody has made of what they had.
fn worth(report: &Report) -> Chart {
    let shown = [
        (Kind::Silencer, RED),
        (Kind::Idle, GREY),
        (Kind::Auditor, GREEN),
        (Kind::NoisyCopier, ORANGE),
        (Kind::Copier, ORANGE),
        (Kind::EvenDelegator, GREY),
        (Kind::Trainer, BLUE),
    ];
    let line = |(kind, colour): (Kind, &'static str)| {
        let samples = report.samples.iter();
        let later = samples.filter_map(|sample| {
            let worth = sample.worth.iter().find(|(one, _)| *one == kind)?.1;
            Some((f64::from(sample.epoch), worth))
        });
        Line {
            name: kind.words().into(),
            colour,
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
        title: "What everybody has made of what they began with".into(),
        subtitle: "Everybody's money, less what they spent on training, looking and auditing"
            .into(),
        x: Axis::stepped("epoch (a day each)", [0.0, epochs, epochs / 5.0], |at| {
            format!("{at:.0}")
        }),
        y: Axis::stepped("times what they began with", [0.0, top, 0.5], times),
        guides: vec![[(0.0, 1.0), (epochs, 1.0)]],
        lines,
        dots: Vec::new(),
    }
}

/// Share of stake against share of places, model by model.
fn routing(report: &Report) -> Chart {
    let shown: [(&[Kind], &'static str, &str); 4] = [
        (&[Kind::Trainer], BLUE, "models that train"),
        (
            &[Kind::Idle, Kind::Copier, Kind::NoisyCopier],
            GREY,
            "copies and idle models",
        ),
        (&[Kind::Splitter], ORANGE, "a stake split into eight"),
        (&[Kind::Large], INK, "as much in one model"),
    ];
    let dots = shown.map(|(kinds, colour, name)| Dots {
        name: name.into(),
        colour,
        points: report
            .places
            .iter()
            .filter(|place| kinds.contains(&place.kind))
            .map(|place| (place.stake_share * 100.0, place.slot_share * 100.0))
            .collect(),
    });
    let all = dots.iter().flat_map(|one| &one.points);
    let top = all.fold(1.0, |top: f64, (x, y)| top.max(*x).max(*y)).ceil();
    let percent = |at: f64| format!("{at} %");
    Chart {
        title: "How often a model is asked, and how much stake is behind it".into(),
        subtitle: "Each dot is a model over all epochs; the dashed line is exact proportion".into(),
        x: Axis::stepped("share of all stake behind models", [0.0, top, 1.0], percent),
        y: Axis::stepped("share of all places in targets", [0.0, top, 1.0], percent),
        guides: vec![[(0.0, 0.0), (top, top)]],
        lines: Vec::new(),
        dots: dots.to_vec(),
    }
}

/// Where the values of a sweep stand along its axis.
type Places = fn(usize, u64) -> f64;

/// At equal distances, because values double.
fn in_order(at: usize, _: u64) -> f64 {
    f64::from(u32::try_from(at).unwrap_or(0))
}

/// At their own distances, in percent.
fn in_percent(_: usize, value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(0)) / 100.0
}

/// A line of a sweep.
fn swept(
    lines: &[sweep::Line],
    places: Places,
    name: &str,
    colour: &'static str,
    figure: impl Fn(&Report) -> f64,
) -> Line {
    let points = lines.iter().enumerate();
    Line {
        name: name.into(),
        colour,
        points: points
            .map(|(at, line)| (places(at, line.value), figure(&line.report)))
            .collect(),
        dotted: true,
    }
}

/// The axis of a sweep, each value marked.
fn values(lines: &[sweep::Line], places: Places, from: f64, name: &str) -> Axis {
    let marked = lines.iter().enumerate();
    let marks: Vec<(f64, String)> = marked
        .map(|(at, line)| (places(at, line.value), line.shown.clone()))
        .collect();
    Axis {
        name: name.into(),
        from,
        to: marks.last().map_or(1.0, |(at, _)| *at),
        marks,
    }
}

fn margin(lines: &[sweep::Line]) -> Chart {
    let pay = |kind: Kind| move |report: &Report| report.pay_to_stake(kind);
    let lines_of_kinds = vec![
        swept(
            lines,
            in_order,
            Kind::NoisyCopier.words(),
            GREY,
            pay(Kind::NoisyCopier),
        ),
        swept(
            lines,
            in_order,
            Kind::Copier.words(),
            ORANGE,
            pay(Kind::Copier),
        ),
        swept(
            lines,
            in_order,
            Kind::Trainer.words(),
            BLUE,
            pay(Kind::Trainer),
        ),
    ];
    let axis = values(
        lines,
        in_order,
        -0.25,
        "margin, thousandths of a nat (each step doubles it)",
    );
    let end = axis.to;
    Chart {
        title: "Who is paid under which margin".into(),
        subtitle: "What models are paid, as a multiple of their share of the stake".into(),
        x: axis,
        y: Axis::stepped("pay / stake", [0.0, 1.5, 0.25], |at| format!("{at}")),
        guides: vec![[(-0.25, 1.0), (end, 1.0)]],
        lines: lines_of_kinds,
        dots: Vec::new(),
    }
}

fn bond(lines: &[sweep::Line]) -> Chart {
    let cost = |kind: Kind| move |report: &Report| report.griefing_cost(kind);
    let drawn = vec![
        swept(
            lines,
            in_percent,
            Kind::Silencer.words(),
            ORANGE,
            cost(Kind::Silencer),
        ),
        swept(
            lines,
            in_percent,
            Kind::Denier.words(),
            RED,
            cost(Kind::Denier),
        ),
    ];
    let axis = values(lines, in_percent, 0.0, "bond, share of the target's reward");
    let end = axis.to;
    Chart {
        title: "What it costs to deny a target to everybody".into(),
        subtitle: "SOMA that the attacker burns for each SOMA of reward that nobody gets".into(),
        x: axis,
        y: Axis::stepped("burned / denied", [0.0, 4.0, 1.0], |at| format!("{at}")),
        guides: vec![[(0.0, 1.0), (end, 1.0)]],
        lines: drawn,
        dots: Vec::new(),
    }
}
