//! A plot with two logarithmic axes as SVG, legible on a light and on a dark page.

use super::lists::grouped;
use std::fmt::Write as _;

/// Lines between two axes.
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// What goes to the right.
    pub x: &'static str,
    /// What goes up.
    pub y: &'static str,
    /// The lines.
    pub lines: Vec<Line>,
}

/// One line.
pub struct Line {
    /// What its end is labelled with.
    pub name: String,
    /// How it is drawn.
    pub look: Look,
    /// Where it goes, from left to right; all numbers positive.
    pub points: Vec<(f64, f64)>,
}

/// How a line is drawn; the number sets apart those of a kind.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// The service.
    Ours(usize),
    /// What it is compared with.
    Theirs(usize),
    /// What can't be undercut.
    Floor(usize),
}

impl Look {
    fn class(self) -> String {
        match self {
            Look::Ours(number) => format!("ours o{number}"),
            Look::Theirs(number) => format!("theirs t{number}"),
            Look::Floor(number) => format!("floor f{number}"),
        }
    }
}

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 480.0;
/// The field between the axes: left, right, top, bottom. Labels of the lines stand to the right of it.
const FIELD: (f64, f64, f64, f64) = (70.0, 590.0, 50.0, 420.0);
/// The least distance of two labels.
const LABEL: f64 = 18.0;

/// Colours of Okabe and Ito, which the colour-blind can tell apart; lighter ones on a dark page.
const STYLE: &str = "
.page { fill: #fff } text { font: 13px sans-serif; fill: #222 } .title { font-size: 16px; font-weight: bold }
.grid { stroke: #ddd } .line { fill: none; stroke-width: 2 } .leader { fill: none; stroke: #aaa }
.ours { stroke-width: 3 } .theirs { stroke-dasharray: 7 4 } .floor { stroke-dasharray: 2 3 } .dot { stroke-dasharray: none }
.o0 { stroke: #0072b2 } .o1 { stroke: #56b4e9 } .o2 { stroke: #009e73 }
.t0 { stroke: #d55e00 } .t1 { stroke: #e69f00 } .t2 { stroke: #cc79a7 } .f0 { stroke: #444 } .f1 { stroke: #888 }
@media (prefers-color-scheme: dark) {
  .page { fill: #14181d } text { fill: #e6e6e6 } .grid { stroke: #3a3a3a } .leader { stroke: #777 }
  .o0 { stroke: #4aa8e0 } .o1 { stroke: #9bd3f5 } .o2 { stroke: #2fd0a2 }
  .t0 { stroke: #ff8a3c } .t1 { stroke: #f5bd41 } .t2 { stroke: #e6a5c9 } .f0 { stroke: #ccc } .f1 { stroke: #999 }
}
";

impl Plot {
    /// The plot as an SVG document.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::over(points().map(|point| point.0), FIELD.0, FIELD.1);
        let y = Axis::over(points().map(|point| point.1), FIELD.3, FIELD.2);
        let title = self.title;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n\
             <title>{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>\n\
             <text class=\"title\" x=\"{}\" y=\"28\">{title}</text>\n",
            FIELD.0
        );
        // Writing to a String can't fail.
        let _ = self.write_axes(&mut text, &x, &y);
        let _ = self.write_lines(&mut text, &x, &y);
        text + "</svg>\n"
    }

    fn write_axes(&self, text: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        let (left, right, top, bottom) = FIELD;
        for (value, at) in x.ticks() {
            writeln!(text, "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/>")?;
            let under = bottom + 20.0;
            writeln!(text, "<text x=\"{at:.1}\" y=\"{under}\" text-anchor=\"middle\">{}</text>", grouped(value))?;
        }
        for (value, at) in y.ticks() {
            writeln!(text, "<path class=\"grid\" d=\"M{left} {at:.1}H{right}\"/>")?;
            let (beside, baseline) = (left - 8.0, at + 4.0);
            let label = grouped(value);
            writeln!(text, "<text x=\"{beside}\" y=\"{baseline:.1}\" text-anchor=\"end\">{label}</text>")?;
        }
        let (middle, under) = ((left + right) / 2.0, bottom + 44.0);
        writeln!(text, "<text x=\"{middle}\" y=\"{under}\" text-anchor=\"middle\">{}</text>", self.x)?;
        let middle = (top + bottom) / 2.0;
        let turned = format!("transform=\"translate(18 {middle}) rotate(-90)\"");
        writeln!(text, "<text {turned} text-anchor=\"middle\">{}</text>", self.y)
    }

    fn write_lines(&self, text: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        let ends: Vec<f64> =
            self.lines.iter().map(|line| line.points.last().map_or(0.0, |point| y.at(point.1))).collect();
        for ((line, end), label) in self.lines.iter().zip(&ends).zip(labels(&ends)) {
            let points: Vec<String> =
                line.points.iter().map(|point| format!("{:.1},{:.1}", x.at(point.0), y.at(point.1))).collect();
            let class = line.look.class();
            writeln!(text, "<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" "))?;
            for (x, y) in line.points.iter().map(|point| (x.at(point.0), y.at(point.1))) {
                writeln!(text, "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>")?;
            }
            let start = line.points.last().map_or(0.0, |point| x.at(point.0)) + 4.0;
            let (near, far) = (FIELD.1 + 24.0, FIELD.1 + 44.0);
            writeln!(text, "<path class=\"leader\" d=\"M{start:.1} {end:.1}L{near} {label:.1}\"/>")?;
            writeln!(text, "<path class=\"line {class}\" d=\"M{near} {label:.1}H{far}\"/>")?;
            writeln!(text, "<text x=\"{}\" y=\"{:.1}\">{}</text>", far + 6.0, label + 4.0, line.name)?;
        }
        Ok(())
    }
}

/// Where the labels of lines go that end at these heights: near their ends, apart from each other, within the field.
fn labels(ends: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ends.len()).collect();
    order.sort_by(|&a, &b| ends[b].total_cmp(&ends[a]));
    let mut places = vec![0.0; ends.len()];
    let mut lowest = FIELD.3;
    for index in order {
        places[index] = ends[index].min(lowest);
        lowest = places[index] - LABEL;
    }
    places
}

/// A logarithmic axis from one power of ten to another.
struct Axis {
    powers: (i32, i32),
    places: (f64, f64),
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        Axis { powers: (low.log10().floor() as i32, high.log10().ceil() as i32), places: (from, to) }
    }

    fn at(&self, value: f64) -> f64 {
        let (first, last) = (f64::from(self.powers.0), f64::from(self.powers.1));
        self.places.0 + (value.log10() - first) / (last - first) * (self.places.1 - self.places.0)
    }

    /// The powers of ten from 1 upwards, and where they are.
    fn ticks(&self) -> impl Iterator<Item = (u32, f64)> {
        (self.powers.0.max(0)..=self.powers.1).map(|power| {
            let value = 10u32.pow(power as u32);
            (value, self.at(f64::from(value)))
        })
    }
}
