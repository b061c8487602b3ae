//! Charts as SVG: lines and dots, labeled beside their last point instead of in a legend. Plotting
//! libraries do not keep such labels from overlapping, and these files are smaller.

use std::fmt::Write as _;

/// Text and axes.
pub const INK: &str = "#1f2430";
/// Background data.
pub const GRAY: &str = "#a3abb8";
/// The first accent.
pub const BLUE: &str = "#2563c9";
/// The second.
pub const ORANGE: &str = "#d9692b";
/// The third.
pub const GREEN: &str = "#2a8f62";
/// The fourth.
pub const RED: &str = "#b8374a";

const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 100.0;
const BOTTOM: f64 = 62.0;
/// The smallest distance between two labels.
const LABEL_DISTANCE: f64 = 18.0;

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The quantity with its unit.
    pub name: String,
    /// Its lower end.
    pub from: f64,
    /// Its upper end.
    pub to: f64,
    /// Marked positions with their texts.
    pub marks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis from `from` to `to` with evenly spaced marks.
    pub fn stepped(name: &str, [from, to, step]: [f64; 3], text: impl Fn(f64) -> String) -> Self {
        let mut marks = Vec::new();
        let mut at = from;
        while at <= to + step / 1_000.0 {
            marks.push((at, text(at)));
            at += step;
        }
        Self { name: name.into(), from, to, marks }
    }
}

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its label.
    pub name: String,
    /// Its color.
    pub color: &'static str,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// Whether each point is marked with a dot.
    pub dotted: bool,
}

/// A group of dots.
#[derive(Clone, Debug)]
pub struct Dots {
    /// Their label.
    pub name: String,
    /// Their color.
    pub color: &'static str,
    /// Their positions.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The title.
    pub title: String,
    /// The subtitle.
    pub subtitle: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// Dashed lines for comparison: from, to.
    pub guides: Vec<[(f64, f64); 2]>,
    /// Lines; the last is on top.
    pub lines: Vec<Line>,
    /// Groups of dots; the last is on top.
    pub dots: Vec<Dots>,
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn text(at: (f64, f64), style: &str, label: &str) -> String {
    format!("<text x=\"{:.1}\" y=\"{:.1}\" {style}>{}</text>\n", at.0, at.1, escaped(label))
}

impl Chart {
    fn position(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |axis: &Axis, at: f64| (at - axis.from) / (axis.to - axis.from);
        (
            LEFT + share(&self.x, x) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - share(&self.y, y) * (HEIGHT - TOP - BOTTOM),
        )
    }

    /// The chart as an SVG file.
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"13\" \
             font-family=\"Inter,Helvetica Neue,Helvetica,Arial,DejaVu Sans,sans-serif\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"#ffffff\"/>\n"
        );
        let bold = format!("font-size=\"17\" font-weight=\"600\" fill=\"{INK}\"");
        svg += &text((24.0, 32.0), &bold, &self.title);
        svg += &text((24.0, 52.0), "fill=\"#667085\"", &self.subtitle);
        self.axes(&mut svg);
        for &[from, to] in &self.guides {
            let ((x1, y1), (x2, y2)) = (self.position(from), self.position(to));
            let _ = writeln!(
                svg,
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
                 stroke=\"{GRAY}\" stroke-dasharray=\"4 4\"/>"
            );
        }
        self.draw_lines(&mut svg);
        self.draw_dots(&mut svg);
        svg += "</svg>\n";
        svg
    }

    fn axes(&self, svg: &mut String) {
        for (at, label) in &self.y.marks {
            let (x, y) = self.position((self.x.from, *at));
            let end = WIDTH - RIGHT;
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#e8ebf0\"/>"
            );
            let style = "text-anchor=\"end\" fill=\"#667085\"";
            *svg += &text((x - 8.0, y + 4.5), style, label);
        }
        for (at, label) in &self.x.marks {
            let (x, y) = self.position((*at, self.y.from));
            *svg += &text((x, y + 20.0), "text-anchor=\"middle\" fill=\"#667085\"", label);
        }
        let (x, y) = self.position((self.x.from, self.y.from));
        let end = WIDTH - RIGHT;
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#c3c9d4\"/>"
        );
        let style = format!("fill=\"{INK}\"");
        *svg += &text((x, HEIGHT - 18.0), &style, &self.x.name);
        *svg += &text((24.0, TOP - 18.0), &style, &self.y.name);
    }

    fn draw_lines(&self, svg: &mut String) {
        for line in &self.lines {
            let points: Vec<(f64, f64)> =
                line.points.iter().map(|point| self.position(*point)).collect();
            let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.2\" \
                 stroke-linejoin=\"round\"/>",
                path.join(" "),
                line.color
            );
            for (x, y) in points.iter().filter(|_| line.dotted) {
                dot(svg, (*x, *y), 3.5, line.color);
            }
        }
        let ends = self.lines.iter().filter_map(|line| {
            Some((self.position(*line.points.last()?), line.name.as_str(), line.color))
        });
        labels(svg, ends.collect());
    }

    fn draw_dots(&self, svg: &mut String) {
        for dots in &self.dots {
            for point in &dots.points {
                dot(svg, self.position(*point), 4.5, dots.color);
            }
        }
        let rightmost = self.dots.iter().filter_map(|dots| {
            let points = dots.points.iter();
            let last = points.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
            Some((self.position(*last), dots.name.as_str(), dots.color))
        });
        labels(svg, rightmost.collect());
    }
}

/// Labels beside their points, moved apart where they would overlap.
fn labels(svg: &mut String, mut places: Vec<((f64, f64), &str, &str)>) {
    places.sort_by(|((_, a), _, _), ((_, b), _, _)| a.total_cmp(b));
    let heights: Vec<f64> = places.iter().map(|((_, y), _, _)| *y).collect();
    for (((x, _), name, color), y) in places.iter().zip(spread(&heights)) {
        let style = format!("fill=\"{color}\" font-weight=\"600\"");
        *svg += &text((x + 10.0, y + 4.5), &style, name);
    }
}

fn dot(svg: &mut String, (x, y): (f64, f64), radius: f64, color: &str) {
    let _ = writeln!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{color}\" \
         stroke=\"#ffffff\" stroke-width=\"1\"/>"
    );
}

/// Sorted positions, moved apart until they keep the smallest distance.
fn spread(places: &[f64]) -> Vec<f64> {
    let mut moved = places.to_vec();
    for _ in 0..200 {
        for at in 1..moved.len() {
            let missing = LABEL_DISTANCE - (moved[at] - moved[at - 1]);
            if missing > 0.0 {
                moved[at - 1] -= missing / 2.0;
                moved[at] += missing / 2.0;
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::{LABEL_DISTANCE, spread};

    #[test]
    fn labels_do_not_overlap_and_keep_their_order() {
        let places = spread(&[10.0, 11.0, 12.0, 100.0]);
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] > LABEL_DISTANCE - 0.1));
        assert!((places[3] - 100.0).abs() < 0.1);
    }
}
