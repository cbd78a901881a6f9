//! SVG to PNG, with the fonts that the pictures are set in.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::ChartError;

/// Inter, regular and semi-bold, cut down to what figures need (assets/inter, SIL Open Font
/// License): pictures look the same on a machine without any font.
pub const FONTS: [(u16, &[u8]); 2] = [
    (400, include_bytes!("../../assets/inter/inter-400.ttf")),
    (600, include_bytes!("../../assets/inter/inter-600.ttf")),
];

/// Pixels for each CSS px: sharp on paper and on dense screens.
const DENSITY: f32 = 2.0;

static OPTIONS: LazyLock<Options<'static>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    for (_, font) in FONTS {
        fonts.load_font_data(font.to_vec());
    }
    Options { fontdb: Arc::new(fonts), font_family: "Inter".to_owned(), ..Options::default() }
});

/// Renders an SVG document on white.
///
/// # Errors
/// A document that is none, or one without a size.
pub fn render(svg: &str) -> Result<Vec<u8>, ChartError> {
    let tree = Tree::from_str(svg, &OPTIONS).map_err(|error| ChartError(error.to_string()))?;
    let size = tree.size();
    let px = |length: f32| (length * DENSITY).round() as u32;
    let mut picture = Pixmap::new(px(size.width()), px(size.height()))
        .ok_or_else(|| ChartError("a picture of no size".to_owned()))?;
    picture.fill(resvg::tiny_skia::Color::WHITE);
    resvg::render(&tree, Transform::from_scale(DENSITY, DENSITY), &mut picture.as_mut());
    picture.encode_png().map_err(|error| ChartError(error.to_string()))
}
