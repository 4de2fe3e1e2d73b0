//! A backend of plotters that writes SVG for a page: elements have classes instead of colours, so that one style sheet
//! serves light and dark.
//!
//! Takes what plotters draws, gives an `<svg>`. It has no colour, font or size of a font of its own.

use std::convert::Infallible;
use std::fmt::Write as _;

use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor, ShapeStyle};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
};

/// Drawing is in tenths of a pixel: plotters' backends have whole numbers only.
pub(super) const TENTHS: u32 = 10;
/// Height of a label, as in the style sheet.
pub(super) const LABEL_SIZE: u32 = 118;

/// What something is drawn as: a class of the style sheet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// A line at a tick, the axis of zero.
    Grid,
    /// Days without a snapshot.
    Gap,
    /// Labels.
    Label,
    /// What the chart is about.
    Line,
    /// What came.
    Added,
    /// What went.
    Removed,
    /// Ranks, the worst first; the last is for what has no rank.
    Rank(u8),
}

/// Ranks with a class of their own.
pub const NUM_RANKS: u8 = 6;

impl Ink {
    const PLAIN: [(Self, &'static str); 6] = [
        (Self::Grid, "grid"),
        (Self::Gap, "gap"),
        (Self::Label, "label"),
        (Self::Line, "line"),
        (Self::Added, "added"),
        (Self::Removed, "removed"),
    ];
    const RANKS: [&'static str; NUM_RANKS as usize] = ["r0", "r1", "r2", "r3", "r4", "r5"];

    /// Returns the class.
    pub fn class(self) -> &'static str {
        match self {
            Self::Rank(rank) => Self::RANKS[usize::from(rank.min(NUM_RANKS - 1))],
            _ => Self::PLAIN.iter().find(|(ink, _)| *ink == self).map_or("", |(_, class)| class),
        }
    }

    /// Plotters hands on a colour only: a number that stands for the class.
    pub(super) fn color(self) -> RGBColor {
        if let Self::Rank(rank) = self {
            return RGBColor(1, 0, rank.min(NUM_RANKS - 1));
        }
        let at = (0..).zip(Self::PLAIN).find(|(_, (ink, _))| *ink == self);
        RGBColor(0, 0, at.map_or(0, |(at, _)| at))
    }

    fn of(color: BackendColor) -> &'static str {
        match color.rgb {
            (1, _, rank) => Self::Rank(rank).class(),
            (_, _, plain) => Self::PLAIN.get(usize::from(plain)).map_or("", |(_, class)| class),
        }
    }

    pub(super) fn filled(self) -> ShapeStyle {
        self.color().filled()
    }

    pub(super) fn stroked(self) -> ShapeStyle {
        Color::stroke_width(&self.color(), 1)
    }
}

/// Returns text for an element or attribute.
pub(super) fn escaped(text: &str) -> String {
    match askama::filters::escape(text, askama::filters::Html) {
        Ok(escaped) => escaped.to_string(),
        Err(never) => match never {},
    }
}

/// An `<svg>` in the making.
#[derive(Debug)]
pub struct Svg<'a> {
    out: &'a mut String,
    size: (u32, u32),
}

type Drawn = Result<(), DrawingErrorKind<Infallible>>;

impl<'a> Svg<'a> {
    /// Begins a picture of a size in pixels.
    pub fn new(out: &'a mut String, (width, height): (u32, u32)) -> Self {
        Self { out, size: (width * TENTHS, height * TENTHS) }
    }

    fn path(
        &mut self,
        points: impl IntoIterator<Item = BackendCoord>,
        class: &str,
        kind: &str,
        is_closed: bool,
    ) {
        let mut points = points.into_iter();
        let Some(first) = points.next() else { return };
        let _ = write!(self.out, "<path class=\"{class} {kind}\" d=\"M{} {}", first.0, first.1);
        let mut at = first;
        for point in points {
            // Relative coordinates have fewer digits.
            let _ = match (point.0 - at.0, point.1 - at.1) {
                (0, 0) => Ok(()),
                (dx, 0) => write!(self.out, "h{dx}"),
                (0, dy) => write!(self.out, "v{dy}"),
                (dx, dy) => write!(self.out, "l{dx} {dy}"),
            };
            at = point;
        }
        self.out.push_str(if is_closed { "z\"/>" } else { "\"/>" });
    }
}

impl DrawingBackend for Svg<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Drawn {
        Ok(())
    }

    fn present(&mut self) -> Drawn {
        Ok(())
    }

    /// Nothing is drawn by pixels.
    fn draw_pixel(&mut self, _: BackendCoord, _: BackendColor) -> Drawn {
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Drawn {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, a: BackendCoord, b: BackendCoord, style: &S, _: bool) -> Drawn {
        let class = Ink::of(style.color());
        let (x, y) = (a.0.min(b.0), a.1.min(b.1));
        let (width, height) = ((a.0 - b.0).abs().max(1), (a.1 - b.1).abs().max(1));
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>"
        );
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Drawn {
        // Plotters draws an axis that is not wanted without a colour.
        if style.color().alpha > 0.0 {
            self.path(path, Ink::of(style.color()), "stroke", false);
        }
        Ok(())
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, _: bool) -> Drawn {
        let class = Ink::of(style.color());
        let _ =
            write!(self.out, "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{radius}\"/>", at.0, at.1);
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        vert: I,
        style: &S,
    ) -> Drawn {
        self.path(vert, Ink::of(style.color()), "fill", true);
        Ok(())
    }

    fn draw_text<T: BackendTextStyle>(&mut self, text: &str, style: &T, pos: BackendCoord) -> Drawn {
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        // The page's font is not known here: a capital letter is 0.7 high.
        let y = f64::from(pos.1)
            + style.size()
                * match style.anchor().v_pos {
                    VPos::Top => 0.8,
                    VPos::Center => 0.35,
                    VPos::Bottom => 0.0,
                };
        let class = Ink::of(style.color());
        let text = escaped(text);
        let _ = write!(
            self.out,
            "<text class=\"{class}\" x=\"{}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{text}</text>",
            pos.0
        );
        Ok(())
    }

    fn estimate_text_size<T: BackendTextStyle>(
        &self,
        text: &str,
        _: &T,
    ) -> Result<(u32, u32), DrawingErrorKind<Infallible>> {
        // The page's font is not known here; plotters centres by it and nothing else.
        let size = LABEL_SIZE;
        let num_chars = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Ok((num_chars.saturating_mul(size * 5 / 9), size))
    }
}
