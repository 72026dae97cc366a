//! Figures: one JSON line each, for people and for the table in the README.

use serde::Serialize;

/// Prints figures as they are measured.
pub(crate) struct Figure {
    pub(crate) json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    scenario: &'a str,
    figure: &'a str,
    value: f64,
    unit: &'a str,
    peer: Option<&'a str>,
    ratio: Option<f64>,
    equal: Option<bool>,
}

impl Figure {
    /// A figure without a peer.
    pub(crate) fn plain(&mut self, scenario: &str, figure: &str, value: f64, unit: &str) {
        self.print(&Line {
            scenario,
            figure,
            value,
            unit,
            peer: None,
            ratio: None,
            equal: None,
        });
    }

    /// A figure beside a peer's, measured in the same run on the same input; `equal` says whether
    /// both gave the same answer, which is checked before any time is.
    pub(crate) fn against(
        &mut self,
        (scenario, figure): (&str, &str),
        (value, unit): (f64, &str),
        (peer, ratio): (&str, f64),
        equal: bool,
    ) {
        let (peer, ratio, equal) = (Some(peer), Some(ratio), Some(equal));
        self.print(&Line {
            scenario,
            figure,
            value,
            unit,
            peer,
            ratio,
            equal,
        });
    }

    #[allow(clippy::print_stdout, reason = "figures are what this program is for")]
    fn print(&self, line: &Line<'_>) {
        if self.json {
            println!("{}", serde_json::to_string(line).unwrap_or_default());
            return;
        }
        let beside = match (line.peer, line.ratio, line.equal) {
            (Some(peer), Some(ratio), Some(equal)) => {
                let answers = if equal {
                    "same answers"
                } else {
                    "DIFFERENT ANSWERS"
                };
                format!("   {ratio:.2} x {peer}, {answers}")
            }
            _ => String::new(),
        };
        let (scenario, figure, value, unit) = (line.scenario, line.figure, line.value, line.unit);
        println!("{scenario:16} {figure:40} {value:>16.2} {unit}{beside}");
    }
}
