//! Progress of what is waited for: bars where a person watches, lines where a log is written.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use lun_core::model::{OpView, Phase};

use super::{Ui, op};

/// A line is written when the percentage enters another step of this many.
const STEP: u32 = 5;

/// Where progress is shown.
#[derive(Debug)]
pub(crate) struct Progress {
    ui: Ui,
    bars: Option<MultiProgress>,
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing where a document is wanted.
    pub(crate) fn new(ui: &Ui) -> Self {
        Self {
            ui: ui.clone(),
            bars: ui.interactive().then(MultiProgress::new),
        }
    }

    /// Room for one more operation.
    pub(crate) fn line(&self) -> Line {
        let inner = match &self.bars {
            Some(bars) => Inner::Bar(bars.add(bar())),
            None if self.ui.json() => Inner::Hidden,
            None => Inner::Plain {
                ui: self.ui.clone(),
                last: None,
            },
        };
        Line { inner }
    }
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} [{bar:24}] {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(100).with_style(style.progress_chars("=> "))
}

/// What a plain line was last written for.
pub(super) type Shown = (String, Phase, u32);

/// Progress of one operation.
#[derive(Debug)]
pub(crate) struct Line {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Bar(ProgressBar),
    Plain { ui: Ui, last: Option<Shown> },
    Hidden,
}

impl Line {
    /// Shows nothing.
    pub(crate) const fn hidden() -> Self {
        Self {
            inner: Inner::Hidden,
        }
    }

    /// Shows the operation as it stands.
    pub(crate) fn show(&mut self, view: &OpView) {
        match &mut self.inner {
            Inner::Bar(bar) => {
                bar.set_prefix(format!("{} {}", view.id, view.lun_name));
                bar.set_position(u64::from(view.percent));
                bar.set_message(op::progress(view));
            }
            Inner::Plain { ui, last } => {
                if let Some(text) = plain(view, last) {
                    // That a line could not be written is told when the result is.
                    drop(ui.text(&text));
                }
            }
            Inner::Hidden => {}
        }
    }

    /// Shows a remark.
    pub(crate) fn note(&self, text: &str) {
        match &self.inner {
            Inner::Bar(bar) => bar.set_message(text.to_owned()),
            Inner::Plain { ui, .. } => ui.note(text),
            Inner::Hidden => {}
        }
    }

    /// Takes the bar away: the result follows.
    pub(crate) fn finish(&self) {
        if let Inner::Bar(bar) = &self.inner {
            bar.finish_and_clear();
        }
    }
}

/// The line for a view that differs enough from the last one shown. The end has a line of its
/// own, which is written elsewhere.
pub(super) fn plain(view: &OpView, last: &mut Option<Shown>) -> Option<String> {
    if !view.is_running() {
        return None;
    }
    let now = (view.state.clone(), view.phase, view.percent / STEP);
    if last.as_ref() == Some(&now) {
        return None;
    }
    *last = Some(now);
    let what = op::progress(view);
    Some(format!(
        "operation {}: {} {}: {what}\n",
        view.id, view.lun_name, view.state
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn a_line_every_five_percent_or_change_of_state() {
        let mut view = samples::running();
        let mut last = None;
        let mut lines = 0;
        for percent in 0..100 {
            view.percent = percent;
            lines += usize::from(plain(&view, &mut last).is_some());
        }
        assert_eq!(lines, 20);
        view.state = "verifying".to_owned();
        let line = plain(&view, &mut last).unwrap();
        assert!(
            line.starts_with("operation 7: md0 verifying: rebuild 99%"),
            "{line}"
        );
        assert_eq!(plain(&view, &mut last), None);
        assert_eq!(plain(&samples::finished("succeeded", 0), &mut last), None);
    }
}
